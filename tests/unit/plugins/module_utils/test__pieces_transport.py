# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large files between any two ends: what arrives, what is sent for it, and what a cut leaves."""

from __future__ import annotations

import errno
import os
import random
import time

import pytest
from piecekit import MTIME, Ferry, allocated, changed, content, sparse
from toolbox import Box
from trees import NAMES

from ansible_collections.kubeferry.pvc.plugins.module_utils import _pieces
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ConnectionLost, EndpointError

PIECE, BLOCK = 1 << 17, 1 << 16
DATA = random.Random(7).randbytes(10 * PIECE + 777)
WAYS = [("local", "local"), ("local", "busybox"), ("gnu", "local"), ("busybox", "gnu")]
OVERHEAD = 8 * 1024
"""What scripts and lines may add to the bytes of files."""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(_pieces, "PIECE", PIECE)


@pytest.fixture(params=WAYS, ids=" to ".join)
def ferry(request, boxes, tmp_path):
    return Ferry(boxes, tmp_path, *request.param)


@pytest.fixture
def pulling(boxes, tmp_path):
    return Ferry(boxes, tmp_path, "busybox", "local")


@pytest.fixture
def pushing(boxes, tmp_path):
    return Ferry(boxes, tmp_path, "local", "busybox")


def test_files_of_every_size_and_name(ferry):
    sizes = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 70_000]
    names = [b"deep/er/" + name if number % 3 else name for number, name in enumerate(NAMES)]
    total = 0
    for number, name in enumerate(names):
        total += ferry.place(ferry.source, name, DATA[number : number + sizes[number % len(sizes)]])
    assert ferry.move(*names) == total
    for name in names:
        assert ferry.same(name), name
        status = os.stat(os.path.join(os.fsencode(ferry.work), name))
        assert (status.st_mtime_ns, status.st_mode & 0o777) == (MTIME, 0o600)
    assert os.listdir(ferry.target) == [".kubeferry"]


def test_a_part_that_was_received_is_not_sent_again(ferry):
    ferry.place(ferry.source, "file", DATA)
    for length in (PIECE - 1, 5 * PIECE, 5 * PIECE + 3, len(DATA)):
        have = ferry.place(ferry.work, "file", DATA[:length])
        kept = length if length == len(DATA) else length // PIECE * PIECE
        assert ferry.move("file", basis={b"file": have}) == len(DATA) - kept
        assert ferry.same()
        ferry.transport._moved.clear()


def test_of_an_older_version_only_what_changed_is_sent(ferry):
    ferry.place(ferry.source, "file", DATA)
    old = changed(DATA, 0, 3 * PIECE, 3 * PIECE + 9, 5 * PIECE - 1)
    have = ferry.place(ferry.target, "file", old)
    assert ferry.move("file", basis={b"file": have}) == 3 * BLOCK
    assert ferry.same()
    assert content(ferry.target, "file") == old


def test_blocks_of_many_pieces_are_compared_where_a_sample_says_that_it_pays(ferry):
    pieces = 30
    new = random.Random(8).randbytes(pieces * PIECE + 11)
    ferry.place(ferry.source, "file", new)
    have = ferry.place(ferry.target, "file", changed(new, *range(5, len(new), PIECE)))
    ferry.place(ferry.source, "other", new)
    ferry.place(ferry.target, "other", new[::-1])
    sent = ferry.move("file", "other", basis={b"file": have, b"other": have})
    assert sent == pieces * BLOCK + 11 + len(new)
    assert ferry.same()
    assert ferry.same("other")
    for meter in ferry.meters.values():
        # Of one file all pieces, and of the other one a few.
        answers = meter.carried[("BLOCKS", "out")]
        assert (pieces + 4) * 2 * 32 < answers < (pieces + 10) * 2 * 100


def test_a_block_that_became_zeros_is_written(ferry):
    new = bytearray(DATA)
    new[2 * PIECE : 2 * PIECE + BLOCK] = bytes(BLOCK)
    ferry.place(ferry.source, "file", new)
    have = ferry.place(ferry.target, "file", DATA)
    assert ferry.move("file", basis={b"file": have}) == BLOCK
    assert ferry.same()


@pytest.mark.parametrize("way", [("gnu", "local"), ("local", "gnu")], ids=" to ".join)
def test_where_blocks_can_not_be_told_pieces_are_sent(tmp_path, way):
    ferry = Ferry({"gnu": Box(str(tmp_path / "box"), "gnu", without=["split"])}, tmp_path, *way)
    ferry.place(ferry.source, "file", DATA)
    have = ferry.place(ferry.target, "file", changed(DATA, 0, 3 * PIECE))
    assert ferry.move("file", basis={b"file": have}) == 2 * PIECE
    assert ferry.same()


