# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What was read is known again only where a file system shows every change."""

from __future__ import annotations

import mmap
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import engine
import pytest
from toolbox import Box, found
from trees import snapshot, write

from ansible_collections.kubeferry.pvc.plugins.module_utils._copy import Copy
from ansible_collections.kubeferry.pvc.plugins.module_utils._file_system import Shown, what_shows
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._look import Look
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree

KINDS = ["local", "busybox", "gnu"]
EXT4, TMPFS, NFS = "ef53", "1021994", "6969"
FUSE, FAT, SMB, OVERLAY, UNTOLD = "65735546", "4d44", "fe534d42", "794c7630", ""
STAT = """#!/bin/sh
if [ "$1" = -f ]; then [ "{number}" ] && echo "{number}"; exit; fi
exec {stat} "$@"
"""


@pytest.fixture(autouse=True)
def on_disk():
    """An overlay is what it is, here."""


@pytest.fixture
def end(boxes, tmp_path, monkeypatch):
    """Makes a tree; its stat takes every file system for one with a `number`, if that is given."""

    def make(kind, path, number=None):
        if number is None:
            return engine.end(boxes, kind, path)
        tools = tmp_path / f"tools-{kind}"
        if kind == "local":
            tools.mkdir(exist_ok=True)
            monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        elif kind not in made:
            made[kind] = Box(str(tools), kind, without=["stat"])
        stat = (
            f"{found('busybox', 'busybox-static')} stat" if kind == "busybox" else found("stat", "coreutils")
        )
        (tools / "stat").write_text(STAT.format(number=number, stat=stat))
        (tools / "stat").chmod(0o755)
        return engine.end(made, kind, path)

    made = {}
    return make


@contextmanager
def mapped(path):
    """The file as a program has it that has mapped it."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        yield memory


def twice(end, kind, place, number):
    """Copy two times. Returns the second outcome, and how often the first one read the source's file for its digest."""
    write(place / "source", "file", b"content")
    (place / "target").mkdir()
    time.sleep(0.05)
    read = []

    def copy():
        source, target = (end(kind, place / name, number) for name in ("source", "target"))
        take = source.digests
        source.digests = lambda paths, checksum: read.extend(paths) or take(paths, checksum)
        return engine.copy(source, target, proofs=str(place / "proofs"))

    assert engine.whole(copy())
    times = len(read)
    second = copy()
    assert engine.whole(second)
    return second, times


@pytest.mark.parametrize(
    ("number", "flushed", "known"),
    [
        (EXT4, 5, Shown(5, True)),
        (EXT4, 0, Shown(0, True)),
        (NFS, 5, Shown(5, False)),
        (TMPFS, 0, Shown(0, False)),
        *((number, 5, None) for number in (FUSE, FAT, SMB, OVERLAY, UNTOLD)),
    ],
)
def test_what_the_times_of_changes_show(number, flushed, known):
    assert what_shows(number, flushed) == known


@pytest.mark.parametrize("kind", KINDS)
def test_each_end_tells_what_its_file_system_shows(end, kind, tmp_path):
    before = time.time_ns()
    told = end(kind, tmp_path, EXT4).flush()
    assert told is not None
    assert before - 20_000_000 <= told.since <= time.time_ns()
    assert end(kind, tmp_path, FUSE).flush() is None
    assert end(kind, tmp_path, UNTOLD).flush() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_system_in_memory_never_writes_out_what_is_mapped(end, kind):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        assert end(kind, place).flush() == Shown(0, False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [FUSE, FAT, SMB, OVERLAY, UNTOLD])
