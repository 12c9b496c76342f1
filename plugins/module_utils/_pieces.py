# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A large file in pieces: which of them must be sent, and what two ends are asked to do for that.

Both ends cut a file at the same places, since the length of a piece follows from the file's size alone. A digest of
each piece says where the two differ. It proves nothing: the whole file's digest, taken where it has landed, does.

A piece that differs from an older version's is cut once more, into blocks, where both ends can tell their digests: what
changed is mostly less than a piece.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ._entry import Entry

PIECE = 4 << 20
"""Bytes of a piece: to digest one costs some 4 ms beside the reading, to send one some 60 ms."""
BLOCKS = 64
"""Into how many blocks a piece is cut. A command takes some 6 ms for the digests of all of them."""
LEAST_BLOCK = 1 << 16
"""What dd reads and writes at a time."""
MOST_PIECES = 8192
"""From 32 GiB on the pieces become longer instead of more."""
PAGE = 4096
"""What a file system allocates at a time, mostly: data is told from holes in this unit."""
GAP = 1 << 16
"""Zeros that are worth to be left out: each run of data costs a command at the target."""

ZERO = ""
"""In place of a piece's digest: nothing but zeros."""
UNKNOWN = "?"
"""In place of a piece's digest: there is something, but nobody knows what."""


def piece_length(size: int) -> int:
    """The length of the pieces of a file of `size` bytes: a power of two."""
    length = PIECE
    while size > length * MOST_PIECES:
        length *= 2
    return length


