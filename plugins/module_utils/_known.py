# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Digests that were taken, and how long they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from ._entry import DIR, FILE, SECOND, Taken
from ._look import shows
from ._manifest import Manifest, below
from ._plan import Change
from ._progress import Progress
from ._store import Row, Store, batched

Digests: TypeAlias = Callable[[Sequence[bytes], str], Iterable[Taken]]

ASKED_AT_ONCE = 20_000
"""Names whose digests are asked for in one command."""
LOOK = ("size", "mtime", "ino", "ctime")
"""A digest holds for as long as a file looks the same. Part of the look is the time of the last change of the inode,
which no program can set: a file that is rewritten with the size and the modification time it had is read again."""


class Known:
    """Digests of the files of one tree, with the look that each file had.

    They were read by their paths: where directories above were swapped meanwhile, and swapped back, other files were
    read. That shows at the directory that was moved and the one it lies in: both get a new time of their last change.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.table(", ".join((*LOOK, "digest")))
        self._directories = store.table("ino, ctime")
        self._ours = store.table("ours")

    def take(
        self, digests: Digests, paths: Iterable[bytes], manifest: Manifest, progress: Progress | None = None
    ) -> None:
        """Have digests of `paths` taken, and note them in the manifest. `progress` is told of what was read."""
        for batch in batched(paths, ASKED_AT_ONCE):
            taken = digests(batch, manifest.checksum)
            manifest.set_digests(taken if progress is None else told(taken, manifest.sizes(batch), progress))
            self._keep(manifest, batch)

    def _keep(self, manifest: Manifest, paths: Sequence[bytes]) -> None:
        if manifest.look is None or manifest.look.shown is None:
            return
        # What lies between them may be kept as well: whatever has a digest by now has it from here.
        # Not what was changed so shortly before, or since it was written out, that another change may not show.
        look, since = ", ".join(LOOK), manifest.look.shown.since
        self._store.run(
            f"INSERT OR REPLACE INTO {self._table} (path, {look}, digest) SELECT path, {look}, digest "
            f"FROM {manifest.table} WHERE path BETWEEN ? AND ? AND digest <> '' AND kind = '{FILE}' "
            f"AND {shows('ctime', since)}",
            (paths[0], paths[-1]),
        )

    def change(self, directories: Iterable[bytes]) -> None:
        """These directories are about to be changed by this run."""
        self._store.many(
            f"INSERT OR REPLACE INTO {self._ours} VALUES (?, 1)", ((path,) for path in directories)
        )

    def _forget_moved(self, manifest: Manifest) -> None:
        """Forget what lies in directories that may have been elsewhere since the manifest before."""
        was, now = self._directories, manifest.table
        changed = self._store.page(
            f"SELECT was.path, now.path IS NULL OR now.ino IS NOT was.ino, was.path IN (SELECT path FROM {self._ours}) "
            f"FROM {was} AS was LEFT JOIN {now} AS now ON now.path = was.path AND now.kind = '{DIR}' "
            "WHERE now.path IS NULL OR now.ino IS NOT was.ino OR now.ctime IS NOT was.ctime"
        )
        ours = {path: bool(by_us) for path, _other, by_us in changed}
        moved = [
            path for path, other, _by_us in changed if path != b"." and (other or _may_have_moved(path, ours))
        ]
        self._store.many(
            f"DELETE FROM {self._table} WHERE {below('path', '?1')}", ((path,) for path in moved)
        )
        self._store.run(f"DELETE FROM {was}")
        self._store.run(f"INSERT INTO {was} SELECT path, ino, ctime FROM {now} WHERE kind = '{DIR}'")
        # Of the tree's own directory nothing may be known; then it counts as changed.
        self._store.run(f"INSERT OR IGNORE INTO {was} VALUES (x'2e', NULL, NULL)")

    def recall(self, manifest: Manifest) -> None:
        """Put what is known into a newer manifest of the same tree."""
        self._forget_moved(manifest)
        alike = " AND ".join(f"known.{name} = {manifest.table}.{name}" for name in LOOK)
        found = f"FROM {self._table} AS known WHERE known.path = {manifest.table}.path AND {alike}"
        self._store.run(
            f"UPDATE {manifest.table} SET digest = (SELECT digest {found}) "
            f"WHERE kind = '{FILE}' AND digest = '' AND EXISTS (SELECT 1 {found})"
        )

    def forget(self, paths: Iterable[bytes]) -> None:
        """Files that didn't arrive as their digests promised: read them anew next time."""
        self._store.many(f"DELETE FROM {self._table} WHERE path = ?", ((path,) for path in paths))


def _may_have_moved(path: bytes, ours: Mapping[bytes, bool]) -> bool:
    """Whether a directory that was changed may have been moved and moved back. `ours` has all those that were changed.

    An entry that is made in it changes it as well. But only a move also changes the one that it lies in.
    """
    above = path.rpartition(b"/")[0] or b"."
    return above in ours and not (ours[path] and ours[above])


def told(taken: Iterable[Taken], sizes: Mapping[bytes, int], progress: Progress) -> Iterator[Taken]:
    """Digests, while they are taken, with progress told of each."""
    for each in taken:
        progress.advance(sizes.get(each.path, 0), files=1)
        yield each


class Placed:
    """Files that were found whole where they were received, by one that had each of them for itself then.

    Nothing has touched the inode of such a file since it was read back, where it got its name together with a new
    directory or is still held, so it needn't be read once more. One that was given its name by itself was touched by
    that; whoever writes to it right afterwards could hide behind it. And whoever has mapped a file that isn't written
    out yet can write to it without a trace.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.table("size, ino, ctime, digest")

    def note(self, changes: Iterable[Change], arrived: Mapping[bytes, Taken]) -> None:
        """These changes' files were placed. `arrived` tells how they were found where they were received."""
        rows: list[Row] = []
        gone: list[Row] = []
        for change in changes:
            want = change.want
            if want is None or want.kind != FILE:
                continue
            taken = arrived.get(want.hardlink or want.path)
            if taken is None or not taken.alone:
                gone.append((want.path,))  # a link to what was there before, or anybody may be writing to it
            elif want.hardlink:
                rows.append((want.path, want.size, None, None, ""))
            else:
                rows.append((want.path, want.size, taken.inode, taken.changed, taken.digest))
        self._store.many(f"DELETE FROM {self._table} WHERE path = ?", gone)
        self._store.many(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?, ?, ?)", rows)

    def recall(self, target: Manifest) -> None:
        """Give digests to what can only be what was placed there, so that it needn't be read again."""
        if target.look is None or target.look.shown is None:
            return
        there, since = target.table, target.look.shown.since
        alike = " AND ".join(f"placed.{name} = {there}.{name}" for name in ("path", "size", "ino", "ctime"))
        # Not where only seconds are told, as another change within the same one would not show.
        known = f"{alike} AND placed.ctime % {SECOND} <> 0 AND {shows('placed.ctime', since)}"
        found = f"FROM {self._table} AS placed WHERE {known}"
        self._store.run(
            f"UPDATE {there} SET digest = (SELECT placed.digest {found}) "
            f"WHERE kind = '{FILE}' AND EXISTS (SELECT 1 {found})"
        )
