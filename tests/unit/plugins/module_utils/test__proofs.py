# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was proven is known again, and only for as long as nothing was touched."""

from __future__ import annotations

import mmap
import os
import time

import engine
import pytest
from toolbox import Box, found
from trees import plant, snapshot, write

from ansible_collections.kubeferry.pvc.plugins.module_utils._local_attributes import LocalAttributes
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._look import Look
from ansible_collections.kubeferry.pvc.plugins.module_utils._proofs import Proof, Proofs, directory, key
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree

ENDS = [("local", "local"), ("busybox", "local"), ("local", "busybox"), ("gnu", "busybox")]


class Pair:
    """Two planted trees that were copied, old enough that any change shows, and what a copy does to them now."""

    def __init__(self, boxes, place, kinds):
        self.boxes, self.kinds = boxes, kinds
        self.source, self.target, self.proofs = place / "source", place / "target", str(place / "proofs")
        self.target.mkdir()

    def end(self, kind, path):
        return engine.end(self.boxes, kind, path)

    def copy(self, **options):
        source, target = self.end(self.kinds[0], self.source), self.end(self.kinds[1], self.target)
        return engine.copy(source, target, **{"proofs": self.proofs, **options})


@pytest.fixture
def pair(request, boxes, tmp_path):
    made = Pair(boxes, tmp_path, request.param)
    write(made.source, "d/one", b"first")
    write(made.source, "two", b"second")
    os.symlink("two", made.source / "link")
    time.sleep(0.05)
    return made


def of(kinds):
    return pytest.mark.parametrize("pair", kinds, ids="-".join, indirect=True)


@of(ENDS)
def test_a_second_run_reads_nothing(pair):
    first = pair.copy()
    second = pair.copy()
    assert (first.proven, second.proven is not None) == (None, True)
    assert (second.parity.matched, second.files, second.bytes) == (first.parity.matched, 2, 11)
    assert (bool(second.plan), engine.whole(second)) == (False, True)
    assert pair.copy(proofs=None).proven is None
    assert pair.copy(check=True).proven is not None


@of(ENDS)
@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("what", ["content", "mode", "new", "gone", "link", "xattr", "moved"])
def test_whatever_is_touched_is_seen(pair, side, what):
    pair.copy()
    root = getattr(pair, side)
    status = (root / "two").stat()
    if what == "content":  # with the size and the time that it had
        (root / "two").write_bytes(b"SECOND")
        os.utime(root / "two", ns=(status.st_atime_ns, status.st_mtime_ns))
    elif what == "mode":
        (root / "two").chmod(0o600)
    elif what == "new":
        write(root, "d/new", b"")
    elif what == "gone":
        (root / "d" / "one").unlink()
    elif what == "link":
        (root / "link").unlink()
        os.symlink("one", root / "link")
    elif what == "xattr":
        os.setxattr(root / "two", "user.x", b"y")
    else:
        (root / "d").rename(root / "e")
    assert pair.copy().proven is None


@of([("local", "local")])
def test_a_proof_is_of_one_selection_and_one_set_of_options(pair):
    pair.copy()
    for options in ({"files": ["two"]}, {"exclude": ["two"]}, {"checksum": "md5"}, {"metadata": "ignore"}):
        assert pair.copy(**options).proven is None
        assert pair.copy(**options).proven is not None
    assert pair.copy(delete=True).proven is None


@of([("local", "local")])
def test_what_only_the_target_has_is_still_told(pair):
    write(pair.target, "mine", b"x")
    time.sleep(0.05)
    pair.copy()
    second = pair.copy()
    assert (second.proven is not None, second.parity.extra) == (True, ["mine"])


@of([("local", "local")])
def test_nothing_is_proven_by_a_copy_that_is_not_whole(pair, monkeypatch):
    monkeypatch.setattr(LocalAttributes, "mode", lambda self, entry: 0o640)
    (pair.source / "two").chmod(0o604)
    time.sleep(0.05)
    assert not engine.whole(pair.copy(metadata="report"))
    assert not os.path.exists(pair.proofs)


@of([("local", "local")])
def test_what_was_changed_just_before_the_walk_is_not_proven(pair, monkeypatch):
    pair.copy()
    os.utime(pair.source / "d")
    unsettled = []
    monkeypatch.setattr(Look, "settled", property(lambda self: unsettled.append(self) or False))
    assert pair.copy().proven is None
    assert unsettled
    assert pair.copy().proven is None


