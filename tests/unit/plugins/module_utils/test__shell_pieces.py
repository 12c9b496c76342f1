# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod says about pieces is taken for nothing but a hint, and what it sends is bounded."""

from __future__ import annotations

import hashlib
import os
import random
import tracemalloc
from contextlib import closing
from pathlib import Path

import engine
import pytest
from piecekit import WORK, Ferry, sparse
from toolbox import Box, dying_dd
from trees import NAMES

from ansible_collections.kubeferry.pvc.plugins.module_utils import _pieces, _pieces_scripts
from ansible_collections.kubeferry.pvc.plugins.module_utils._asking import Asker
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ConnectionLost,
    EndpointError,
    ExecError,
    ProtocolError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._pieces import (
    UNKNOWN,
    ZERO,
    Asked,
    Closer,
    Span,
    Work,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_pieces import (
    ShellPieces,
    ShellPlace,
    escaped,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree

PIECE, BLOCK = 1 << 17, 1 << 16
DATA = random.Random(9).randbytes(3 * PIECE + 5)
KINDS = pytest.mark.parametrize("kind", ["busybox", "gnu"])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(_pieces, "PIECE", PIECE)


class Said:
    """A runner whose commands say the same whatever they are asked."""

    where = "pod bad/liar"

    def __init__(self, pieces, status=0):
        self._pieces = pieces
        self._status = status

    def start(self, argv, stdin=None, stdin_size=None):
        return Saying(iter(self._pieces), self._status)


class Saying:
    def __init__(self, pieces, status):
        self._pieces, self._status = pieces, status
        self.closed = False

    def read(self):
        return next(self._pieces, b"")

    def wait(self):
        return self._status

    def stderr(self):
        return b"sh: it hurts\n"

    def close(self):
        self.closed = True


def liar(*pieces, status=0) -> ShellPieces:
    return ShellPieces(ShellPlace(Asker(Said(pieces, status), "/mnt", "mark"), "./w", frozenset()))


def asked(path=b"file", size=3 * PIECE + 5, **more) -> Asked:
    return Asked(path, size, **{"compare": _pieces.piece_count(size), **more})


def lines(*digests):
    return b"".join(digest.encode() + b"  -\n" for digest in digests)


def md5(data):
    return hashlib.md5(data).hexdigest()


MANY = [md5(b"%d" % number) for number in range(4)]
HEAD = b"%d 800\n" % len(DATA)


@pytest.mark.parametrize(
    ("answer", "digests"),
    [
        (HEAD + lines(*MANY), MANY),
        (b"", [ZERO] * 4),
        (HEAD + lines(*MANY[:3]), [UNKNOWN] * 4),
        (HEAD + lines(*MANY, MANY[0]), [UNKNOWN] * 4),
        (HEAD + b"md5sum: not found\n" * 4, [UNKNOWN] * 4),
        (HEAD + lines(*MANY[:3], MANY[0][:-1]), [UNKNOWN] * 4),
        (HEAD + lines(*(digest.upper() for digest in MANY)), [UNKNOWN] * 4),
        (b"%d 0\n" % len(DATA), [ZERO] * 4),
        (b"5 8\n" + lines(md5(b"abcde")), [md5(b"abcde"), ZERO, ZERO, ZERO]),
        (b"%d 99999\n" % PIECE, [UNKNOWN, ZERO, ZERO, ZERO]),
        (b"9999999999999 8\n" + b"data\nzeros\n" * 2, [UNKNOWN, ZERO] * 2),
    ],
    ids="good absent few many noise short upper nothing shorter silent grown".split(),
)
def test_what_a_pod_says_about_a_file(answer, digests):
    assert liar(b"mark\n", answer + b"\0", b"end\0").digests([asked()], "md5") == [digests]


@pytest.mark.parametrize(
    ("answer", "digests"),
    [
        (lines(*MANY[:2]), MANY[:2]),
        (b"", []),
        (b"sh: md5sum: not found\n", []),
        (lines(MANY[0].upper(), MANY[1][:-1]), []),
    ],
    ids="good nothing noise upper".split(),
)
def test_what_a_pod_says_about_the_blocks_of_a_piece(answer, digests):
    question = Closer(b"file", len(DATA), [Span(PIECE, PIECE)])
    assert liar(b"mark\n", answer + b"\0", b"end\0").blocks([question], "md5") == [[digests]]


def test_more_blocks_than_there_can_be():
    question = Closer(b"file", len(DATA), [Span(PIECE, PIECE)])
    with pytest.raises(ProtocolError, match=r"/mnt in pod bad/liar"):
        liar(b"mark\n", *[lines(*MANY)] * 1000).blocks([question], "md5")


@KINDS
def test_blocks_of_real_files(boxes, tmp_path, kind):
    ferry = Ferry(boxes, tmp_path, kind)
    memory = set(os.listdir("/dev/shm"))
    for name in (b"file", b"-rf", b"\xff\n\n"):
        ferry.place(ferry.source, name, DATA)
    ferry.place(ferry.source, "short", DATA[: PIECE + 7])
    os.mkfifo(ferry.source / "fifo")
    os.symlink("file", ferry.source / "link")
    spans = [Span(0, PIECE), Span(PIECE, PIECE), Span(3 * PIECE, 5)]
    all_there = [
        [md5(DATA[at : at + BLOCK]) for at in range(*way)]
        for way in ((0, PIECE, BLOCK), (PIECE, 2 * PIECE, BLOCK))
    ]
    all_there.append([md5(DATA[3 * PIECE :])])
    names = (b"file", b"-rf", b"\xff\n\n", b"short", b"fifo", b"link", b"absent")
    questions = [Closer(name, len(DATA), spans) for name in names]
    told = ferry.transport._source.blocks(questions, "md5")
    assert told == [*[all_there] * 3, [all_there[0], [md5(DATA[PIECE : PIECE + 7])], []], *[[[]] * 3] * 3]
    assert ferry.between("local", "local")._source.blocks(questions, "md5") == told
    assert set(os.listdir("/dev/shm")) == memory


@pytest.mark.parametrize("head", [b"-1 8", b"x y", b"5", b"1 2 3", b"9" * 20 + b" 1", b"\xff 8"], ids=repr)
def test_a_size_that_can_not_be(head):
    with pytest.raises(ProtocolError, match="which can't be"):
        liar(b"mark\n", head + b"\n\0end\0").digests([asked()], "md5")
    with pytest.raises(ProtocolError, match="which can't be"):
        liar(b"mark\n", head + b"\n\0end\0").received([b"file"])


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ((b"mark\n", HEAD), ConnectionLost),
        ((b"mark\n", HEAD + lines(*MANY) + b"\0"), ProtocolError),
        ((b"mark\n", HEAD + lines(*MANY) + b"\0\0end\0"), ProtocolError),
        ((b"mark\n", *[b"x" * 1000] * 100), ProtocolError),
        ((b"banner\n",), ExecError),
        ((), ExecError),
    ],
    ids="cut unended more endless banner nothing".split(),
)
def test_an_answer_that_is_out_of_form(said, error):
    with pytest.raises(error, match=r"/mnt in pod bad/liar"):
        liar(*said).digests([asked()], "md5")


