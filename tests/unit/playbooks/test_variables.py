# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A variable of a playbook that is given, and holds something that isn't defined, is no variable that isn't given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def play(tmp_path):
    """Runs a playbook of the collection between two directories, the first of which holds a file."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "10").write_text("ten\n")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "src"),
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }

    def run(name: str, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
        both = {"source_path": str(tmp_path / "source"), "target_path": str(tmp_path / "target"), **variables}
        command = [Path(sys.executable).with_name("ansible-playbook"), f"kubeferry.pvc.{name}", *arguments]
        return subprocess.run(
            [*command, "-e", json.dumps(both)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("copy", "files"),
        ("copy", "max_retries"),
        ("verify", "files"),
        ("verify", "report"),
        ("event_server", "event_server_hosts"),
        ("migrate", "migrate_hosts"),
        ("plan", "migrate_hosts"),
        ("restore", "migrate_hosts"),
    ],
)
def test_what_is_undefined_inside_a_variable_is_an_error(play, tmp_path, name, variable):
    done = play(name, "-i", "localhost,", **{variable: "{{ mistyped }}"})
    assert done.returncode != 0
    assert "'mistyped' is undefined" in done.stdout + done.stderr
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.timeout(150)
def test_what_is_empty_counts_as_not_given(play, tmp_path):
    done = play("copy", files="", include=None, delete="", max_retries=None, staging="", report=None)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "target" / "10").read_text() == "ten\n"
    assert (tmp_path / "pvc-files" / "report.json").exists()