def test_a_look_is_settled_when_nothing_is_too_fresh():
    look = Look()
    assert not look.settled
    look.begin(5_000_000_000, 2, 64)
    look.begin(9_000_000_000, 2, 64)
    look.changed(4_900_000_000)
    assert look.settled
    look.changed(4_990_000_000)
    assert not look.settled
    coarse = Look()
    coarse.begin(5_000_000_000, 2, 64)
    coarse.changed(2_000_000_000)
    assert coarse.settled
    coarse.changed(3_000_000_000)
    assert not coarse.settled


WHOLE_SECONDS = r"""#!/bin/sh
case "$*" in */proc/*) exec {stat} "$@" ;; esac
{stat} "$@" | {sed} 's/\.[0-9]\{{9\}}/.000000000/g'
"""
"""A stat as over a file system that keeps whole seconds: it prints nine digits all the same."""


@pytest.mark.parametrize("when", ["between two runs", "within a run"])
def test_a_file_is_written_twice_in_a_second_and_keeps_no_more(tmp_path, monkeypatch, when):
    box = Box(str(tmp_path / "box"), "gnu")
    os.unlink(f"{box.place}/stat")
    script = WHOLE_SECONDS.format(stat=found("stat", "coreutils"), sed=found("sed", "sed"))
    write(box.place, "stat", script.encode(), 0o755)
    apply, todo = LocalTree.apply, []

    def apply_and_write(*given):
        apply(*given)
        while todo:
            todo.pop()()

    monkeypatch.setattr(LocalTree, "apply", apply_and_write)
    for attempt in range(20):
        place = tmp_path / str(attempt)
        time.sleep(1 - time.time() % 1)
        write(place / "source", "file", b"first content", mtime=10**18)
        begun = (place / "source/file").stat().st_ctime

        def again(place=place):
            write(place / "source", "file", b"OTHER CONTENT", mtime=10**18)

        def copy(place=place):
            ends = engine.shell(box, place / "source"), engine.local(place / "target")
            return engine.copy(*ends, proofs=str(place / "proofs"))

        if when == "within a run":
            todo.append(again)
        assert engine.whole(copy())
        if when == "between two runs":
            again()
            assert engine.whole(copy())
        assert (place / "target/file").read_bytes() == b"OTHER CONTENT"
        if int((place / "source/file").stat().st_ctime) == int(begun):
            return
    raise AssertionError("the machine is too slow for two writes within a second")


def test_the_staging_manifest_is_a_part_of_the_tree(tmp_path):
    source, staging, manifest = tmp_path / "s", tmp_path / "staging", tmp_path / "m.jsonl"
    plant(source)
    time.sleep(0.05)

    def copy():
        tree = engine.staged(staging, manifest, as_source=False)
        return engine.copy(engine.local(source), tree, proofs=str(tmp_path / "proofs"))

    copy()
    assert copy().proven is not None
    manifest.unlink()
    assert copy().proven is None
    assert engine.whole(copy())


def test_damaged_and_missing_proofs_count_as_none(tmp_path):
    proofs = Proofs(str(tmp_path))
    assert not proofs.about("")
    proof = Proof(1.5, 3, 2, 11, ["x"])
    proofs.keep(key("a", "b"), proof)
    assert proofs.about("")
    assert proofs.find(key("a", "b")) == proof
    assert proofs.find(key("a b")) is None
    (tmp_path / key("a", "b")).write_text('{"when": 1}')
    assert proofs.find(key("a", "b")) is None
    Proofs("/dev/null/x").keep("a", proof)
    assert not Proofs(None).about("")


def test_only_the_newest_proofs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("ansible_collections.kubeferry.pvc.plugins.module_utils._proofs.KEPT", 3)
    for number in range(6):
        Proofs(str(tmp_path)).keep(f"p{number}", Proof(0, 0, 0, 0, []))
        os.utime(tmp_path / f"p{number}", (number, number))
    assert sorted(os.listdir(tmp_path)) == ["p3", "p4", "p5"]


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"HOME": "/home/u"}, "/home/u/.cache/kubeferry/proofs"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "/c"}, "/c/kubeferry/proofs"),
        ({"XDG_CACHE_HOME": "relative"}, None),
        ({}, None),
    ],
)
def test_the_place_follows_the_standard(monkeypatch, environment, place):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert directory() == place


class Counted(LocalTree):
    """A source that counts its scans, and in which something is touched after the first one if asked."""

    scans = 0
    touch = staticmethod(lambda: None)

    def scan(self, selection, store=None, *, xattrs=True):
        self.scans += 1
        return super().scan(selection, store, xattrs=xattrs)

    def read(self, entries):
        self.touch()
        yield from super().read(entries)