def piece_count(size: int) -> int:
    return -(-size // piece_length(size))


def with_the_rest(told: list[str], file: Asked, size: int) -> list[str]:
    """The digests `told` of a file of which `size` bytes are there, with zeros for what isn't."""
    count, there = piece_count(file.size), -(-size // piece_length(file.size))
    if there >= count:
        return told
    return told + [UNKNOWN] * (there - len(told)) + [ZERO] * (count - there)


def block_length(size: int) -> int:
    """The length of the blocks in the pieces of a file of `size` bytes: a power of two."""
    return max(piece_length(size) // BLOCKS, LEAST_BLOCK)


@dataclass(frozen=True)
class Asked:
    """A file whose pieces are asked for. `size` says how it is cut, and how many pieces are of interest.

    Of the first `compare` the digests are wanted, of the others just whether they are zeros, as far as that comes
    cheap. `doubted`: a file that takes up no room is read all the same. `received` means the file on its way into the
    tree and not the one in it.
    """

    path: bytes
    size: int
    compare: int
    doubted: bool = False
    received: bool = False


@dataclass(frozen=True)
class Span:
    """`length` bytes from `start` on. `fresh`: the target has nothing but zeros there."""

    start: int
    length: int
    fresh: bool = False

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Closer:
    """Pieces of a file of `size` bytes in the tree, whose blocks are asked for."""

    path: bytes
    size: int
    pieces: Sequence[Span]


@dataclass
class Work:
    """What makes one file at the target.

    Parts of the file in the tree to `keep`, parts to `clear` to zeros, and parts to `send`, each in order. All the rest
    is there, or a hole. `anew`: what was received before is removed first.
    """

    entry: Entry
    anew: bool = False
    send: list[Span] = field(default_factory=list)
    keep: list[Span] = field(default_factory=list)
    clear: list[Span] = field(default_factory=list)


@dataclass
class Part:
    """Data on its way: what belongs at `start`, with `fresh` as in `Span`. Iterate `payload` before the next part."""

    start: int
    fresh: bool
    payload: Iterator[memoryview]


class PiecesEnd(Protocol):
    """An end whose files are cut into pieces."""

    def digests(self, asked: Sequence[Asked], checksum: str) -> list[list[str]]:
        """For each file the digests of its pieces, ZERO or UNKNOWN; fewer where nobody asked for the rest.

        Of a file that is shorter than it was said to be, or gone, what lies beyond its end counts as zeros: to send
        those would take as long as anybody likes who says how long it is.
        """

    def blocks(self, asked: Sequence[Closer], checksum: str) -> list[list[list[str]]]:
        """For each file and each of its pieces the digests of the blocks; none where this end can't tell."""

    def quick(self, checksum: str) -> bool:
        """Whether this end digests by `checksum` at least as fast as by md5."""


class PiecesSource(PiecesEnd, Protocol):
    """An end that files are read from."""

    def read(self, works: Sequence[Work]) -> Generator[Iterator[Part], None, None]:
        """For each work the parts that its `send` asks for. Holes may be left out where the target has zeros.

        As many bytes come as were asked for, whatever becomes of the file: it is filled up with zeros.
        """


class PiecesTarget(PiecesSource, Protocol):
    """An end that files are written to, in its work directory."""

    def received(self, paths: Sequence[bytes]) -> dict[bytes, int]:
        """How many bytes long those files are that have been received, whole or in part."""

    def write(self, works: Sequence[Work], parts: Iterator[Iterator[Part]]) -> None:
        """Bring each file to its size and time with what comes in. What was there before is changed in place."""


def work(entry: Entry, source: Sequence[str], received: Sequence[str] | None, present: Sequence[str]) -> Work:
    """What to do for `entry`, by the digests at the source, of what was received and of the file in the target's tree.

    The source has something after the end of its list, the target nothing after the ends of its two. `received` is None
    where nothing that was received is to be built on.
    """
    length = piece_length(entry.size)
    made = Work(entry, anew=received is None)
    for number in range(piece_count(entry.size)):
        want, have = _at(source, number, UNKNOWN), _at(received or (), number, ZERO)
        start = number * length
        span = Span(start, min(length, entry.size - start), have == ZERO)
        if want == have != UNKNOWN:
            continue
        if want == ZERO:
            _add(made.clear, span)
        elif want == _at(present, number, ZERO) != UNKNOWN:
            _add(made.keep, span)
        else:
            _add(made.send, span)
    return made


def pieces_to_send(made: Work) -> Iterator[Span]:
    """What is to be sent, piece by piece."""
    length = piece_length(made.entry.size)
    for span in made.send:
        for start in range(span.start, span.end, length):
            yield Span(start, min(length, span.end - start), span.fresh)


def refine(made: Work, same: Mapping[int, Sequence[bool]]) -> None:
    """Keep what the file in the target's tree has: `same` says of pieces, by their start, which of their blocks."""
    length = block_length(made.entry.size)
    send: list[Span] = []
    keep: list[Span] = []
    for piece in pieces_to_send(made):
        for start in range(piece.start, piece.end, length):
            block = Span(start, min(length, piece.end - start), piece.fresh)
            number, known = (start - piece.start) // length, same.get(piece.start, ())
            _add(keep if number < len(known) and known[number] else send, block)
    made.send = send
    made.keep += keep


def leave_out(made: Work, zeros: Mapping[int, Sequence[bool]]) -> None:
    """Leave out blocks that are all zeros: `zeros` says of pieces where the target has none, by their start, which."""
    length = block_length(made.entry.size)
    send: list[Span] = []
    for piece in pieces_to_send(made):
        known = zeros.get(piece.start, ())
        for number, start in enumerate(range(piece.start, piece.end, length)):
            if not (number < len(known) and known[number]):
                _add(send, Span(start, min(length, piece.end - start), piece.fresh))
    made.send = send


def _at(digests: Sequence[str], number: int, otherwise: str) -> str:
    return digests[number] if number < len(digests) else otherwise


def _add(spans: list[Span], span: Span) -> None:
    """Add a span, joined with the one before it where they meet."""
    if spans and spans[-1].end == span.start and spans[-1].fresh == span.fresh:
        span = Span(spans[-1].start, spans.pop().length + span.length, span.fresh)
    spans.append(span)


def islands(part: Part) -> Iterator[tuple[int, bytes]]:
    """Where to write what, in runs of at most PIECE bytes. Long runs of zeros are left out where the target has them.

    Runs begin and end at whole pages, except for the end of the part.
    """
    buffer, start = bytearray(), part.start
    for data in part.payload:
        buffer += data
        while len(buffer) >= PIECE:
            yield from _runs(bytes(buffer[:PIECE]), start, part.fresh)
            del buffer[:PIECE]
            start += PIECE
    yield from _runs(bytes(buffer), start, part.fresh)


def _runs(data: bytes, start: int, fresh: bool) -> Iterator[tuple[int, bytes]]:
    if not fresh:
        if data:
            yield start, data
        return
    first = last = -1
    for page in _full_pages(data):
        if first >= 0 and page - last > GAP:
            yield start + first, data[first : last + PAGE]
            first = -1
        first, last = (page if first < 0 else first), page
    if first >= 0:
        yield start + first, data[first : last + PAGE]


def _full_pages(data: bytes) -> Iterator[int]:
    """Where pages begin that aren't all zeros; the last may be shorter."""
    zeros = bytes(PAGE)
    for at in range(0, len(data), PAGE):
        page = data[at : at + PAGE]
        if page != zeros[: len(page)]:
            yield at
