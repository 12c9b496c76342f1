# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Digests that were taken, and how long they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from ._entry import FILE, Entry
from ._manifest import Manifest
from ._plan import Change
from ._progress import Progress
from ._row import number
from ._store import Store, batched

Digests: TypeAlias = Callable[[Sequence[bytes], str], Iterable[tuple[bytes, str]]]

ASKED_AT_ONCE = 20_000
"""Names whose digests are asked for in one command."""
LOOK = ("size", "mtime", "ino", "ctime")
"""A digest holds for as long as a file looks the same. Part of the look is the time of the last change of the inode,
which no program can set: a file that is rewritten with the size and the modification time it had is read again."""


class Known:
    """Digests of the files of one tree, with the look that each file had."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.table(", ".join((*LOOK, "digest")))

    def take(
        self, digests: Digests, paths: Iterable[bytes], manifest: Manifest, progress: Progress | None = None
    ) -> None:
        """Have digests of `paths` taken, and note them in the manifest. `progress` is told of what was read."""
        for batch in batched(paths, ASKED_AT_ONCE):
            taken = digests(batch, manifest.checksum)
            manifest.set_digests(taken if progress is None else told(taken, manifest.sizes(batch), progress))
            self._keep(manifest, batch)

    def _keep(self, manifest: Manifest, paths: Sequence[bytes]) -> None:
        # What lies between them may be kept as well: whatever has a digest by now has it from here.
        look = ", ".join(LOOK)
        self._store.run(
            f"INSERT OR REPLACE INTO {self._table} (path, {look}, digest) SELECT path, {look}, digest "
            f"FROM {manifest.table} WHERE path BETWEEN ? AND ? AND digest <> '' AND kind = '{FILE}'",
            (paths[0], paths[-1]),
        )

    def recall(self, manifest: Manifest) -> None:
        """Put what is known into a newer manifest of the same tree."""
        alike = " AND ".join(f"known.{name} = {manifest.table}.{name}" for name in LOOK)
        found = f"FROM {self._table} AS known WHERE known.path = {manifest.table}.path AND {alike}"
        self._store.run(
            f"UPDATE {manifest.table} SET digest = (SELECT digest {found}) "
            f"WHERE kind = '{FILE}' AND digest = '' AND EXISTS (SELECT 1 {found})"
        )

    def forget(self, paths: Iterable[bytes]) -> None:
        """Files that didn't arrive as their digests promised: read them anew next time."""
        self._store.many(f"DELETE FROM {self._table} WHERE path = ?", ((path,) for path in paths))


def told(
    taken: Iterable[tuple[bytes, str]], sizes: Mapping[bytes, int], progress: Progress
) -> Iterator[tuple[bytes, str]]:
    """Digests, while they are taken, with progress told of each."""
    for path, digest in taken:
        progress.advance(sizes.get(path, 0), files=1)
        yield path, digest


class Placed:
    """Files that were found whole where they were received, and should have got their names."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.table("size, mtime, digest, before")

    def note(self, changes: Iterable[Change]) -> None:
        """These changes' files were placed."""
        first: dict[bytes, Entry] = {}
        rows = []
        gone = []
        for change in changes:
            want = change.want
            if want is None or want.kind != FILE:
                continue
            if not want.hardlink:
                first[want.path] = want
            head = first.get(want.hardlink or want.path)
            if head is None:
                # A link to what was there already: that is read again.
                gone.append((want.path,))
                continue
            before = None if change.have is None else number(change.have.stamp[0])
            rows.append((want.path, want.size, number(want.mtime), head.digest, before))
        self._store.many(f"DELETE FROM {self._table} WHERE path = ?", gone)
        self._store.many(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?, ?, ?)", rows)

    def recall(self, target: Manifest, unit: int) -> None:
        """Give digests to what can only be what was placed there, so that it needn't be read again.

        `unit` is what modification times can be set to there, in nanoseconds.
        """
        # Not what is still the file from before, though its size and time may be the same, nor what was written to.
        there = target.table
        times = [f"{side}.mtime - (({side}.mtime % {unit}) + {unit}) % {unit}" for side in ("placed", there)]
        alike = (
            f"placed.path = {there}.path AND placed.size = {there}.size AND placed.before IS NOT {there}.ino "
            f"AND (placed.mtime = {there}.mtime OR (typeof(placed.mtime) = 'integer' "
            f"AND typeof({there}.mtime) = 'integer' AND {' = '.join(times)}))"
        )
        found = f"FROM {self._table} AS placed WHERE {alike}"
        self._store.run(
            f"UPDATE {there} SET digest = (SELECT placed.digest {found}) "
            f"WHERE kind = '{FILE}' AND EXISTS (SELECT 1 {found})"
        )
