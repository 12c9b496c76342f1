# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A tool at an end that is killed, or fails, never makes a part of a tree look like the whole."""

from __future__ import annotations

import os
import random
import shutil
import time

import engine
import pytest
from toolbox import Box
from trees import snapshot, write

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ConnectionLost,
    EndpointError,
    KubeferryError,
)

# Each stands in for a tool: `$REAL` is the true one.
KILLED_AT_ONCE = "kill -9 $$"
KILLED_IN_THE_MIDDLE = '$REAL "$@" | head -c 60; kill -9 $$'
SILENT = '$REAL "$@" | head -c 60; exit 1'
COMPLAINS = '$REAL "$@"; echo "${0##*/}: x: Input/output error" >&2; exit 1'
HALVED = "head -c 200; kill -9 $$"


@pytest.fixture
def tree(tmp_path):
    for number in range(30):
        write(tmp_path / "source", f"directory/{number}", b"content")
    os.setxattr(tmp_path / "source" / "directory" / "7", b"user.kept", b"value")
    return tmp_path / "source"


@pytest.fixture
def shimmed(tmp_path):
    """A box of which one tool is a script. With `once`, it is the true tool from the second call on."""

    def make(tool, script, once=False):
        box = Box(str(tmp_path / "box"), "gnu", without=[tool])
        real = shutil.which(tool)
        path = tmp_path / "box" / tool
        used = tmp_path / "used"
        first = f'if [ -e {used} ]; then exec {real} "$@"; fi; : >{used}\n' if once else ""
        probed = 'if [ "$1" = --version ]; then exec $REAL "$@"; fi\n'
        path.write_text(f"#!/bin/sh\nREAL={real}\n{probed}{first}{script}\n")
        path.chmod(0o755)
        return box

    return make


@pytest.mark.parametrize(
    ("tool", "script"),
    [
        ("find", KILLED_AT_ONCE),
        ("find", KILLED_IN_THE_MIDDLE),
        ("find", SILENT),
        ("find", COMPLAINS),
        ("xargs", KILLED_AT_ONCE),
        ("xargs", KILLED_IN_THE_MIDDLE),
        ("head", KILLED_AT_ONCE),
        ("dd", HALVED),
        ("getfattr", KILLED_AT_ONCE),
        ("getfattr", "exit 1"),
        ("getfattr", COMPLAINS),
    ],
)
def test_a_tool_that_always_fails_is_a_failure(tree, shimmed, tmp_path, tool, script):
    source = engine.shell(shimmed(tool, script), tree)
    with pytest.raises(KubeferryError) as caught:
        engine.copy(source, engine.local(tmp_path / "target"), retries=1)
    assert isinstance(caught.value, ConnectionLost | EndpointError)
    assert not (tmp_path / "target" / "directory").exists()


@pytest.mark.parametrize("tool", ["find", "xargs", "head", "getfattr"])
def test_a_tool_that_is_killed_once_costs_an_attempt(tree, shimmed, tmp_path, tool):
    source = engine.shell(shimmed(tool, KILLED_IN_THE_MIDDLE, once=True), tree)
    outcome = engine.copy(source, engine.local(tmp_path / "target"))
    assert engine.whole(outcome)
    assert outcome.retries == 1
    assert snapshot(tree) == snapshot(tmp_path / "target")


@pytest.mark.parametrize("size", [40_000, 3_000_000])
def test_a_tar_that_ends_in_the_middle_of_a_file_costs_an_attempt_at_once(shimmed, tmp_path, size):
    """BusyBox's does, of a file that has shrunk. The script goes on, and waits for an answer."""
    content = random.Random(1).randbytes(size)
    write(tmp_path / "source", "a", content)
    write(tmp_path / "source", "b", b"b")
    source = engine.shell(
        shimmed("tar", f'$REAL "$@" | head -c {size - 100}; exit 1', once=True), tmp_path / "source"
    )
    began = time.monotonic()
    outcome = engine.copy(source, engine.local(tmp_path / "target"))
    assert time.monotonic() - began < 60
    assert engine.whole(outcome)
    assert outcome.retries == 1
    assert outcome.trouble == ["a, b did not arrive whole"]
    assert snapshot(tmp_path / "source") == snapshot(tmp_path / "target")


