# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tar stream: against Python's tarfile, GNU tar and BusyBox's, and against archives that mean harm."""

from __future__ import annotations

import io
import os
import random
import re
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox import found
from trees import NAMES, content_of

from ansible_collections.kubeferry.pvc.plugins.module_utils import _tar as tar
from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import (
    BLOCK,
    CHAR,
    DIR,
    FIFO,
    FILE,
    SYMLINK,
    Entry,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ConnectionLost,
    KubeferryError,
    ProtocolError,
)

MARK = b"0123456789abcdef"
BILLION = 1_000_000_000
TARS = [("gnu", "gnu"), ("gnu", "pax"), ("busybox", "")]


def archive(*members, nanoseconds=False):
    """An archive of (entry, content) pairs as the engine makes it."""
    parts = []
    for entry, content in members:
        parts += [
            tar.header(entry, entry.path, len(content), nanoseconds),
            content,
            tar.padding(len(content)),
        ]
    return b"".join(parts) + tar.end()


def parsed(data, mark=MARK, piece=None):
    """All members of `data` with their content; read in pieces of random size where no size is given."""
    generator = random.Random(len(data))
    pieces = []
    position = 0
    while position < len(data):
        size = piece or generator.randint(1, 2000)
        pieces.append(data[position : position + size])
        position += size
    stream = tar.ByteStream(pieces)
    return [(m.name, m.flag, m.size, b"".join(m.payload)) for m in tar.members(stream, mark)]


def entry(path=b"f", kind=FILE, size=0, **rest):
    return Entry(path, kind, size, **{"mode": 0o644, "uid": 0, "gid": 0, "mtime": 0, **rest})


HARD = [
    entry(b"short"),
    entry(b"d" * 99),
    entry(b"e" * 100),
    entry(b"f" * 101),
    entry(b"/".join([b"g" * 250] * 15)),
    entry(b"l", SYMLINK, link=b"t" * 100, mode=0o777),
    entry(b"m", SYMLINK, link=b"u" * 101, mode=0o777),
    entry(b"v" * 300, SYMLINK, link=b"w" * 4000, mode=0o777),
    entry(b"uid", uid=2_097_151, gid=2_097_152),
    entry(b"big uid", uid=1_000_650_000, gid=4_294_967_294),
    entry(b"old", mtime=-1 * BILLION),
    entry(b"older", mtime=-2_000_000_000 * BILLION),
    entry(b"late", mtime=8_589_934_591 * BILLION),
    entry(b"later", mtime=8_589_934_592 * BILLION),
    entry(b"set-id", mode=0o6755),
    entry(b"sticky", DIR, mode=0o1777),
    entry(b"fifo", FIFO),
    entry(b"char", CHAR, device=(1, 3)),
    entry(b"block", BLOCK, device=(259, 1_048_575)),
    *(entry(name) for name in NAMES),
]


@pytest.mark.parametrize("want", HARD, ids=lambda want: repr(want.path[:20]))
def test_tarfile_reads_our_headers(want):
    with tarfile.open(
        fileobj=io.BytesIO(archive((want, b""))), encoding="utf-8", errors="surrogateescape"
    ) as opened:
        (have,) = opened.getmembers()
    kinds = {FILE: "isreg", DIR: "isdir", SYMLINK: "issym", FIFO: "isfifo", CHAR: "ischr", BLOCK: "isblk"}
    assert getattr(have, kinds[want.kind])()
    assert os.fsencode(have.name) == want.path
    assert os.fsencode(have.linkname) == want.link
    assert (have.mode, have.uid, have.gid) == (want.mode, want.uid, want.gid)
    assert have.mtime == want.mtime // BILLION
    assert (have.devmajor, have.devminor) == want.device


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 40, (1 << 63) - 1])
def test_sizes_of_any_length_are_written_and_read(size):
    block = tar.header(entry(size=size), b"f", size)
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == size
    stream = tar.ByteStream([block, bytes(min(size, tar.SMALL) + tar.BLOCK_SIZE)])
    assert next(tar.members(stream, MARK)).size == size


