# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What README promises and nothing else would notice to be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_printed_roles_are_those_that_the_tests_use():
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    roles = [yaml.safe_load(block) for block in blocks if "kind: Role\n" in block]
    manifests = ROOT / "tests" / "cluster" / "manifests"
    used = [yaml.safe_load((manifests / f"{name}-role.yaml").read_text()) for name in ("copier", "migrator")]
    assert roles == used
