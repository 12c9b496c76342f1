# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Pieces of files that are reached by running commands: in a pod, or in tests on this machine."""

from __future__ import annotations

import functools
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from . import _pieces_scripts as scripts
from . import _tar as tar
from ._asking import Asker, Question
from ._checksum import hasher
from ._entry import DIGEST_BYTES
from ._errors import ConnectionLost, EndpointError, ProtocolError, broke_off
from ._names import display
from ._pieces import (
    BLOCKS,
    PAGE,
    UNKNOWN,
    ZERO,
    Asked,
    Closer,
    Part,
    Span,
    Work,
    block_length,
    islands,
    piece_count,
    piece_length,
    with_the_rest,
)
from ._pieces_scripts import BLOCK
from ._runner import Process, done, is_full, last_words
from ._scripts import BROKEN, FAILED

MAX_LINE = 200
"""Bytes of a digest tool's line about standard input: sha512 takes 137."""
PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-")


@dataclass(frozen=True)
class ShellPlace:
    """Where a tree lies that is reached by commands.

    `asker` runs them in its directory, `work` is the run's work directory below that (`./.kubeferry/run-...`), `tools`
    are those of `Facts`.
    """

    asker: Asker
    work: str
    tools: frozenset[str]

    @property
    def where(self) -> str:
        return self.asker.where


