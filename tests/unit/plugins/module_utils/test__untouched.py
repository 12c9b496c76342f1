# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A large file is read back once, while it comes, unless somebody else could have written to it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import resource
import tempfile
import threading
from pathlib import Path

import engine
import pytest
from trees import write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _local_tree
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_receiving import Receiving
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._read_back import STEP, WRITE_OUT, ReadBack
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._untouched import LARGE, MOST, Untouched

CONTENT = os.urandom(1 << 16) * (LARGE >> 16) + b"and a bit more"


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"x" * 100)
    return path


def held(untouched, path, flags, kind):
    descriptor = os.open(path, flags)
    try:
        lease = untouched.take(descriptor, kind)
        return lease is not None and untouched.keep(os.fsencode(path.name), lease, "abc")
    finally:
        os.close(descriptor)


WAYS = [(os.O_RDONLY, fcntl.F_RDLCK), (os.O_RDWR, fcntl.F_WRLCK)]


@pytest.mark.parametrize(("flags", "kind"), WAYS, ids=["read", "written"])
def test_what_nobody_touched_is_told_with_its_look_of_now(large, flags, kind):
    untouched = Untouched()
    assert held(untouched, large, flags, kind)
    large.rename(large.with_name("named"))
    [(path, digest, status)] = untouched.release()
    assert (path, digest) == (b"large", "abc")
    assert status.st_ctime_ns == large.with_name("named").stat().st_ctime_ns
    assert list(untouched.release()) == []


@pytest.mark.parametrize(("flags", "kind"), WAYS, ids=["read", "written"])
def test_what_somebody_opens_to_write_is_not(large, flags, kind):
    untouched = Untouched()
    assert held(untouched, large, flags, kind)
    with pytest.raises(BlockingIOError):
        os.open(large, os.O_WRONLY | os.O_NONBLOCK)
    assert list(untouched.release()) == []
    os.close(os.open(large, os.O_WRONLY | os.O_NONBLOCK))  # nobody has to wait any more


@pytest.mark.parametrize(("flags", "kind"), WAYS, ids=["read", "written"])
def test_what_somebody_has_open_to_write_is_not_held(large, flags, kind):
    with large.open("ab"):
        assert not held(Untouched(), large, flags, kind)


def test_readers_do_not_wait_for_what_is_only_read(large):
    untouched = Untouched()
    assert held(untouched, large, os.O_RDONLY, fcntl.F_RDLCK)
    assert large.read_bytes() == b"x" * 100
    assert [path for path, _digest, _status in untouched.release()] == [b"large"]


@pytest.mark.parametrize(("flags", "kind"), WAYS, ids=["read", "written"])
def test_who_waits_for_it_gets_it(large, flags, kind):
    untouched = Untouched()
    assert held(untouched, large, flags, kind)
    waiting = threading.Thread(target=lambda: large.write_bytes(b"his"))
    waiting.start()
    for _moment in range(100):
        untouched.give_way()
        waiting.join(0.05)
        if not waiting.is_alive():
            break
    assert (waiting.is_alive(), large.read_bytes(), list(untouched.release())) == (False, b"his", [])


def test_there_is_a_most(tmp_path):
    untouched = Untouched()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(MOST + 1):
        path = tmp_path / str(number)
        path.write_bytes(b"")
        assert held(untouched, path, os.O_RDONLY, fcntl.F_RDLCK) == (number < MOST)
    untouched.drop()
    assert len(os.listdir("/proc/self/fd")) == before


# -- in a copy --------------------------------------------------------------------------------------


