# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What README promises and nothing else would notice to be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_printed_role_is_the_one_that_the_tests_copy_with():
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    roles = [yaml.safe_load(block) for block in blocks if "kind: Role\n" in block]
    assert roles == [yaml.safe_load((ROOT / "tests/cluster/manifests/copier-role.yaml").read_text())]