class ShellPieces:
    """Implements `PiecesSource` and `PiecesTarget` with the constant scripts of `_pieces_scripts` over a `Runner`."""

    def __init__(self, place: ShellPlace) -> None:
        self._place = place

    @property
    def place(self) -> ShellPlace:
        return self._place

    def quick(self, checksum: str) -> bool:
        tools = self._place.tools
        return checksum == "md5" or "openssl" in tools or (checksum == "sha256" and "quicksha" in tools)

    def digests(self, asked: Sequence[Asked], checksum: str) -> list[list[str]]:
        lines = [self._question(file) for file in asked]
        most = max((piece_count(file.size) for file in asked), default=0)
        answers = self._tell(scripts.PIECES, lines, checksum, most)
        return [_digests(file, answer, checksum) for file, answer in zip(asked, answers, strict=True)]

    def blocks(self, asked: Sequence[Closer], checksum: str) -> list[list[list[str]]]:
        questions = [
            b"%d %d %d %b\n" % (block_length(file.size) // BLOCK, *blocks(piece), escaped(b"./" + file.path))
            for file in asked
            for piece in file.pieces
        ]
        answers = iter(self._tell(scripts.BLOCKS, questions, checksum, BLOCKS))
        return [[_lines_of(next(answers), checksum) for _piece in file.pieces] for file in asked]

    def received(self, paths: Sequence[bytes]) -> dict[bytes, int]:
        files = [Asked(path, 0, 0, received=True) for path in paths]
        answers = self._tell(scripts.PIECES, [self._question(file) for file in files], "md5", 0)
        return {file.path: _head(answer)[0] for file, answer in zip(files, answers, strict=True) if answer}

    def read(self, works: Sequence[Work]) -> Generator[Iterator[Part], None, None]:
        lines = _lines(line for work in works for line in _wanted(work))
        process = self._start(scripts.READ, lines)
        with self._place.asker.told(process, lines, "Reading from") as stream:
            for work in works:
                yield self._parts(work, stream)
            if stream.exactly(4) != b"end\n":
                raise ProtocolError("the end mark is missing")

    def write(self, works: Sequence[Work], parts: Iterator[Iterator[Part]]) -> None:
        process = self._start(scripts.WRITE, self._orders(works, parts), self._place.work)
        try:
            ended = done(process, FAILED, BROKEN)
            filled, said = is_full(process.stderr()), last_words(process)
        finally:
            process.close()
        if filled:
            raise EndpointError(f"{self._place.where} is full: make room there and run again.")
        if ended == BROKEN:
            raise ConnectionLost(f"A command that wrote large files below {self._place.where} was killed.")
        if ended:
            raise EndpointError(
                f"Large files can't be written below {self._place.where}: {said or 'it said nothing'}. "
                "Check that its volume is writable."
            )

    # -- asking -----------------------------------------------------------------------------------

    def _question(self, file: Asked) -> bytes:
        name = f"{self._place.work}/tree/".encode() + file.path if file.received else b"./" + file.path
        blocks = piece_length(file.size) // BLOCK
        counts = (blocks, file.compare, piece_count(file.size), file.doubted)
        return b"%d %d %d %d %b\n" % (*counts, escaped(name))

    def _tell(self, script: str, questions: Sequence[bytes], checksum: str, most: int) -> list[bytes]:
        """What a script says about each question: at most so many digests, and another line."""
        if not questions:
            return []
        tool = f"{checksum}sum"
        if "openssl" in self._place.tools and (checksum != "md5" or tool not in self._place.tools):
            tool = "openssl"
        lines = _lines(questions)
        process = self._start(script, lines, checksum, tool)
        with self._place.asker.told(process, lines, "Reading pieces of files from") as stream:
            answers = [stream.until(b"\0", MAX_LINE * (most + 1)) for _question in questions]
            if stream.exactly(4) != b"end\0":
                raise ProtocolError("the end mark is missing")
        return answers

    def _parts(self, work: Work, stream: tar.ByteStream) -> Iterator[Part]:
        for span in work.send:
            padded = -(-span.length // BLOCK) * BLOCK
            payload = self._payload(work.entry.path, _exactly(stream, span.length, padded))
            yield Part(span.start, span.fresh, payload)

    def _payload(self, path: bytes, data: Iterator[memoryview]) -> Iterator[memoryview]:
        try:
            yield from data
        except ConnectionLost as exc:
            raise broke_off(exc, f"Reading {display(path)} from {self._place.where}") from exc

    # -- writing ----------------------------------------------------------------------------------

    def _orders(self, works: Sequence[Work], parts: Iterator[Iterator[Part]]) -> Iterator[bytes]:
        """The lines of the WRITE script, with the data between them."""
        mark = self._place.asker.mark.encode()
        for work, incoming in zip(works, parts, strict=True):
            for line in opening(work):
                yield marked(mark, line)
            for part in incoming:
                for start, data in islands(part):
                    yield from _data(start, data, mark)
            yield marked(mark, closing(work, self._place.tools))
        yield marked(mark, b"end\n")

    # -- running scripts ------------------------------------------------------------------------

    def _start(self, script: str, stdin: Iterable[bytes], *arguments: str) -> Process:
        asker = self._place.asker
        return asker.runner.start(asker.argv(script, *arguments), stdin)


def _lines(lines: Iterable[bytes]) -> Question:
    return Question(b"".join(lines) + b"end\n")


def escaped(name: bytes) -> bytes:
    """`name` as an argument of printf's `%b`: octal numbers for all but the plainest characters."""
    return b"".join(b"%c" % byte if byte in PLAIN else b"\\0%03o" % byte for byte in name)


def marked(mark: bytes, order: bytes) -> bytes:
    """An order as a script takes it: what a file holds can't begin with a mark that was made for this run."""
    return b"%b %b" % (mark, order)


def opening(work: Work) -> list[bytes]:
    """The first lines of the WRITE script for one file: all but what is sent."""
    lines = [b"%b %b\n" % (b"new" if work.anew else b"file", escaped(b"./" + work.entry.path))]
    for word, spans in ((b"keep", work.keep), (b"clear", work.clear)):
        lines += [b"%b %d %d\n" % (word, *blocks(span)) for span in spans]
    return lines


def closing(work: Work, tools: frozenset[str]) -> bytes:
    """Its last line for one file, where the target has these tools."""
    nanoseconds = work.entry.mtime
    time = tar.decimal(nanoseconds) if "gnutar" in tools else b"%d" % (nanoseconds // 1_000_000_000)
    return b"size %d @%b\n" % (work.entry.size, time)


def _wanted(work: Work) -> Iterator[bytes]:
    """The lines of the READ script for one file."""
    yield b"file %b\n" % escaped(b"./" + work.entry.path)
    for span in work.send:
        yield b"part %d %d\n" % blocks(span)


def blocks(span: Span) -> tuple[int, int]:
    """Where a span begins and how long it is, in blocks."""
    return span.start // BLOCK, -(-span.length // BLOCK)


def _exactly(stream: tar.ByteStream, length: int, padded: int) -> Iterator[memoryview]:
    """The next `length` bytes, and passes over what fills them up to `padded`."""
    missing = padded
    while missing:
        data = stream.some(missing)
        if not data:
            raise ConnectionLost("the stream ended in the middle of a file")
        passed = padded - missing
        missing -= len(data)
        if passed < length:
            yield data[: length - passed]


def _data(start: int, data: bytes, mark: bytes) -> Iterator[bytes]:
    """Data for the WRITE script: in blocks, and in pages before the first and after the last whole block.

    What ends in the middle of a page, which only the end of a file does, is filled up; the file is cut afterwards.
    """
    data += bytes(-len(data) % PAGE)
    head = min(-start % BLOCK, len(data))
    middle = (len(data) - head) // BLOCK * BLOCK
    at = 0
    for unit, length in ((PAGE, head), (BLOCK, middle), (PAGE, len(data) - head - middle)):
        if length:
            yield marked(mark, b"data %d %d %d\n" % (unit, (start + at) // unit, length // unit))
            yield data[at : at + length]
        at += length


def _head(answer: bytes) -> tuple[int, int]:
    """Size and allocated bytes of a file, from the first line about it. Raises ProtocolError."""
    found = re.fullmatch(rb"(\d{1,19}) (\d{1,19})", answer.partition(b"\n")[0])
    if found is None:
        raise ProtocolError(f"stat printed {display(answer[:80])}, which can't be")
    return int(found[1]), int(found[2]) * 512


def _digests(file: Asked, answer: bytes, checksum: str) -> list[str]:
    """The digests in what the PIECES script says about a file."""
    size, allocated = _head(answer) if answer else (0, 0)
    return with_the_rest(_told(file, answer, size, allocated, checksum), file, size)


def _told(file: Asked, answer: bytes, size: int, allocated: int, checksum: str) -> list[str]:
    """The digests of the pieces that are there, as far as they were asked for."""
    length = piece_length(file.size)
    count = min(piece_count(file.size), -(-size // length))
    if not (allocated or file.doubted):
        return [ZERO] * count
    if allocated >= size:
        count = min(count, file.compare)
    found = re.findall(rb"^(%b|zeros$|data$)" % _line(checksum), answer, re.MULTILINE)
    # A tool that fails, or a file that changes, leaves the others out of step: then nothing is known.
    if len(found) != count:
        return [UNKNOWN] * count
    lengths = (min(length, size - number * length) for number in range(count))
    return [_digest(said, checksum, long) for said, long in zip(found, lengths, strict=True)]


def _line(checksum: str) -> bytes:
    """How a digest tool's line begins."""
    return rb"[0-9a-f]{%d}(?= [ *])" % (2 * DIGEST_BYTES[checksum])


def _lines_of(answer: bytes, checksum: str) -> list[str]:
    """The digests in what the BLOCKS script says about a piece."""
    return [said.decode("ascii") for said in re.findall(rb"^%b" % _line(checksum), answer, re.MULTILINE)]


def _digest(said: bytes, checksum: str, length: int) -> str:
    if said == b"data":
        return UNKNOWN
    return ZERO if said in (b"zeros", of_zeros(checksum, length)) else said.decode("ascii")


@functools.lru_cache(maxsize=1024)
def of_zeros(checksum: str, length: int) -> bytes:
    """The digest of so many zeros."""
    digest = hasher(checksum)
    zeros = bytes(min(length, 1 << 20))
    for start in range(0, length, len(zeros) or 1):
        digest.update(zeros[: length - start])
    return digest.hexdigest().encode("ascii")
