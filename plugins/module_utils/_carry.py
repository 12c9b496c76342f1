# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Move contents from pod to pod, or within one, without a byte of them passing this machine.

The transports here give orders over a `Link`; it is the pods that read, send and write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from ._carry_scripts import NAMES_BLOCK
from ._entry import Entry
from ._errors import ProtocolError
from ._link import Link
from ._pieces import Closer, Span, Work, block_length, leave_out, pieces_to_send
from ._pieces_scripts import BLOCK
from ._pieces_transport import QUICK, PiecesTransport
from ._progress import Progress
from ._scripts import NAMES_BYTES
from ._shell_pieces import ShellPieces, blocks, closing, of_zeros, opening
from ._shell_tree import ShellTree
from ._tar import BLOCK_SIZE
from ._transport import LARGE_BYTES, Moved, PiecewiseTransport, TarTransport, Transport

T = TypeVar("T")

GROUP_BYTES = 64 << 20
"""Bytes that go by before progress is heard of."""
ARCHIVE_END = 20 * BLOCK_SIZE
"""What GNU tar fills up the last record to."""
MOST_OWNER = 8**7 - 1
"""The highest owner that a header has room for (POSIX 1003.1, pax)."""
SHORT_NAME = 98
"""Bytes of a name that a header has room for, beside the leading `./`."""


class CarriedFiles:
    """Whole files, by tar at both ends. BusyBox's tar can't tell times before 1970, so `aside` moves such files.

    Of owners it tells the last 24 bits: a file of 16777216 arrives as root's, set-id bits and all, and is taken for one
    that has no owner and mode of its own yet.
    """

    name = "tar"

    def __init__(self, link: Link, aside: Transport, old: bool, progress: Progress) -> None:
        self._link = link
        self._aside = aside
        self._old = old
        self._progress = progress

    def move(self, fresh: Sequence[Entry], changed: Sequence[Entry], checksum: str) -> Moved:
        entries = [*fresh, *changed]
        groups = list(grouped([entry for entry in entries if self._old or entry.mtime >= 0]))
        if groups:
            self._link.carry([_order(group) for group in groups], _each(groups, self._took))
        aside = () if self._old else [entry for entry in entries if entry.mtime < 0]
        moved = self._aside.move(aside, (), checksum)
        foreign = [] if self._old else [entry for entry in entries if max(entry.uid, entry.gid) > MOST_OWNER]
        size = moved.bytes + sum(entry.size for group in groups for entry in group)
        return Moved(size, [*moved.bare, *foreign])

    def _took(self, group: Sequence[Entry]) -> None:
        self._progress.advance(sum(entry.size for entry in group), files=len(group))


class CarriedPieces(PiecesTransport):
    """Pieces of large files, by dd at both ends.

    dd writes zeros where it reads some. So of a file with holes no block is sent that is nothing else.
    """

    def __init__(
        self, link: Link, source: ShellPieces, target: ShellPieces, checksum: str, progress: Progress
    ) -> None:
        super().__init__(source, target, checksum, progress)
        self._link = link
        self._shell = source
        self._tools = target.place.tools

    def _deliver(self, works: Sequence[Work]) -> None:
        self._leave_holes([work for work in works if work.entry.holes])
        spans = [span for work in works for span in _strides(work)]
        orders = [order for work in works for order in self._orders(work)]
        self._link.carry(orders, _each(spans, lambda span: self._passed(span.length)))
        for _work in works:
            self._progress.advance(0, files=1)

    def _leave_holes(self, works: Sequence[Work]) -> None:
        asked = [
            Closer(work.entry.path, work.entry.size, [each for each in pieces_to_send(work) if each.fresh])
            for work in works
        ]
        for work, file, told in zip(works, asked, self._shell.blocks(asked, QUICK), strict=True):
            length = block_length(file.size)
            leave_out(
                work,
                {
                    piece.start: [
                        digest.encode() == of_zeros(QUICK, min(length, piece.length - number * length))
                        for number, digest in enumerate(digests)
                    ]
                    for piece, digests in zip(file.pieces, told, strict=True)
                },
            )

    def _orders(self, work: Work) -> Iterator[bytes]:
        yield from opening(work)
        for span in _strides(work):
            yield b"part %d %d\n" % blocks(span)
        yield closing(work, self._tools)


def carrying(link: Link, source: ShellTree, target: ShellTree, progress: Progress) -> Transport:
    """The transport that carries over `link`, large files in pieces."""
    old = "gnutar" in source.facts().tools
    return PiecewiseTransport(
        CarriedFiles(link, TarTransport(source, target), old, progress),
        target,
        lambda checksum: CarriedPieces(link, source.pieces(), target.pieces(), checksum, progress),
        large=LARGE_BYTES,
    )


def grouped(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The entries in groups that one tar can be given."""
    group: list[Entry] = []
    names = size = 0
    for entry in entries:
        names += len(entry.path) + 3
        size += entry.size
        if group and (names > NAMES_BYTES or size > GROUP_BYTES):
            yield group
            group, names, size = [], len(entry.path) + 3, entry.size
        group.append(entry)
    if group:
        yield group


def _each(ordered: Iterable[T], took: Callable[[T], None]) -> Callable[[], None]:
    """What is called each time that the next of what was ordered has been taken. Raises ProtocolError."""
    left = iter(ordered)

    def one_more() -> None:
        try:
            each = next(left)
        except StopIteration:
            raise ProtocolError("more was taken than had been ordered") from None
        took(each)

    return one_more


def _order(group: Sequence[Entry]) -> bytes:
    names = b"".join(b"./" + entry.path + b"\0" for entry in group)
    archive = sum(archived(entry) for entry in group) + ARCHIVE_END
    count = -(-len(names) // NAMES_BLOCK)
    padded = names.ljust(count * NAMES_BLOCK, b"\0")
    return b"tar %d %d %d\n" % (len(names), count, -(-archive // BLOCK)) + padded


def archived(entry: Entry) -> int:
    """The most that a file takes up in an archive: a header, one for its exact time, one for a long name."""
    name = len(entry.path) + 64
    headers = 3 + (2 - -name // BLOCK_SIZE if len(entry.path) > SHORT_NAME else 0)
    return (headers - -entry.size // BLOCK_SIZE) * BLOCK_SIZE


def _strides(work: Work) -> Iterator[Span]:
    """What is to be sent, in parts after each of which there is progress."""
    for span in work.send:
        for start in range(span.start, span.end, GROUP_BYTES):
            yield Span(start, min(GROUP_BYTES, span.end - start), span.fresh)