def test_endless_digests_take_no_memory():
    def flood():
        yield b"mark\n"
        for _number in range(20_000):
            yield b"x" * 65536

    tracemalloc.start()
    with pytest.raises(ProtocolError):
        ShellPieces(ShellPlace(Asker(Said(flood()), "/mnt", "mark"), "./w", frozenset())).digests(
            [asked()], "md5"
        )
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_directory_that_is_not_there(boxes):
    end = ShellPieces(ShellPlace(Asker(boxes["busybox"].runner(), "/nowhere", "mark"), "./w", frozenset()))
    with pytest.raises(EndpointError, match=r"/nowhere in the busybox box can't be entered"):
        end.digests([asked()], "md5")


def read(end, *spans) -> list[bytes]:
    work = Work(Ferry.entry(None, b"file", len(DATA)), send=list(spans))
    return [b"".join(part.payload) for parts in end.read([work]) for part in parts]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ((b"mark\n", b"x" * 100), ConnectionLost),
        ((b"mark\n", b"x" * PIECE), ProtocolError),
        ((b"mark\n", b"x" * 3 * PIECE, b"end\n"), ProtocolError),
    ],
    ids="short unended long".split(),
)
def test_a_stream_of_another_length(said, error):
    with pytest.raises(error, match=r"^Reading .*from /mnt in pod bad/liar broke off: [a-z][^.]*\.$"):
        read(liar(*said), Span(0, PIECE))


