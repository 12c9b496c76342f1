# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A variable of a playbook that is given, and holds something that isn't defined, is no variable that isn't given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def play(playbook, tmp_path):
    """Runs a playbook of the collection between two directories, the first of which holds a file."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "10").write_text("ten\n")

    def run(name: str, *arguments: str, **variables: object):
        both = {"source_path": str(tmp_path / "source"), "target_path": str(tmp_path / "target"), **variables}
        return playbook(name, *arguments, seconds=120, variables=both)

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


FORMS = [
    shlex.split(each)
    for row in re.findall(r"^\| `files`.*$", README.read_text(), re.MULTILINE)
    for each in re.findall(r"`(-e .+?)`", row)
]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("arguments", FORMS, ids=" ".join)
def test_each_form_of_a_list_that_the_readme_has_for_a_shell_names_every_file(play, tmp_path, arguments):
    (tmp_path / "source" / "a").mkdir()
    for name in ("a/11", "a/51"):
        (tmp_path / "source" / name).write_text("one of them\n")
    done = play("copy", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    target = tmp_path / "target"
    assert {str(each.relative_to(target)) for each in target.rglob("*") if each.is_file()} == {"10", "a/11"}


def test_the_readme_has_both_forms():
    assert len(FORMS) == 2