@pytest.mark.parametrize(
    ("touched", "scans"), [(None, 1), ("one", 2), ("new", 2)], ids=["at rest", "changed", "new"]
)
def test_a_source_is_scanned_again_only_where_something_was_touched(tmp_path, touched, scans):
    write(tmp_path / "source", "one", b"first")
    write(tmp_path / "source", "two", b"other")
    status = (tmp_path / "source/one").stat()
    time.sleep(0.05)
    tree = Counted(str(tmp_path / "source"), engine.progress())

    def touch():
        if touched and not (tmp_path / "touched").exists():
            (tmp_path / "touched").touch()
            write(tmp_path / "source", touched, b"FIRST")
            os.utime(tmp_path / "source" / touched, ns=(status.st_atime_ns, status.st_mtime_ns))

    tree.touch = touch
    outcome = engine.copy(tree, engine.local(tmp_path / "target"), retries=2)
    assert engine.whole(outcome)
    assert snapshot(tmp_path / "target") == snapshot(tmp_path / "source")
    assert tree.scans >= scans if touched else tree.scans == scans


class Asked(list):
    """The paths whose digests the tree `of` was asked for."""

    of = None


@pytest.fixture
def asked(monkeypatch):
    found = Asked()

    def noting(answered):
        def digests(self, paths, checksum):
            if self is found.of:
                found.extend(paths)
            return answered(self, paths, checksum)

        return digests

    for tree in (LocalTree, ShellTree):
        monkeypatch.setattr(tree, "digests", noting(tree.digests))
    return found


@pytest.mark.parametrize("kind", ["local", "gnu"])
def test_what_came_with_a_new_directory_is_read_again_in_a_pod(boxes, tmp_path, kind, asked):
    """On this machine it isn't. Also with times before 1970 and beyond 64 bits' worth of nanoseconds."""
    for name, mtime in {"a": -1_500_000_000, "b": 10 * 10**9 + 5, "c": 10**9 * 10_000_000_000}.items():
        write(tmp_path / "source", f"new/{name}", b"content of " + name.encode(), mtime=mtime)
    write(tmp_path / "source", "by-itself", b"content")
    target = (
        engine.local(tmp_path / "target")
        if kind == "local"
        else engine.shell(boxes[kind], tmp_path / "target")
    )
    (tmp_path / "target").mkdir()
    asked.of = target
    assert engine.whole(engine.copy(engine.local(tmp_path / "source"), target), "report")
    assert asked == [b"by-itself", *([] if kind == "local" else [b"new/a", b"new/b", b"new/c"])]


@pytest.mark.parametrize("kind", ["local", "gnu", "busybox"])
@pytest.mark.parametrize("name", ["new/file", "file"])
def test_what_is_changed_right_after_it_was_placed_is_noticed(boxes, tmp_path, kind, name, monkeypatch):
    """Somebody writes into a file as soon as it has its name, and sets back its time."""
    write(tmp_path / "source", name, b"content", mtime=10**18)
    target = (
        engine.local(tmp_path / "target")
        if kind == "local"
        else engine.shell(boxes[kind], tmp_path / "target")
    )
    (tmp_path / "target").mkdir()
    apply = type(target).apply
    hits = iter(range(1))

    def meddle(self, changes):
        apply(self, changes)
        path = tmp_path / "target" / name
        if path.exists() and next(hits, None) is not None:
            path.write_bytes(b"CONTENT")
            os.utime(path, ns=(10**18, 10**18))

    monkeypatch.setattr(type(target), "apply", meddle)
    outcome = engine.copy(engine.local(tmp_path / "source"), target)
    assert outcome.retries == 1
    assert engine.whole(outcome)
    assert (tmp_path / "target" / name).read_bytes() == b"content"