@KINDS
def test_parts_in_any_place(boxes, tmp_path, kind):
    ferry = Ferry(boxes, tmp_path, kind)
    ferry.place(ferry.source, "file", DATA)
    spans = [Span(0, 5), Span(PIECE, 1), Span(2 * PIECE, PIECE + 5), Span(3 * PIECE, 5), Span(40 * PIECE, 7)]
    assert read(ferry.transport._source, *spans) == [
        DATA[span.start : span.end].ljust(span.length, b"\0") for span in spans
    ]


@KINDS
def test_digests_of_real_files(boxes, tmp_path, kind):
    ferry = Ferry(boxes, tmp_path, kind)
    end, digests = ferry.transport._source, [md5(DATA[at : at + PIECE]) for at in range(0, len(DATA), PIECE)]
    zeros = bytes(2 * PIECE)
    for name in (b"file", b"-rf", b"\xff\n\n"):
        ferry.place(ferry.source, name, DATA)
        assert end.digests([asked(name)], "md5") == [digests]
    ferry.place(ferry.source, "zeros", zeros + b"x" + zeros)
    sparse(ferry.source / "hole", 4 * PIECE)
    sparse(ferry.source / "sparse", 3 * PIECE, (PIECE + 9, b"\n"))
    os.mkfifo(ferry.source / "fifo")
    os.symlink("file", ferry.source / "link")
    question = [
        asked(b"file", compare=2),
        asked(b"file", size=2 * PIECE),
        asked(b"zeros", size=5 * PIECE),
        asked(b"hole", size=4 * PIECE),
        asked(b"hole", size=4 * PIECE, doubted=True),
        asked(b"sparse", size=3 * PIECE, compare=0),
        *(asked(name) for name in (b"fifo", b"link", b"absent")),
    ]
    some = [ZERO, ZERO, md5(b"x" + bytes(PIECE - 1)), ZERO, ZERO]
    assert end.digests(question, "md5") == [
        digests[:2],
        digests[:2],
        some,
        *[[ZERO] * 4] * 2,
        [ZERO, UNKNOWN, ZERO],
        *[[ZERO] * 4] * 3,
    ]


def test_openssl_takes_the_place_of_a_slow_or_missing_tool(tmp_path):
    box = Box(str(tmp_path / "box"), "openssl", without=["md5sum", "sha256sum"])
    (tmp_path / "file").write_bytes(DATA)
    end = ShellPieces(ShellPlace(Asker(box.runner(), str(tmp_path), "mark"), "./w", frozenset({"openssl"})))
    for checksum in ("md5", "sha256"):
        want = [hashlib.new(checksum, DATA[at : at + PIECE]).hexdigest() for at in range(0, len(DATA), PIECE)]
        assert end.digests([asked()], checksum) == [want]
        assert end.quick(checksum)


@pytest.mark.parametrize(
    ("release", "new"), [("1.35.0", False), ("1.36.1", True), ("1.37.0", True), ("1.40.0", True)]
)
def test_a_newer_busybox_is_quick_where_the_cpu_has_the_instructions(tmp_path, release, new):
    box = Box(str(tmp_path / "box"), "busybox", without=["sha256sum"])
    shim = tmp_path / "box" / "sha256sum"
    shim.write_text(f"#!/bin/sh\necho 'BusyBox v{release} (Debian) multi-call binary.' >&2\n")
    shim.chmod(0o755)
    quick = new and "sha_ni" in Path("/proc/cpuinfo").read_text()
    tree = ShellTree(box.runner(), str(tmp_path), engine.progress())
    assert (tree.pieces().quick("sha256"), tree.pieces().quick("sha512")) == (quick, False)