@pytest.mark.parametrize(
    "old", [DATA[: 4 * PIECE + 100], DATA + DATA[:PIECE], b""], ids=["shorter", "longer", "empty"]
)
def test_an_older_version_of_another_length(ferry, old):
    ferry.place(ferry.source, "file", DATA)
    have = ferry.place(ferry.target, "file", old)
    sent = ferry.move("file", basis={b"file": have})
    assert ferry.same()
    assert sent <= len(DATA) - len(old) + PIECE if len(old) < len(DATA) else sent <= PIECE


def test_a_part_and_an_older_version_are_both_of_use(ferry):
    ferry.place(ferry.source, "file", DATA)
    ferry.place(ferry.work, "file", DATA[: 3 * PIECE])
    have = ferry.place(ferry.target, "file", changed(DATA, 1, 7 * PIECE))
    assert ferry.move("file", basis={b"file": have}) == BLOCK
    assert ferry.same()


def test_zeros_replace_what_was_there(ferry):
    new = DATA[:PIECE] + bytes(4 * PIECE) + DATA[PIECE : 2 * PIECE] + bytes(PIECE + 5)
    ferry.place(ferry.source, "file", new)
    have = ferry.place(ferry.work, "file", DATA)
    assert ferry.move("file", basis={b"file": have}) == PIECE
    assert ferry.same()


def test_what_was_received_and_is_no_basis_does_not_shine_through(ferry):
    sparse(ferry.source / "file", 6 * PIECE, (2 * PIECE, b"data"))
    ferry.place(ferry.work, "file", DATA)
    ferry.move("file")
    assert ferry.same()