@pytest.mark.parametrize("kinds", ENDS)
def test_directories_that_are_swapped_while_it_copies_and_swapped_back(boxes, tmp_path, kinds, monkeypatch):
    """Their files have the same names, sizes and times, so nothing but the directories shows what happened."""
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("d1", "d2"):
        for number in range(5):
            write(source, f"{name}/{number}", b"content of " + name.encode(), mtime=10**18)
    target.mkdir()
    time.sleep(0.05)

    def swap():
        (source / "d1").rename(source / "d3")
        (source / "d2").rename(source / "d1")
        (source / "d3").rename(source / "d2")

    ends = [engine.end(boxes, kind, path) for kind, path in zip(kinds, (source, target), strict=True)]
    begin, apply = type(ends[1]).begin, type(ends[1]).apply
    left = [swap, swap]

    def begin_and_swap(self):
        begin(self)
        if len(left) == 2:
            left.pop()()

    def apply_and_swap(self, changes):
        apply(self, changes)
        if len(left) == 1:
            left.pop()()

    monkeypatch.setattr(type(ends[1]), "begin", begin_and_swap)
    monkeypatch.setattr(type(ends[1]), "apply", apply_and_swap)
    outcome = engine.copy(*ends, proofs=str(tmp_path / "proofs"))
    assert left == []
    assert engine.whole(outcome)
    for path in source.glob("*/*"):
        assert (target / path.relative_to(source)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kinds", ENDS)
def test_a_directory_that_is_replaced_while_it_is_read_and_brought_back(boxes, tmp_path, kinds, monkeypatch):
    """In the end an entry is made in it, so that its times are those of a directory in which somebody works."""
    source, target, other = (tmp_path / name for name in ("source", "target", "other"))
    write(source, "d/sub/file", b"true content", mtime=10**18)
    write(other, "sub/file", b"fake content", mtime=10**18)
    target.mkdir()
    time.sleep(0.05)
    ends = [engine.end(boxes, kind, path) for kind, path in zip(kinds, (source, target), strict=True)]
    inode = (source / "d/sub/file").stat().st_ino
    digests, begin, apply = type(ends[0]).digests, type(ends[1]).begin, type(ends[1]).apply
    swapped = []

    def begin_and_replace(self):
        begin(self)
        if not swapped:
            swapped.append(1)
            (source / "d").rename(tmp_path / "kept")
            other.rename(source / "d")

    def digests_amid(self, paths, checksum):
        """The inodes are those from before and after it."""
        for taken in digests(self, paths, checksum):
            yield taken._replace(inode=inode) if self is ends[0] else taken

    def apply_and_bring_back(self, changes):
        apply(self, changes)
        if not other.exists():
            (source / "d").rename(other)
            (tmp_path / "kept").rename(source / "d")
            write(source, "d/new", b"")
            (source / "d/new").unlink()

    monkeypatch.setattr(type(ends[1]), "begin", begin_and_replace)
    monkeypatch.setattr(type(ends[0]), "digests", digests_amid)
    monkeypatch.setattr(type(ends[1]), "apply", apply_and_bring_back)
    outcome = engine.copy(*ends, proofs=str(tmp_path / "proofs"))
    assert (swapped, other.exists()) == ([1], True)
    assert engine.whole(outcome)
    assert (target / "d/sub/file").read_bytes() == b"true content"


@pytest.mark.parametrize("kind", ["local", "gnu"])
def test_a_directory_in_which_an_entry_is_made_is_not_read_again(boxes, tmp_path, kind, asked, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, "d/sub/file", b"content", mtime=10**18)
    target.mkdir()
    time.sleep(0.05)
    tree = asked.of = engine.end(boxes, kind, source)
    begin = LocalTree.begin

    def begin_and_make(self):
        begin(self)
        if not (source / "d/new").exists():
            (source / "d/new").mkdir()

    monkeypatch.setattr(LocalTree, "begin", begin_and_make)
    outcome = engine.copy(tree, engine.local(target))
    assert asked.count(b"d/sub/file") == 1
    assert engine.whole(outcome)


def test_what_is_compared_with_better_tools_needs_a_proof_of_its_own(boxes, tmp_path):
    write(tmp_path / "source", "file", b"content", mtime=10**18 + 5)
    os.setxattr(tmp_path / "source" / "file", b"user.kept", b"value")
    (tmp_path / "target").mkdir()
    time.sleep(0.05)

    def copy(kind):
        ends = (engine.shell(boxes[kind], tmp_path / name) for name in ("source", "target"))
        return engine.copy(*ends, proofs=str(tmp_path / "proofs"))

    assert engine.whole(copy("busybox"))
    outcome = copy("gnu")
    assert outcome.proven is None
    assert engine.whole(outcome)
    assert snapshot(tmp_path / "target") == snapshot(tmp_path / "source")


def test_nothing_is_proven_of_what_may_be_written_without_a_trace(tmp_path):
    """A program that has mapped a file changes its time just once, until what it wrote is written out."""
    write(tmp_path / "source", "file", b"old content" * 1_000)
    (tmp_path / "target").mkdir()

    def copy():
        ends = (engine.local(tmp_path / name) for name in ("source", "target"))
        return engine.copy(*ends, proofs=str(tmp_path / "proofs"))

    with (tmp_path / "source" / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:3] = b"one"
        time.sleep(0.05)
        assert engine.whole(copy())
        mapped[:3] = b"two"
        assert engine.whole(copy())
        assert (tmp_path / "target" / "file").read_bytes()[:3] == b"two"