def test_nothing_is_deleted_for_what_a_walk_did_not_see(tree, shimmed, tmp_path):
    engine.copy(engine.local(tree), engine.local(tmp_path / "target"))
    before = snapshot(tmp_path / "target")
    source = engine.shell(shimmed("find", KILLED_IN_THE_MIDDLE), tree)
    with pytest.raises(ConnectionLost):
        engine.copy(source, engine.local(tmp_path / "target"), delete=True, retries=1)
    assert snapshot(tmp_path / "target") == before


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("kind", ["busybox", "gnu"])
def test_a_list_that_was_cut_in_the_middle_of_a_name_is_not_acted_upon(tmp_path, kind, count):
    """The beginning of each name that is to be removed is the name of a file that is to stay."""
    for number in range(400):
        for name in (f"{number:06}", f"{number:06}.tmp"):
            write(tmp_path / "target", f"directory/{name}", name.encode())
    write(tmp_path / "source", "directory/new", b"new")
    box = Box(str(tmp_path / "box"), kind, without=["cat"])
    cat, tr, sed, head = (shutil.which(tool) for tool in ("cat", "tr", "sed", "head"))
    script = tmp_path / "box" / "cat"
    script.write_text(
        f"#!/bin/sh\ncase $1 in *.rm) if [ ! -e {tmp_path}/used ]; then : >{tmp_path}/used\n"
        f"{tr} '\\000' '\\n' <$1 | {sed} -n '1,{count}p' | {sed} '$s/[.]tmp//' | {tr} '\\n' '\\000' | {head} -c -1\n"
        f'kill -9 $$; fi ;;\nesac\nexec {cat} "$@"\n'
    )
    script.chmod(0o755)
    target = engine.shell(box, tmp_path / "target")
    outcome = engine.copy(engine.local(tmp_path / "source"), target, exclude=["[0-9]" * 6], delete=True)
    assert (tmp_path / "used").exists()
    assert sorted(os.listdir(tmp_path / "target" / "directory")) == [
        *(f"{number:06}" for number in range(400)),
        "new",
    ]
    assert engine.whole(outcome)
    assert outcome.retries == 1
    assert "was killed" in outcome.trouble[0]


@pytest.mark.parametrize("tool", ["mv", "chmod", "tar", "xargs"])
def test_a_step_at_the_target_that_is_killed_costs_an_attempt(tree, shimmed, tmp_path, tool):
    write(tmp_path / "target", "directory/7/old", b"old")
    target = engine.shell(shimmed(tool, KILLED_AT_ONCE, once=True), tmp_path / "target")
    outcome = engine.copy(engine.local(tree), target, delete=True)
    assert engine.whole(outcome)
    assert (tmp_path / "used").exists()
    assert snapshot(tree) == snapshot(tmp_path / "target")


def test_of_what_was_received_before_nothing_is_taken_up_by_a_name_that_was_cut(tmp_path):
    content = random.Random(1).randbytes(5 << 20)
    write(tmp_path / "source", "directory/image.new", content)
    for name in ("image", "image.new"):
        write(tmp_path / "target", f".kubeferry/run-dead/tree/directory/{name}", content[: 9 << 19])
    box = Box(str(tmp_path / "box"), "gnu", without=["head"])
    head, grep, cat = (shutil.which(tool) for tool in ("head", "grep", "cat"))
    script = tmp_path / "box" / "head"
    script.write_text(
        f'#!/bin/sh\n{head} "$@" >{tmp_path}/names\n'
        f"if {grep} -q image.new {tmp_path}/names && [ ! -e {tmp_path}/used ]; then\n"
        f": >{tmp_path}/used; printf ./directory/image; kill -9 $$\nfi\n{cat} {tmp_path}/names\n"
    )
    script.chmod(0o755)
    outcome = engine.copy(engine.local(tmp_path / "source"), engine.shell(box, tmp_path / "target"))
    assert (tmp_path / "used").exists()
    assert engine.whole(outcome)
    assert os.listdir(tmp_path / "target" / "directory") == ["image.new"]