@pytest.mark.parametrize("way", [("local", "busybox"), ("busybox", "local")], ids=" to ".join)
def test_a_sparse_file_stays_sparse(boxes, tmp_path, monkeypatch, way):
    """With pieces of their real size: of 1 GiB, 5 pages hold data."""
    monkeypatch.setattr(_pieces, "PIECE", 4 << 20)
    ferry = Ferry(boxes, tmp_path, *way)
    size = (1 << 30) if way[0] == "local" else (1 << 27)
    places = (0, 4096, size // 4, size // 2 + 5, size - 3)
    sparse(ferry.source / "file", size, *((place, b"abc") for place in places))
    before = allocated(ferry.source)
    sent = ferry.move("file")
    with open(ferry.work / "file", "rb") as stream:
        for place in places:
            stream.seek(place)
            assert stream.read(3) == b"abc"
    assert os.stat(ferry.work / "file").st_size == size
    assert allocated(ferry.source) == before
    assert allocated(ferry.work) <= before
    if way[0] == "local":
        assert sent <= before
        assert ferry.carried() <= before + OVERHEAD
    else:
        # The pieces that hold the data: a pod with nothing but BusyBox can't tell where in a piece it lies.
        assert sent <= 4 * (4 << 20)
        assert ferry.carried() <= sent + OVERHEAD


def test_an_entirely_sparse_file_costs_nothing(ferry):
    sparse(ferry.source / "file", 100 << 30)
    assert ferry.move("file") == 0
    assert (os.stat(ferry.work / "file").st_size, allocated(ferry.work)) == (100 << 30, 0)


def test_an_older_version_with_holes_is_taken_over_with_its_holes(ferry):
    for root, more in ((ferry.target, ()), (ferry.source, ((20 * PIECE, b"new"),))):
        sparse(root / "file", 100 * PIECE, (0, DATA[:PIECE]), (50 * PIECE, DATA[PIECE : 2 * PIECE]), *more)
    assert ferry.move("file", basis={b"file": 100 * PIECE}) <= PIECE
    assert ferry.same()
    assert allocated(ferry.work) <= 2 * allocated(ferry.source)


CUTS = [0, PIECE, 4 * PIECE, 6 * PIECE + PIECE // 3, 10 * PIECE + 500]


def settled(path):
    """The size of a file once nobody writes to it any more."""
    size = -1
    while size < (size := os.stat(path).st_size if path.exists() else 0):
        time.sleep(0.2)
    return size


@pytest.mark.parametrize("at", CUTS)
@pytest.mark.parametrize(("way", "cut"), [(("busybox", "local"), "READ"), (("local", "gnu"), "WRITE")])
def test_a_cut_leaves_what_the_next_move_goes_on_from(boxes, tmp_path, way, cut, at):
    ferry = Ferry(boxes, tmp_path, *way)
    ferry.place(ferry.source, "file", DATA)
    broken = ferry.between(*way, cut=(cut, "out" if cut == "READ" else "in", at))
    with pytest.raises(ConnectionLost):
        broken.move([ferry.entry("file")], {})
    kept = settled(ferry.work / "file")
    # A run of data is handed over when it is whole, and a stream may hold a few of them on its way.
    assert kept <= at + PIECE
    assert kept >= at - 8 * PIECE
    there = ferry.transport._target.received([b"file", b"other"])
    assert there == ({b"file": kept} if (ferry.work / "file").exists() else {})
    assert ferry.move("file", basis=there) == len(DATA) - kept // PIECE * PIECE
    assert ferry.same()


@pytest.mark.parametrize(("way", "cut"), [(("busybox", "local"), "READ"), (("local", "gnu"), "WRITE")])
def test_a_move_that_was_cut_goes_on_without_a_look_at_what_it_did(boxes, tmp_path, way, cut):
    ferry = Ferry(boxes, tmp_path, *way)
    ferry.place(ferry.source, "file", DATA)
    ferry.place(ferry.source, "other", DATA[:100])
    ferry.transport = ferry.between(*way, cut=(cut, "out" if cut == "READ" else "in", 7 * PIECE))
    with pytest.raises(ConnectionLost):
        ferry.move("file", "other")
    kept = settled(ferry.work / "file")
    assert kept
    (meter,) = ferry.meters.values()
    meter.carried.clear()
    assert ferry.move("file", "other") == len(DATA) - kept // PIECE * PIECE + 100
    assert ferry.same()
    assert ferry.same("other")
    assert meter.carried[("PIECES", "out")] < 100


def test_what_is_gone_on_from_and_was_wrong_is_mended_by_the_next_move(ferry):
    ferry.place(ferry.source, "file", DATA)
    ferry.place(ferry.work, "file", changed(DATA[: 4 * PIECE + 9], 3, 4 * PIECE))
    first = ferry.transport.move([ferry.entry("file")], {}, begun=[b"file"])
    assert first == len(DATA) - 4 * PIECE
    assert not ferry.same()
    assert ferry.move("file") == PIECE
    assert ferry.same()


def test_a_cut_while_an_older_version_is_changed(boxes, tmp_path):
    ferry = Ferry(boxes, tmp_path, "local", "busybox")
    ferry.place(ferry.source, "file", DATA)
    have = ferry.place(ferry.target, "file", changed(DATA, 0, 4 * PIECE, 9 * PIECE))
    broken = ferry.between("local", "busybox", cut=("WRITE", "in", 2 * BLOCK))
    with pytest.raises(ConnectionLost):
        broken.move([ferry.entry("file")], {b"file": have})
    assert ferry.move("file", basis={b"file": have}) <= 3 * BLOCK
    assert ferry.same()


def test_a_file_that_was_found_wrong_is_compared_anew_by_the_copys_own_algorithm(ferry):
    ferry.place(ferry.source, "file", DATA)
    assert ferry.move("file") == len(DATA)
    ferry.place(ferry.work, "file", changed(DATA, 5, 8 * PIECE))
    for meter in ferry.meters.values():
        meter.runner.started.clear()
    assert ferry.move("file") == 2 * PIECE
    assert ferry.same()
    for meter in ferry.meters.values():
        assert [argv for argv in meter.runner.started if "sha256" in argv]


@pytest.mark.parametrize("data", [DATA[: 4 * PIECE + 11], b"", None], ids=["shorter", "empty", "gone"])
@pytest.mark.parametrize(
    "way", [("local", "local"), ("busybox", "local"), ("gnu", "busybox")], ids=" to ".join
)
def test_a_file_that_shrinks_is_filled_up_and_the_others_arrive(boxes, tmp_path, way, data):
    ferry = Ferry(boxes, tmp_path, *way)
    entries = []
    for name in ("before", "file", "last"):
        ferry.place(ferry.source, name, DATA)
        entries.append(ferry.entry(name))
    (ferry.source / "file").unlink()
    if data is not None:
        ferry.place(ferry.source, "file", data)
    # Between ends that know of holes what is missing isn't sent.
    assert ferry.transport.move(entries, {}) <= 3 * len(DATA)
    assert ferry.same("before")
    assert ferry.same("last")
    assert ferry.arrived() == (data or b"").ljust(len(DATA), b"\0")


@pytest.mark.parametrize("data", [b"x" * 11, None], ids=["shorter", "gone"])
def test_of_a_file_that_was_said_to_be_huge_no_zeros_are_sent(ferry, data):
    if data is not None:
        ferry.place(ferry.source, "file", data)
    size = 1 << 40
    assert ferry.transport.move([ferry.entry("file", size)], {}) <= _pieces.piece_length(size)


def test_of_a_file_that_grows_comes_what_it_had(ferry):
    ferry.place(ferry.source, "file", DATA)
    entries = [ferry.entry("file", 3 * PIECE + 7), ferry.entry("file2", 0)]
    assert ferry.transport.move(entries, {}) == 3 * PIECE + 7
    assert ferry.arrived() == DATA[: 3 * PIECE + 7]


@pytest.mark.parametrize("way", [("busybox", "local"), ("gnu", "local"), ("local", "local")], ids=" to ".join)
def test_a_fifo_or_link_in_a_files_place_is_not_read(boxes, tmp_path, way):
    ferry = Ferry(boxes, tmp_path, *way)
    (tmp_path / "secret").write_bytes(b"secret" * 1000)
    os.mkfifo(ferry.source / "fifo")
    os.symlink(tmp_path / "secret", ferry.source / "link")
    for name in ("fifo", "link"):
        ferry.transport.move([ferry.entry(name, 6000)], {})
        assert ferry.arrived(name) == bytes(6000)


@pytest.mark.parametrize("kind", ["local", "gnu", "busybox"])
def test_nothing_is_written_through_a_link_in_the_work_directory(boxes, tmp_path, kind):
    ferry = Ferry(boxes, tmp_path, "local", kind)
    ferry.place(ferry.source, "file", DATA)
    (tmp_path / "precious").write_bytes(b"precious")
    os.symlink(tmp_path / "precious", ferry.work / "file")
    ferry.move("file", basis={b"file": 8})
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert ferry.same()


def test_a_second_name_of_what_was_received_is_left_alone(boxes, tmp_path):
    ferry = Ferry(boxes, tmp_path)
    ferry.place(ferry.source, "file", DATA)
    ferry.place(tmp_path, "precious", b"precious")
    os.link(tmp_path / "precious", ferry.work / "file")
    ferry.move("file", basis={b"file": 8})
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert ferry.same()


def test_a_directory_swapped_for_a_link_is_not_entered(boxes, tmp_path):
    ferry = Ferry(boxes, tmp_path)
    ferry.place(ferry.source, "dir/file", DATA)
    (tmp_path / "outside").mkdir()
    os.symlink(tmp_path / "outside", ferry.work / "dir")
    with pytest.raises(EndpointError, match=r"dir/file can't be written below .*target on this machine"):
        ferry.move("dir/file")
    assert os.listdir(tmp_path / "outside") == []


def test_a_full_directory_of_this_machine_is_named(boxes, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    ferry = Ferry(boxes, tmp_path)
    ferry.place(ferry.source, "file", DATA)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(EndpointError, match=r"target on this machine is full: make room there and run again"):
        ferry.move("file")


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("dd: error writing 'x': No space left on device", "is full: make room there and run again"),
        ("dd: x: Read-only file system", ": dd: x: Read-only file system. Check that"),
    ],
    ids=["full", "read-only"],
)
def test_a_pod_that_can_not_write_is_named(tmp_path, says, told):
    box = Box(str(tmp_path / "box"), "gnu", without=["dd"])
    dd = tmp_path / "box" / "dd"
    dd.write_text(f'#!/bin/sh\ncase $* in *of=*) echo "{says}" >&2; exit 1 ;; esac\n')
    dd.chmod(0o755)
    ferry = Ferry({"gnu": box}, tmp_path, "local", "gnu")
    ferry.place(ferry.source, "file", DATA)
    with pytest.raises(EndpointError) as caught:
        ferry.move("file")
    assert str(ferry.target) in str(caught.value)
    assert told in str(caught.value)


def test_progress_tells_the_bytes_that_are_sent(pulling):
    told = []
    pulling.transport._progress.advance = lambda size, files=0: told.append((size, files))
    pulling.place(pulling.source, "file", DATA)
    have = pulling.place(pulling.work, "file", DATA[: 8 * PIECE])
    pulling.move("file", basis={b"file": have})
    assert sum(size for size, _files in told) == len(DATA) - 8 * PIECE
    assert sum(files for _size, files in told) == 1
