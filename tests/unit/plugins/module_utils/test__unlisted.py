# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What can't be listed, or isn't there any more, is named: it is never taken for a part of a tree that is empty."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import engine
import pytest
from badends import LiveTree
from toolbox import Box, found
from trees import snapshot, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy
from ansible_collections.kubeferry.pvc.plugins.module_utils import _scripts as scripts
from ansible_collections.kubeferry.pvc.plugins.module_utils._complaints import Complaint, complaints
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError

KINDS = ["busybox", "gnu"]
RIGHTS = "-dac_override,-dac_read_search"
# Root in a container that has dropped the capabilities to pass over permissions, and an ordinary user.
BARE_ROOT = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")


@pytest.fixture
def tmp_path():
    """Unlike pytest's own, one that others may enter."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.fixture
def ends(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, "a.txt", b"a")
    write(source, "dir/b.txt", b"b")
    target.mkdir()
    return source, target


def someone_s(folder: Path, mode: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 1000, 1000)
    folder.chmod(mode)


@pytest.fixture
def box(tmp_path):
    """A box whose commands run by another one, and whose find may be a script."""

    def make(kind, wrapper=(), find=""):
        place = tmp_path / f"box-{kind}"
        made = Box(str(place), kind, without=["find"] if find else [], wrapper=wrapper)
        if find:
            (place / "find").write_text(f"#!/bin/sh\n{find}\n")
            (place / "find").chmod(0o755)
        place.chmod(0o755)
        return made

    return make


@pytest.mark.parametrize("wrapper", [BARE_ROOT, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delete", [False, True])
def test_a_directory_that_may_not_be_listed(ends, box, kind, wrapper, delete):
    source, target = ends
    write(target, "dir/b.txt", b"b")
    someone_s(source / "dir", 0o711)
    with pytest.raises(EndpointError, match=r"^dir in .* can't be used \(dir: permission denied\)"):
        engine.copy(engine.shell(box(kind, wrapper), source), engine.local(target), delete=delete)
    assert set(snapshot(target)) == {b".", b"dir", b"dir/b.txt"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_root_that_may_not_be_listed(ends, box, kind):
    source, target = ends
    write(target, "a.txt", b"a")
    someone_s(source, 0o711)
    with pytest.raises(EndpointError, match=r"permission denied|can't be read"):
        engine.copy(engine.shell(box(kind, BARE_ROOT), source), engine.local(target), delete=True)
    assert set(snapshot(target)) == {b".", b"a.txt"}


@pytest.mark.parametrize("include", [["*.txt"], ["a.txt", "dir/deep/**"]], ids=str)
@pytest.mark.parametrize("kind", ["local", *KINDS])
def test_what_patterns_would_choose_in_there(ends, box, kind, include):
    source, target = ends
    target.chmod(0o777)
    someone_s(source / "dir", 0o700)

    def copy():
        tree = engine.local(source) if kind == "local" else engine.shell(box(kind, NOBODY), source)
        engine.copy(tree, engine.local(target), include=include, metadata="report")

    with pytest.raises(EndpointError, match=r"^dir in .* can't be used"):
        engine.in_child(copy, uid=engine.NOBODY) if kind == "local" else copy()
    assert set(snapshot(target)) == {b"."}


@pytest.mark.parametrize("kind", ["local", *KINDS])
def test_it_can_be_excluded_and_a_second_run_still_reads_nothing(ends, box, kind, tmp_path):
    source, target = ends
    target.chmod(0o777)
    someone_s(source / "dir", 0o700)
    proofs = tmp_path / "proofs"
    proofs.mkdir()
    proofs.chmod(0o777)

    tools = None if kind == "local" else box(kind, NOBODY)

    def copy():
        tree = engine.shell(tools, source) if tools else engine.local(source)
        options = {"exclude": ["dir"], "metadata": "ignore", "proofs": str(proofs)}
        return engine.copy(tree, engine.local(target), **options).proven

    def run():
        return copy() if tools else engine.in_child(copy, uid=engine.NOBODY)

    assert run() is None
    deadline = time.monotonic() + 30
    while run() is None:
        assert time.monotonic() < deadline
    assert sorted(os.listdir(target)) == ["a.txt"]


def test_a_file_that_only_an_access_control_list_opens_is_read(ends, box):
    source, target = ends
    (source / "a.txt").chmod(0o600)
    subprocess.run(["setfacl", "-m", "u:65534:r", source / "a.txt"], check=True, timeout=20)
    outcome = engine.copy(
        engine.shell(box("busybox", NOBODY), source), engine.local(target), metadata="ignore"
    )
    assert engine.whole(outcome, "ignore")
    assert (target / "a.txt").read_bytes() == b"a"


@pytest.mark.parametrize("kind", ["local", *KINDS])
@pytest.mark.parametrize(
    ("name", "delete", "fine"),
    [("dir", True, False), ("private", True, False), ("private", False, True), ("lost+found", True, True)],
)
def test_what_may_not_be_listed_at_the_target(ends, box, kind, name, delete, fine):
    """It matters where the source has something there, or where what only the target has would count."""
    source, target = ends
    write(target, f"{name}/b.txt", b"b", mtime=os.stat(source / "dir/b.txt").st_mtime_ns)
    for path in (source, *source.rglob("*"), target):
        os.chown(path, engine.NOBODY, engine.NOBODY)
    someone_s(target / name, 0o700)
    tools = None if kind == "local" else box(kind, NOBODY)

    def copy():
        tree = engine.shell(tools, target) if tools else engine.local(target)
        outcome = engine.copy(engine.local(source), tree, delete=delete, retries=0, metadata="report")
        return engine.whole(outcome, "report"), list(outcome.parity.unreadable)

    whole, unreadable = copy() if tools else engine.in_child(copy, uid=engine.NOBODY)
    assert (whole, unreadable) == (fine, [] if fine else [name])


ONCE = "if [ ! -e {used} ]; then : >{used}; fail=1; fi"
ALWAYS = "fail=1"
WITHOUT = """
if [ -n "$fail" ]; then
  {find} "$@" | tr "\\0" "\\n" | grep -v "^./dir/" | tr "\\n" "\\0"
  echo "find: ./dir: {why}" >&2
  exit 1