def test_without_a_tool_for_digests_all_is_sent(tmp_path):
    box = Box(str(tmp_path / "box"), "gnu", without=["md5sum"])
    ferry = Ferry({"gnu": box}, tmp_path, "gnu")
    ferry.place(ferry.source, "file", DATA)
    have = ferry.place(ferry.work, "file", DATA[: 2 * PIECE])
    assert ferry.move("file", basis={b"file": have}) == len(DATA)
    assert ferry.same()


@pytest.mark.parametrize("tool", ["tr", "wc"])
def test_without_a_tool_to_look_for_zeros_they_are_found_by_their_digest(tmp_path, tool):
    ferry = Ferry({"gnu": Box(str(tmp_path / "box"), "gnu", without=[tool])}, tmp_path, "gnu")
    sparse(ferry.source / "sparse", 3 * PIECE, (PIECE + 9, b"\n"))
    answer = ferry.transport._source.digests([asked(b"sparse", size=3 * PIECE, compare=0)], "md5")
    assert answer == [[ZERO, md5(bytes(9) + b"\n" + bytes(PIECE - 10)), ZERO]]


@KINDS
def test_what_is_received_is_measured(boxes, tmp_path, kind):
    ferry = Ferry(boxes, tmp_path, "local", kind)
    for number, name in enumerate(NAMES):
        ferry.place(ferry.work, name, bytes(number))
    found = ferry.transport._target.received([*NAMES, b"absent"])
    assert found == {name: number for number, name in enumerate(NAMES)}
    assert ferry.transport._target.received([]) == {}


def test_a_name_as_an_argument_of_printf():
    assert escaped(b"./a-b_c.D9") == b"./a-b_c.D9"
    assert escaped(b"./\n\\0%s\xff '") == b"./\\0012\\01340\\0045s\\0377\\0040\\0047"


def test_no_value_is_a_part_of_a_script(boxes, tmp_path):
    ferry = Ferry(boxes, tmp_path, "gnu", "busybox")
    name = b"$(touch pwned)`touch pwned`;touch pwned;'\"\\"
    ferry.place(ferry.source, name, DATA)
    ferry.move(name)
    assert ferry.same(name)
    scripts = {argv[2] for meter in ferry.meters.values() for argv in meter.runner.started}
    assert not [
        script for script in scripts if "pwned" in script or WORK in script or str(tmp_path) in script
    ]
    assert not list(tmp_path.rglob("pwned"))


@KINDS
def test_after_a_dd_that_is_killed_no_content_is_taken_for_orders(tmp_path, kind):
    orders = b"file ./../../../precious\nnew ./../../../precious\n" * 9 + b"end\n"
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    with open(tmp_path / "source" / "file", "wb") as stream:
        stream.seek(8 << 20)
        stream.write(orders * ((2 << 20) // len(orders)))
    (tmp_path / "target" / "precious").write_bytes(b"kept")
    box = dying_dd(tmp_path, kind, "*/target:bs=65536\\ seek=*")
    outcome = engine.copy(engine.local(tmp_path / "source"), engine.shell(box, tmp_path / "target"))
    assert (tmp_path / "used").exists()
    assert engine.whole(outcome)
    assert outcome.retries == 1
    assert "was killed" in outcome.trouble[0]
    assert (tmp_path / "target" / "precious").read_bytes() == b"kept"
    assert (tmp_path / "target" / "file").read_bytes() == (tmp_path / "source" / "file").read_bytes()


@pytest.mark.parametrize("name", [b"./../x", b"./a/../../x", b"./a/..", b"/x", b"x", b".hidden"])
@KINDS
def test_a_script_takes_no_name_that_leads_out_of_its_directory(boxes, tmp_path, kind, name):
    (tmp_path / "target" / "work").mkdir(parents=True)
    place = ShellPlace(Asker(boxes[kind].runner(), str(tmp_path / "target")), "./work", frozenset())
    process = ShellPieces(place)._start(
        _pieces_scripts.WRITE, [place.asker.mark.encode() + b" new %b\n" % escaped(name)], "./work"
    )
    with closing(process):
        assert process.wait() == 73
        assert b"a name that leads out" in process.stderr()
    assert not list(tmp_path.rglob("tree"))