@pytest.mark.parametrize(
    "mtime", [1, 1_600_000_000 * BILLION + 123_456_789, -1, -BILLION // 2, -3 * BILLION // 2]
)
def test_exact_times_are_read_by_gnu_tar(tmp_path, mtime):
    data = archive((entry(b"f" * 200, mtime=mtime), b""), nanoseconds=True)
    subprocess.run([found("tar", "tar"), "-xf", "-"], input=data, cwd=tmp_path, check=True, timeout=20)
    assert os.stat(tmp_path / ("f" * 200)).st_mtime_ns == mtime


@pytest.mark.parametrize("tool", ["gnu", "busybox"])
def test_real_tars_unpack_ours(tmp_path, tool):
    members = [(e, random.Random(1).randbytes(700)) for e in HARD if e.kind == FILE]
    argv = [found("tar", "tar")] if tool == "gnu" else [found("busybox", "busybox-static"), "tar"]
    subprocess.run([*argv, "-xpf", "-"], input=archive(*members), cwd=tmp_path, check=True, timeout=20)
    for want, content in members:
        path = os.path.join(os.fsencode(tmp_path), want.path)
        assert content_of(path) == content
        status = os.stat(path)
        assert (status.st_mode & 0o7777, status.st_mtime_ns // BILLION) == (want.mode, want.mtime // BILLION)
        if os.geteuid() == 0:
            assert (status.st_uid, status.st_gid) == (want.uid, want.gid)


def made_by(tmp_path, tool, form, names):
    argv = (
        [found("tar", "tar"), "--no-unquote", f"--format={form}"]
        if tool == "gnu"
        else [found("busybox", "busybox-static"), "tar"]
    )
    made = subprocess.run(
        [*argv, "-cf", "-", *names], cwd=tmp_path, check=True, timeout=20, capture_output=True
    )
    return made.stdout


@pytest.mark.parametrize(("tool", "form"), TARS)
def test_archives_of_real_tars_are_read(tmp_path, tool, form):
    contents = {}
    for number, name in enumerate([*NAMES, b"x" * 200 + b"/" + b"y" * 200, b"n" * 100, b"m" * 99]):
        path = b"./" + name
        contents[path] = random.Random(number).randbytes(number * 100)
        os.makedirs(os.path.join(os.fsencode(tmp_path), os.path.dirname(path)), exist_ok=True)
        full = os.path.join(os.fsencode(tmp_path), path)
        with open(full, "wb") as stream:
            stream.write(contents[path])
        os.utime(full, ns=(-5 * BILLION, -5 * BILLION - 1))
    half = len(contents) // 2
    names = list(contents)
    data = made_by(tmp_path, tool, form, names[:half]) + made_by(tmp_path, tool, form, names[half:])
    for piece in (None, 1 << 20, 7):
        read = {name: content for name, _flag, _size, content in parsed(data + MARK, piece=piece)}
        assert read == contents


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_tarfile_are_read(form):
    out = io.BytesIO()
    long = "d" * 90 + "/" + "f" * 90
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name in ("a", long, "last"):
            info = tarfile.TarInfo(name)
            info.size = 600
            info.uid = 2_000_000
            made.addfile(info, io.BytesIO(name[:1].encode() * 600))
    read = parsed(out.getvalue() + MARK)
    assert [(name, size, content[:1]) for name, _flag, size, content in read] == [
        *((b"a", 600, b"a"), (long.encode(), 600, b"d"), (b"last", 600, b"l")),
    ]


def test_every_cut_is_noticed():
    data = (
        archive(
            (entry(b"a", size=5), b"12345"), (entry(b"b" * 120, size=600), b"x" * 600), (entry(b"c"), b"")
        )
        + MARK
    )
    assert len(parsed(data)) == 3
    for length in range(len(data)):
        with pytest.raises(ConnectionLost):
            parsed(data[:length], piece=512)


def test_nothing_is_waited_for_after_the_last_block_wherever_it_comes():
    """BusyBox's tar ends in the middle of a file that has shrunk; the script then waits for an answer."""
    last = MARK.ljust(511) + b"\n"
    files = [(entry(b"a", size=5), b"12345"), (entry(b"b", size=70_000), b"x" * 70_000), (entry(b"c"), b"")]
    data = archive(*files)

    def pieces(cut, size):
        text = data[:cut] + last
        yield from (text[at : at + size] for at in range(0, len(text), size))
        pytest.fail("more was asked for")

    second = 3 * tar.BLOCK_SIZE
    for cut in (
        512,
        514,
        600,
        second,
        second + 1,
        second + 69_000,
        second + 69_999,
        second + 70_000,
        len(data),
    ):
        for size in (100, 512, 4096, 1 << 20):
            stream = tar.ByteStream(pieces(cut, size))
            read = [(each.name, b"".join(each.payload)) for each in tar.members(stream, MARK)]
            whole = [(each.path, content) for each, content in files]
            assert read[:-1] == whole[: len(read) - 1]
            assert len(read) == (1 if cut < second else 2 if cut < len(data) else 3)


def spoiled(block, start, value):
    """The header block with a field overwritten and its checksum set right again."""
    block = block[:start] + value + block[start + len(value) :]
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


BLOCK_ = tar.header(entry(size=5), b"f", 5)
HOSTILE = {
    "negative size": spoiled(BLOCK_, 124, b"-0000000005\0"),
    "signed size": spoiled(BLOCK_, 124, b"+0000000005\0"),
    "python's octal": spoiled(BLOCK_, 124, b"0o00000005\0\0"),
    "underscores": spoiled(BLOCK_, 124, b"0_0000000_5\0"),
    "no number": spoiled(BLOCK_, 124, b"hello world\0"),
    "negative base 256": spoiled(BLOCK_, 124, b"\xff" * 12),
    "enormous base 256": spoiled(BLOCK_, 124, b"\x80" + b"\x7f" * 11),
    "wrong checksum": BLOCK_[:148] + b"0000000\0" + BLOCK_[156:],
    "no checksum": BLOCK_[:148] + b"\xff" * 8 + BLOCK_[156:],
    "a banner": b"Welcome to this machine!\n".ljust(512, b"*"),
    "huge extended header": spoiled(spoiled(BLOCK_, 156, b"x"), 124, b"77777777777\0"),
    "huge long name": spoiled(spoiled(BLOCK_, 156, b"L"), 124, b"00010000000\0"),
    "huge global header": spoiled(spoiled(BLOCK_, 156, b"g"), 124, b"\x80" + b"\x01" * 11),
}


@pytest.mark.parametrize("block", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_end_the_stream(block):
    with pytest.raises(KubeferryError):
        parsed(block + bytes(2048) + MARK)


def extended(data):
    return spoiled(spoiled(BLOCK_, 156, b"x"), 124, b"%011o\0" % len(data)) + data + tar.padding(len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"9" * 5000 + b" path=x\n",
        b"0 path=x\n",
        b"5 path=x\n",
        b"99 path=x\n",
        b"-9 path=x\n",
        b"path=x\n",
        b"11 path=x/yz",
        b"2 " * 1000,
        b"\xb2 x=\n",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_damaged_extended_headers_are_refused(data):
    with pytest.raises(ProtocolError, match=r"extended header"):
        parsed(extended(data) + BLOCK_ + bytes(512) + MARK)


def test_the_worst_extended_header_is_read_in_no_time():
    data = b"6 a=b\n" * ((1 << 20) // 6)
    assert parsed(extended(data) + spoiled(BLOCK_, 0, b"name") + bytes(512) + MARK)[0][0] == b"name"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_noise_never_raises_anything_else(data):
    try:
        parsed(data, piece=512)
    except KubeferryError:
        pass


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_archive_never_raises_anything_else(data):
    good = bytearray(
        archive((entry(b"a" * 150, size=600), b"x" * 600), (entry(b"b"), b""), nanoseconds=True) + MARK
    )
    for _change in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed(bytes(good), piece=512)
    except KubeferryError:
        pass


def test_what_comes_before_a_mark_is_bounded():
    assert tar.ByteStream([b"ban", b"ner", b"MA", b"RKrest"]).until(b"MARK", 100) == b"banner"
    with pytest.raises(ConnectionLost):
        tar.ByteStream([b"banner"]).until(b"MARK", 100)
    with pytest.raises(ProtocolError, match=r"100 bytes came without"):
        tar.ByteStream([b"x" * 60] * 1000).until(b"MARK", 100)


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(1, 20))
def test_byte_streams_lose_nothing(pieces, size):
    stream = tar.ByteStream(pieces)
    read = []
    while piece := stream.exactly(size):
        read.append(piece)
    assert b"".join(read) == b"".join(pieces)
    assert [len(piece) for piece in read[:-1]] == [size] * (len(read) - 1)


def test_our_numbers_are_what_the_format_says():
    header = tar.header(entry(uid=1_000_650_000, mtime=-5 * BILLION), b"f", 8**11)
    assert re.fullmatch(rb"0000644\0", header[100:108])
    assert header[108:116] == b"\x80" + (1_000_650_000).to_bytes(7, "big")
    assert header[124:136] == b"\x80" + (8**11).to_bytes(11, "big")
    assert header[136:148] == b"\xff" * 11 + b"\xfb"