class Asked(LocalTree):
    """A target that notes which files are read where they lie."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read_again = []

    def digests(self, paths, checksum):
        self.read_again += paths
        return super().digests(paths, checksum)


def copied(boxes, tmp_path, kind):
    write(tmp_path / "source", "one", CONTENT)
    (tmp_path / "target").mkdir(exist_ok=True)
    target = Asked(str(tmp_path / "target"), engine.progress())
    outcome = engine.copy(engine.end(boxes, kind, tmp_path / "source"), target)
    assert engine.whole(outcome)
    assert (tmp_path / "target" / "one").read_bytes() == CONTENT
    return outcome, target.read_again


@pytest.mark.parametrize("kind", ["local", "busybox", "gnu"])
def test_a_large_file_is_read_back_once(boxes, tmp_path, kind):
    assert copied(boxes, tmp_path, kind)[1] == []


def test_without_leases_it_is_read_again(boxes, tmp_path, monkeypatch):
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    assert copied(boxes, tmp_path, "local")[1] == [b"one"]


def test_one_that_somebody_had_open_is_read_again(boxes, tmp_path, monkeypatch):
    """He writes to it after it was read back, and before it gets its name: nothing but another reading tells."""
    once = []
    original = Receiving._fill

    def shared(self, descriptor, size, item, back):
        if not once:
            once.append(os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR))
        return original(self, descriptor, size, item, back)

    def spoilt(folder, received, at):
        if len(once) == 1:
            once.append(os.pwrite(once[0], b"!", LARGE // 2))
            os.close(once[0])
        return move(folder, received, at)

    move = _local_tree.move
    monkeypatch.setattr(Untouched, "take", lambda self, descriptor, kind: None)
    monkeypatch.setattr(Receiving, "_fill", shared)
    monkeypatch.setattr(_local_tree, "move", spoilt)
    outcome, again = copied(boxes, tmp_path, "local")
    assert (outcome.retries, b"one" in again) == (1, True)


def test_one_that_somebody_opens_meanwhile_is_no_success(boxes, tmp_path, monkeypatch):
    """Who opens it while it is on its way waits until it is given back, and then writes to it."""
    writer = []
    original, release = Receiving._fill, Untouched.release

    def opened(self, descriptor, size, item, back):
        if not writer:
            path = os.readlink(f"/proc/self/fd/{descriptor}")

            def write_to_it():
                with open(path, "r+b") as stream:
                    stream.write(b"!")

            writer.append(threading.Thread(target=write_to_it))
            writer[0].start()
        return original(self, descriptor, size, item, back)

    def released(self):
        yield from release(self)
        writer[0].join(20)

    monkeypatch.setattr(Receiving, "_fill", opened)
    monkeypatch.setattr(Untouched, "release", released)
    outcome, _again = copied(boxes, tmp_path, "local")
    assert not writer[0].is_alive()
    assert outcome.retries == 1


@pytest.mark.parametrize("size", [5_000, 3_000_000, len(CONTENT)], ids=["small", "medium", "large"])
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_one_that_somebody_has_mapped_is_read_again(tmp_path, monkeypatch, size, place):
    """In a page that wasn't written out since he wrote to it he writes again without a trace."""
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
        target = Path(memory) if place == "memory" else tmp_path / "target"
        write(tmp_path / "source", "new/one", CONTENT[:size])
        maps, others = [], []
        fill, make, take = Receiving._fill, LocalTree._make, Untouched.take

        def shared(self, descriptor, kind):
            others.append(os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR))
            return take(self, descriptor, kind)

        def mapped(self, descriptor, *arguments):
            written = fill(self, descriptor, *arguments)
            if not maps:
                other = others.pop() if others else os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
                maps.append(stack.enter_context(mmap.mmap(other, size)))
                os.close(other)
                maps[0][0] = CONTENT[0]
            return written

        def spoilt(self, *arguments):
            if len(maps) == 1:
                maps[0][0] ^= 1
                maps.append(None)
            return make(self, *arguments)

        monkeypatch.setattr(Untouched, "take", shared)
        monkeypatch.setattr(Receiving, "_fill", mapped)
        monkeypatch.setattr(LocalTree, "_make", spoilt)
        outcome = engine.copy(engine.local(tmp_path / "source"), engine.local(target))
        assert (len(maps), outcome.retries, engine.whole(outcome)) == (2, 1, True)
        assert (target / "new" / "one").read_bytes() == CONTENT[:size]