fi
exec {find} "$@"
"""


@pytest.mark.parametrize("why", ["Permission denied", "No such file or directory"])
@pytest.mark.parametrize("times", [ONCE, ALWAYS], ids=["once", "always"])
def test_a_directory_that_comes_and_goes_while_it_is_listed(ends, box, tmp_path, why, times):
    source, target = ends
    script = times.format(used=tmp_path / "used") + WITHOUT.format(find=found("find", "findutils"), why=why)
    tree = engine.shell(box("gnu", find="PATH=/usr/bin:/bin; " + script), source)
    if times == ONCE:
        assert engine.whole(engine.copy(tree, engine.local(target)))
        assert unlike(source, target) == {}
    else:
        with pytest.raises(EndpointError, match=r"^dir in .* can't be used"):
            engine.copy(tree, engine.local(target))
        assert set(snapshot(target)) == {b"."}


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_without_the_files_that_were_named_is_walked_once(ends, box, kind):
    source, target = ends
    there = engine.shell(box(kind), target)
    assert engine.whole(engine.copy(engine.local(source), there, files=["dir/b.txt"]))
    asked = [argv[2] for argv in there.runner.started]
    assert asked[: asked.index(scripts.HOLD)] == [scripts.PROBE, scripts.FLUSH, scripts.SCAN, scripts.LOOK]


def test_messages_of_find():
    said = (
        b"find: ./a\nfind: b: Permission denied\n"
        b"find: './c\\nd\\'\\303\\244': No such file or directory\n"
        b"find: .: Permission denied\n"
        b"find: ./e: Input/output error\n"
        b"find: elsewhere: Permission denied\n"
    )
    known, others = complaints("find", said)
    assert known == [Complaint(b"c\nd'\xc3\xa4", False), Complaint(b".", True)]
    assert others == [
        b"find: ./a",
        b"find: b: Permission denied",
        b"find: ./e: Input/output error",
        b"find: elsewhere: Permission denied",
    ]


@pytest.mark.parametrize("kind", ["local", *KINDS])
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "gone"])
def test_a_source_that_another_directory_takes_the_place_of(ends, box, kind, there, monkeypatch):
    source, target = ends
    write(target, "dir/b.txt", b"b", mtime=os.stat(source / "dir/b.txt").st_mtime_ns)
    tree = engine.local(source) if kind == "local" else engine.shell(box(kind), source)
    move = _copy.Copy._batch

    def batch(*arguments):
        move(*arguments)
        source.rename(source.with_name("moved"))
        if there:
            source.mkdir()

    monkeypatch.setattr(_copy.Copy, "_batch", batch)
    with pytest.raises(
        EndpointError, match=r"moved away, replaced or unmounted|can't be entered|isn't there"
    ):
        engine.copy(tree, engine.local(target), delete=True)
    assert {b"a.txt", b"dir/b.txt"} <= set(snapshot(target))


def test_what_could_not_be_read_any_more_is_not_removed(ends, tmp_path):
    source, target = ends
    for number in range(3):
        write(source, f"dir/{number}", b"x")
        write(target, f"dir/{number}", b"x")
    target.chmod(0o777)
    for path in (source, *source.rglob("*"), target, *target.rglob("*")):
        os.chown(path, engine.NOBODY, engine.NOBODY)
    write(source, "live", b"x" * 1000)

    def copy():
        shut = (source / "dir").chmod
        tree = LiveTree(str(source), engine.progress(), "after read", lambda: shut(0))
        outcome = engine.copy(
            tree, engine.local(target), delete=True, on_change="report", metadata="ignore", retries=1
        )
        return engine.whole(outcome, "ignore"), outcome.parity.unreadable

    whole, unreadable = engine.in_child(copy, uid=engine.NOBODY)
    assert not whole
    assert "dir" in unreadable
    assert sorted(os.listdir(target / "dir"))[:3] == ["0", "1", "2"]
