# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The execution environment: what ansible-builder makes of its definition, and what is in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "ee"
PYTHON = ROOT / ".cache" / "venv-ee" / "bin" / "python"


def named(requirements: Path) -> set[str]:
    """The packages that a file names, as pip writes them."""
    found = re.findall(r"^([A-Za-z][\w.-]*)", requirements.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-") for name in found}


def test_the_context_builds_a_runner_with_this_collection():
    container = (BUILT / "context" / "Containerfile").read_text()
    assert re.search(r'ANSIBLE_INSTALL_REFS="ansible-core>=2\.19.* ansible-runner', container)
    assert 'PYCMD="/usr/bin/python3.12"' in container
    assert "ansible-galaxy collection install" in container
    wanted = yaml.safe_load((BUILT / "context/_build/requirements.yml").read_text())
    assert [each["name"] for each in wanted["collections"]] == ["kubeferry.pvc"]


def test_the_system_gets_rsync_and_nothing_that_is_not_needed():
    lines = (BUILT / "bindep.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["rsync"]


def test_each_package_of_ours_is_found():
    assert named(BUILT / "requirements.txt") >= named(ROOT / "meta/ee-requirements.txt") - {"pyyaml"}


def test_the_event_server_needs_no_more_than_what_the_environment_has():
    assert named(ROOT / "roles/event_server/files/requirements.txt") <= named(
        ROOT / "meta/ee-requirements.txt"
    )
    files = ROOT / "roles" / "event_server" / "files"
    command = [PYTHON, "-m", "kubeferry_events", "--help"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(files)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_package_of_the_tests_is_in_it():
    done = subprocess.run(
        [PYTHON, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    has = {line.partition("==")[0].lower() for line in done.stdout.splitlines()}
    assert {"ansible-core", "ansible-runner", "kubernetes"} <= has
    assert not has & {"pytest", "molecule", "hypothesis", "playwright", "awxkit"}
