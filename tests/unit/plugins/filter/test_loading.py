# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Ansible loads all filters of a collection in the process of each task that uses one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.kubeferry.pvc.plugins import filter as package

NAMES = sorted(path.stem for path in Path(next(iter(package.__path__))).glob("[a-z]*.py"))
LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module("ansible_collections.kubeferry.pvc.plugins.filter." + name)
print(*sorted({name.partition(".")[0] for name in sys.modules}), sep="\\n")
"""


def test_no_filter_brings_in_a_package_that_takes_long_to_load():
    assert {"endpoint", "lines", "plan_summary"} <= set(NAMES)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, *NAMES], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "ansible_collections" in loaded
    assert not {"kubernetes", "urllib3", "yaml", "websocket"} & set(loaded)