def test_where_times_of_changes_can_be_set_everything_is_read_again(end, kind, number, tmp_path):
    """In a later run, and at the end of the same one."""
    second, times = twice(end, kind, tmp_path, number)
    assert (second.proven, times) == (None, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_where_they_are_told_late_a_later_run_reads_again(end, kind, tmp_path):
    second, times = twice(end, kind, tmp_path, NFS)
    assert (second.proven, times) == (None, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_where_they_can_not_be_set_nothing_is_read_again(end, kind, tmp_path):
    second, times = twice(end, kind, tmp_path, EXT4)
    assert (second.proven is not None, times) == (True, 1)


def test_nothing_is_known_of_what_is_mounted_in_a_tree():
    look = Look()
    look.begin(5, 2, 64)
    look.on({64})
    look.rely(Shown(4, True))
    assert look.shown == Shown(4, True)
    look.on({64, 65})
    look.rely(Shown(4, True))
    assert look.shown is None


@pytest.fixture
def inside(tmp_path):
    """A file system in memory that is mounted in a source."""
    place = tmp_path / "source" / "cache"
    place.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "inside", place], check=False, timeout=20).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True, timeout=20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("files", [None, ["cache/queue"]], ids=["all", "by name"])
def test_a_write_through_a_mapping_in_a_mounted_file_system(end, kind, files, inside, tmp_path):
    write(inside, "queue", b"content" * 1_000)
    (tmp_path / "target").mkdir()

    def copy():
        source, target = (end(kind, tmp_path / name) for name in ("source", "target"))
        return engine.copy(source, target, files=files, proofs=str(tmp_path / "proofs"))

    with mapped(inside / "queue") as memory:
        memory[:3] = b"one"
        time.sleep(0.05)
        assert engine.whole(copy())
        assert engine.whole(copy())
        memory[:3] = b"two"
        assert engine.whole(copy())
        assert (tmp_path / "target/cache/queue").read_bytes()[:3] == b"two"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("written", ["before", "after"])
@pytest.mark.parametrize("memory", [False, True], ids=["disk", "memory"])
def test_a_write_through_a_mapping_after_a_file_was_sent(end, kind, written, memory, tmp_path, monkeypatch):
    """The program has written to that page before the run, or right after all was written out."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if memory else tmp_path) as place:
        write(Path(place), "file", b"content" * 1_000)
        (tmp_path / "target").mkdir()
        with mapped(Path(place, "file")) as content:

            def write_one():
                content[:3] = b"one"
                time.sleep(0.05)

            tree = {"local": LocalTree}.get(kind, ShellTree)
            flush, batch = tree.flush, Copy._batch
            left = [b"two"]

            def flush_and_write(self):
                told = flush(self)
                if self.path == place:
                    write_one()
                return told

            def send_and_write(self, *arguments):
                batch(self, *arguments)
                if left:
                    content[:3] = left.pop()

            if written == "before":
                write_one()
            else:
                monkeypatch.setattr(tree, "flush", flush_and_write)
            monkeypatch.setattr(Copy, "_batch", send_and_write)
            outcome = engine.copy(
                end(kind, place), engine.local(tmp_path / "target"), proofs=str(tmp_path / "proofs")
            )
            assert engine.whole(outcome)
            assert (left, outcome.retries) == ([], 1)
        assert snapshot(tmp_path / "target")[b"file"] == snapshot(place)[b"file"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fresh", [True, False], ids=["new", "there"])
def test_a_write_through_a_mapping_of_what_was_just_placed(end, kind, fresh, tmp_path, monkeypatch):
    """A program at the target maps the file as soon as it has its name, and writes to that page after the run, too."""
    write(tmp_path, "source/d/file", b"content" * 1_000)
    (tmp_path / ("target" if fresh else "target/d")).mkdir(parents=True)
    maps = ExitStack()

    def copy():
        return engine.copy(
            engine.local(tmp_path / "source"), end(kind, tmp_path / "target"), proofs=str(tmp_path / "proofs")
        )

    batch, mapping = Copy._batch, []

    def place_and_map(self, *arguments):
        batch(self, *arguments)
        if not mapping:
            mapping.append(maps.enter_context(mapped(tmp_path / "target/d/file")))
            mapping[0][:3] = b"con"

    with maps:
        monkeypatch.setattr(Copy, "_batch", place_and_map)
        assert engine.whole(copy())
        assert engine.whole(copy())
        mapping[0][:3] = b"two"
        assert engine.whole(copy())
        assert (tmp_path / "target/d/file").read_bytes()[:3] == b"con"