@pytest.mark.parametrize("kind", ["busybox", "gnu"])
def test_one_that_somebody_has_mapped_in_a_pod_is_read_again(boxes, tmp_path, monkeypatch, kind):
    write(tmp_path / "source", "new/one", CONTENT[:5_000])
    target = tmp_path / "target"
    target.mkdir()
    received, apply = ShellTree.received, ShellTree.apply
    maps = []

    def mapped(self, *arguments):
        if not maps:
            [path] = target.glob(".kubeferry/run-*/tree/new/one")
            with path.open("r+b") as stream:
                maps.append(mmap.mmap(stream.fileno(), 5_000))
            maps[0][0] = CONTENT[0]
        yield from received(self, *arguments)

    def spoilt(self, changes):
        if len(maps) == 1:
            maps[0][0] ^= 1
            maps.append(None)
        return apply(self, changes)

    monkeypatch.setattr(ShellTree, "received", mapped)
    monkeypatch.setattr(ShellTree, "apply", spoilt)
    outcome = engine.copy(engine.local(tmp_path / "source"), engine.end(boxes, kind, target))
    maps[0].close()
    assert (outcome.retries, engine.whole(outcome)) == (1, True)
    assert (target / "new" / "one").read_bytes() == CONTENT[:5_000]


@pytest.mark.parametrize("path", ["new/one", "one"])
def test_in_memory_all_is_read_again(tmp_path, path):
    """What is written through a mapping never shows there."""
    write(tmp_path / "source", path, CONTENT)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as target:
        tree = Asked(target, engine.progress())
        assert engine.whole(engine.copy(engine.local(tmp_path / "source"), tree))
        assert tree.read_again == [path.encode()]


def test_few_descriptors_are_enough(tmp_path):
    for number in range(36):
        write(tmp_path / "source", str(number), CONTENT[:LARGE])

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, 200))
        return engine.whole(engine.copy(engine.local(tmp_path / "source"), engine.local(tmp_path / "target")))

    assert engine.in_child(few)


# -- reading back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, 5 * STEP + 7, WRITE_OUT + 3])
def test_it_is_the_digest_of_the_file(tmp_path, size):
    content = (os.urandom(9973) * (size // 9973 + 1))[:size]
    with (tmp_path / "file").open("w+b", buffering=0) as stream:
        back = ReadBack(stream.fileno(), "sha256")
        with back.begun():
            for start in range(0, size, 300_000):
                stream.write(content[start : start + 300_000])
                back.wrote(start + len(content[start : start + 300_000]))
            assert back.digest(size) == hashlib.sha256(content).hexdigest()


def test_it_tells_what_is_there_not_what_was_written(tmp_path):
    with (tmp_path / "file").open("w+b", buffering=0) as stream:
        back = ReadBack(stream.fileno(), "sha256")
        with back.begun():
            stream.write(b"a" * STEP)
            os.pwrite(stream.fileno(), b"b", 5)
            back.wrote(STEP)
            expected = hashlib.sha256(b"aaaaab" + b"a" * (STEP - 6)).hexdigest()
            assert back.digest(STEP) == expected
        stream.truncate(10)
        short = ReadBack(stream.fileno(), "sha256")
        with short.begun():
            assert short.digest(STEP) == hashlib.sha256(b"aaaaabaaaa").hexdigest()


def test_a_failure_ends_it(tmp_path):
    with (tmp_path / "file").open("w+b", buffering=0) as stream:
        back = ReadBack(stream.fileno(), "sha256")
        with pytest.raises(ZeroDivisionError), back.begun():
            raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "kubeferry-beside"]


def test_a_file_that_can_not_be_read_is_an_error(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        back = ReadBack(descriptor, "sha256")
        os.write(descriptor, b"x")
        with back.begun(), pytest.raises(OSError, match="descriptor"):
            back.digest(1)
    finally:
        os.close(descriptor)
