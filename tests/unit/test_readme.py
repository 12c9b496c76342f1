# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the documentation promises and nothing else would notice to be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def roles_of_readme() -> list[object]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return [yaml.safe_load(block) for block in blocks if "kind: Role\n" in block]


def roles_of_guide() -> list[object]:
    text = (ROOT / "docs/docsite/rst/rbac.rst").read_text()
    blocks = re.findall(r"^\.\. code-block:: yaml\n  :caption: .*\n\n((?:  .*\n|\n)+)", text, re.MULTILINE)
    return [yaml.safe_load(block) for block in blocks]


@pytest.mark.parametrize("roles", [roles_of_readme(), roles_of_guide()], ids=["README", "guide"])
def test_the_printed_roles_are_those_that_the_tests_use(roles):
    manifests = ROOT / "tests" / "cluster" / "manifests"
    used = [yaml.safe_load((manifests / f"{name}-role.yaml").read_text()) for name in ("copier", "migrator")]
    assert roles == used
