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
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

from ._beside import Beside
from ._entry import Entry
from ._pieces import UNKNOWN, Asked, Part, PiecesSource, PiecesTarget, Work, piece_count, piece_length, work
from ._progress import Progress

QUICK = "md5"
"""What pieces are compared by where an end takes several times as long for the copy's own algorithm."""


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
        return [
            work(entry, digests, received.get(entry.path), present.get(entry.path, ()))
            for entry, digests in zip(entries, ours, strict=True)
        ]

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


def _of_use(entry: Entry, basis: Mapping[bytes, int]) -> int:
    """How many pieces of a file it is of use to compare."""
    return min(piece_count(entry.size), -(-basis.get(entry.path, 0) // piece_length(entry.size)))
