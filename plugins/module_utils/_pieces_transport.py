# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Move large files by pieces: a copy that was cut goes on, of a file that changed little is sent little, holes stay.

Files are written in place in the work directory, from the front to the back, so that whatever ends a move, what it has
done is there for the next one. No state is kept beside the files: what they hold is found out by digests, or taken on
trust in the first place, as the whole file's digest tells in the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence

from ._beside import Beside
from ._entry import Entry
from ._pieces import (
    UNKNOWN,
    ZERO,
    Asked,
    Closer,
    Part,
    PiecesSource,
    PiecesTarget,
    Span,
    Work,
    piece_count,
    piece_length,
    pieces_to_send,
    refine,
    work,
)
from ._progress import Progress

QUICK = "md5"
"""What pieces are compared by where an end takes several times as long for the copy's own algorithm."""

SAMPLE = 8
"""Pieces of a file whose blocks are compared to see whether it is of use."""
WORTH = 4
"""One block in so many has to be the same: to read and digest a byte once more costs a quarter of sending it."""


class PiecesTransport:
    """Moves regular files between two ends. `checksum` is the copy's own."""

    def __init__(self, source: PiecesSource, target: PiecesTarget, checksum: str, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._checksum = checksum
        self._progress = progress
        self._sent = 0
        self._moved: set[bytes] = set()
        self._begun: set[bytes] = set()

    def move(
        self, entries: Sequence[Entry], basis: Mapping[bytes, int], begun: Collection[bytes] = ()
    ) -> int:
        """Bring the content of `entries` into the target's work directory. Returns the bytes that were read to be sent.

        `basis` says of which paths the target has something to begin with, another version in its tree or a part that
        was received before, and how many bytes (of the longer one). Whatever was received of other paths is removed.

        `begun` are paths of which what was received is the beginning of the source's file, as far as anybody knows. It
        is gone on from its end, without a look at it; so are files that an earlier move had begun when it was cut.

        A file that was moved whole and comes again, since its digest was found wrong, is compared by the copy's own
        algorithm, and read even where its file system says that it is empty.
        """
        before = self._sent
        both = self._source.quick(self._checksum) and self._target.quick(self._checksum)
        again = [entry for entry in entries if entry.path in self._moved]
        rest = [entry for entry in entries if entry.path not in self._moved]
        going = self._begun.union(begun)
        half = [entry for entry in rest if entry.path in going]
        first = [entry for entry in rest if entry.path not in going]
        self._work(half, self._gone_on(half))
        self._work(first, self._compared(first, basis, self._checksum if both else QUICK, False))
        whole = {entry.path: entry.size for entry in again}
        self._work(again, self._compared(again, whole, self._checksum, True))
        return self._sent - before

    def _gone_on(self, entries: Sequence[Entry]) -> list[Work]:
        """What to do where all that was received is taken to be right."""
        if not entries:
            return []
        wanted = [Asked(e.path, e.size, 0) for e in entries]
        with Beside(lambda: self._target.received([e.path for e in entries])) as looking:
            ours = self._source.digests(wanted, self._checksum)
            sizes = looking.result()
        works = []
        for entry, digests in zip(entries, ours, strict=True):
            count, rest = divmod(sizes.get(entry.path, 0), piece_length(entry.size))
            right = ["right"] * count
            works.append(work(entry, right + digests[count:], right + [UNKNOWN] * bool(rest), ()))
        return works

    def _compared(
        self, entries: Sequence[Entry], basis: Mapping[bytes, int], checksum: str, doubted: bool
    ) -> list[Work]:
        """What to do where pieces are compared."""
        if not entries:
            return []
        known = [entry for entry in entries if entry.path in basis]
        wanted = [Asked(e.path, e.size, _of_use(e, basis), doubted) for e in entries]
        there = [
            Asked(e.path, e.size, piece_count(e.size), doubted, received)
            for received in (True, False)
            for e in known
        ]
        with Beside(lambda: self._target.digests(there, checksum)) as looking:
            ours = self._source.digests(wanted, checksum)
            theirs = looking.result()
        received = dict(zip((e.path for e in known), theirs[: len(known)], strict=True))
        present = dict(zip((e.path for e in known), theirs[len(known) :], strict=True))
        works = [
            work(entry, digests, received.get(entry.path), present.get(entry.path, ()))
            for entry, digests in zip(entries, ours, strict=True)
        ]
        self._refine(works, present, checksum)
        return works

    def _refine(self, works: Sequence[Work], present: Mapping[bytes, Sequence[str]], checksum: str) -> None:
        """Compare the blocks of pieces that differ from the file in the target's tree, where a sample says it pays."""
        at_hand = (
            (made, [piece for piece in pieces_to_send(made) if _at_hand(made, piece, present)])
            for made in works
            if present.get(made.entry.path)
        )
        left = [(made, pieces) for made, pieces in at_hand if pieces]
        told = self._same_blocks(
            [(made, pieces[:: -(-len(pieces) // SAMPLE)]) for made, pieces in left], checksum
        )
        rest = [
            (made, [piece for piece in pieces if piece.start not in told[made.entry.path]])
            for made, pieces in left
            if _pays(told[made.entry.path].values())
        ]
        more = self._same_blocks([(made, pieces) for made, pieces in rest if pieces], checksum)
        for made, _pieces in left:
            refine(made, told[made.entry.path] | more.get(made.entry.path, {}))

    def _same_blocks(
        self, asked: Sequence[tuple[Work, Sequence[Span]]], checksum: str
    ) -> dict[bytes, dict[int, list[bool]]]:
        """For each file, by the starts of the pieces, which of their blocks are the same at both ends."""
        if not asked:
            return {}
        questions = [Closer(made.entry.path, made.entry.size, pieces) for made, pieces in asked]
        with Beside(lambda: self._target.blocks(questions, checksum)) as looking:
            ours = self._source.blocks(questions, checksum)
            theirs = looking.result()
        return {
            file.path: {
                piece.start: [one == other for one, other in zip(here, there, strict=False)]
                for piece, here, there in zip(file.pieces, mine, yours, strict=True)
            }
            for file, mine, yours in zip(questions, ours, theirs, strict=True)
        }

    def _work(self, entries: Sequence[Entry], works: Sequence[Work]) -> None:
        if not works:
            return
        self._begun.update(work.entry.path for work in works if work.anew)
        self._deliver(works)
        self._moved.update(entry.path for entry in entries)

    def _deliver(self, works: Sequence[Work]) -> None:
        """Have the parts that are to be sent come from the source and be written at the target."""
        with (
            contextlib.closing(self._source.read(works)) as incoming,
            contextlib.closing(self._told(works, incoming)) as told,
        ):
            self._target.write(works, told)

    def _passed(self, size: int) -> None:
        self._sent += size
        self._progress.advance(size)

    def _told(
        self, works: Sequence[Work], incoming: Iterator[Iterator[Part]]
    ) -> Generator[Iterator[Part], None, None]:
        """The same parts, counted as they go by."""
        for _work, parts in zip(works, incoming, strict=True):
            yield (Part(part.start, part.fresh, self._counted(part.payload)) for part in parts)
            self._progress.advance(0, files=1)

    def _counted(self, payload: Iterator[memoryview]) -> Iterator[memoryview]:
        for data in payload:
            self._passed(len(data))
            yield data


def _at_hand(made: Work, piece: Span, present: Mapping[bytes, Sequence[str]]) -> bool:
    """Whether the file in the target's tree has something where a piece is that has to be sent."""
    digests = present[made.entry.path]
    number = piece.start // piece_length(made.entry.size)
    return number < len(digests) and digests[number] != ZERO


def _pays(told: Iterable[Sequence[bool]]) -> bool:
    """Whether so many blocks are the same that reading both sides once more costs less than sending them."""
    blocks = [same for piece in told for same in piece]
    return sum(blocks) * WORTH > len(blocks)


def _of_use(entry: Entry, basis: Mapping[bytes, int]) -> int:
    """How many pieces of a file it is of use to compare."""
    return min(piece_count(entry.size), -(-basis.get(entry.path, 0) // piece_length(entry.size)))
