# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What a tree holds: its entries by path, in a store."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ._entry import DIR, FILE, NANOSECOND, SECOND, SOCKET, Entry, Taken
from ._errors import EndpointError
from ._look import Look
from ._names import display
from ._row import COLUMNS, entry_of, marked, row_of
from ._selection import Selection, work_path
from ._store import BATCH, Row, Store, added, batched, total
from ._xattrs import Xattrs, copied, pack

CHANGED, VANISHED = "changed", "vanished"
LINKED = f"dev IS NOT NULL AND kind NOT IN ('{DIR}', '{SOCKET}')"
"""The condition of SQL for what a scan found to have more names than one, and what may be one of a group."""
CANDIDATE = 2
"""In place of `implied`: a directory that is only wanted if something selected lies below it."""


class Manifest:
    """The entries of a tree by path, in the order of the path's bytes (parents before children).

    `precision` is the unit of `mtime` in nanoseconds. `unreadable` names the paths that could not be read, with the
    reason. `look` is that of the tree when it was read. `xattrs` says whether extended attributes were looked at,
    `uncopied` has the names, for people, of those that were seen and are no part of a copy. `file_digest` is that of
    the file that it was read from; `origin` is what staged files were copied from. `restless` are paths that aren't in
    here since they changed at the source whenever they were staged.
    Entries that are handed out are copies: what changes is put back with `add`, or with one of the setters.
    """

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        *,
        checksum: str = "sha256",
        precision: int = NANOSECOND,
        root: str = "",
        store: Store | None = None,
    ) -> None:
        self.checksum = checksum
        self.precision = precision
        self.root = root
        self.xattrs = True
        self.uncopied: set[str] = set()
        self.look: Look | None = None
        self.file_digest = ""
        self.origin = ""
        self.unreadable: dict[bytes, str] = {}
        self.restless: list[bytes] = []
        self.store = store or Store()
        self.table = self.store.table(COLUMNS.removeprefix("path, "))
        self.add(entries)

    def __del__(self) -> None:
        # Refused while another thread reads; then it goes with the store.
        if hasattr(self, "table"):
            with contextlib.suppress(EndpointError):
                self.store.drop(self.table)

    def __iter__(self) -> Iterator[Entry]:
        return self.where("1")

    def __len__(self) -> int:
        return int(self.store.one(f"SELECT count(*) FROM {self.table}")[0])

    def __contains__(self, path: bytes) -> bool:
        return bool(self.store.one(f"SELECT 1 FROM {self.table} WHERE path = ?", (path,)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return self.header() == other.header() and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def header(self) -> tuple[object, ...]:
        """All but the entries."""
        told = (self.checksum, self.precision, self.root, self.xattrs, self.origin)
        return *told, self.unreadable, self.restless

    def like(self, entries: Iterable[Entry], store: Store | None = None) -> Manifest:
        """A manifest with other entries, and with all else of this one but what was unreadable or restless."""
        other = Manifest(
            entries,
            checksum=self.checksum,
            precision=self.precision,
            root=self.root,
            store=store or self.store,
        )
        other.xattrs = self.xattrs
        return other

    def part(self, condition: str) -> Manifest:
        """A manifest with the entries that meet a condition of SQL."""
        other = self.like(())
        self.store.run(f"INSERT INTO {other.table} SELECT * FROM {self.table} WHERE {condition}")
        return other

    def get(self, path: bytes) -> Entry | None:
        row = self.store.one(f"SELECT {COLUMNS} FROM {self.table} WHERE path = ?", (path,))
        return entry_of(row) if row else None

    def where(self, condition: str, values: tuple[object, ...] = ()) -> Iterator[Entry]:
        """The entries that meet a condition of SQL over COLUMNS, in order."""
        query = f"SELECT {COLUMNS} FROM {self.table} WHERE ({condition})"
        for row in self.store.pages(query, "path", values):
            yield entry_of(row)

    def paths(self, condition: str) -> Iterator[bytes]:
        """The paths that meet a condition, in order."""
        query = f"SELECT path FROM {self.table} WHERE ({condition})"
        for row in self.store.pages(query, "path"):
            yield row[0]

    def add(self, entries: Iterable[Entry]) -> None:
        """Put entries in, in the place of others with their paths."""
        self.add_rows(map(row_of, entries))

    def add_rows(self, rows: Iterable[Row]) -> None:
        marks = ", ".join("?" * len(COLUMNS.split(",")))
        self.store.many(f"INSERT OR REPLACE INTO {self.table} ({COLUMNS}) VALUES ({marks})", rows)

    def add_selected(self, walked: Iterable[Row], selection: Selection) -> None:
        """Put in what is selected of the rows of a walk, and the directories above it as implied entries."""
        if selection.everything:
            self.add_rows(row for row in walked if not (row[0][:1] == b"." and work_path(row[0])))
            return
        for batch in batched(walked, BATCH):
            held = [selection.holds(row[0]) for row in batch]
            self.add_rows(itertools.compress(batch, held))
            others = itertools.compress(batch, map(operator.not_, held))
            # Directories that aren't selected themselves, to be decided about in the end.
            self.add_rows(marked(row, CANDIDATE) for row in others if row[1] == DIR and row[0] != b".")
        self._keep_parents()

    def add_implied(self, walked: Iterable[Row]) -> None:
        """Put in rows as entries that must exist, where there is none yet."""
        self.add_rows(marked(row, 1) for row in walked if row[0] not in self)

    def _keep_parents(self) -> None:
        """Of the candidates, keep those with something selected below them, as implied entries."""
        self.store.run(
            f"DELETE FROM {self.table} WHERE implied = {CANDIDATE} AND NOT EXISTS (SELECT 1 FROM {self.table} AS below "
            f"WHERE {below('below.path', self.table + '.path')} AND below.implied <> {CANDIDATE})"
        )
        self.store.run(f"UPDATE {self.table} SET implied = 1 WHERE implied = {CANDIDATE}")

    def covers(self, path: bytes) -> bool:
        """Whether there is an entry at a path or below it."""
        query = f"SELECT 1 FROM {self.table} WHERE path = ? OR {below('path', '?')} LIMIT 1"
        return bool(self.store.one(query, (path, path, path)))

    def remove(self, paths: Iterable[bytes]) -> None:
        self.store.many(f"DELETE FROM {self.table} WHERE path = ?", ((path,) for path in paths))

    def disregard(self, paths: Iterable[bytes], but: Manifest) -> None:
        """Remove what isn't to be judged: these paths, and what lies below, except what another manifest has."""
        self.store.many(
            f"DELETE FROM {self.table} WHERE (path = ? OR {below('path', '?')}) AND NOT EXISTS "
            f"(SELECT 1 FROM {but.table} AS other WHERE other.path = {self.table}.path)",
            ((path, path, path) for path in paths),
        )

    def set_digests(self, digests: Iterable[Taken]) -> None:
        """Note digests that were taken.

        Passed over are paths that aren't in the manifest, and those where another file was read than the one that it
        tells of, as after directories were swapped.
        """
        self.store.many(
            f"UPDATE {self.table} SET digest = ? WHERE path = ? AND ino IS coalesce(?, ino)",
            ((taken.digest, taken.path, taken.inode) for taken in digests),
        )

    def digests(self, paths: Sequence[bytes]) -> dict[bytes, str]:
        """The digests of `paths`, which are in order."""
        known = self._column("digest", paths)
        return {path: known.get(path, "") for path in paths}

    def sizes(self, paths: Sequence[bytes]) -> dict[bytes, int]:
        """The sizes of what there is of `paths`, which are in order; of more, maybe."""
        return self._column("size", paths)

    def _column(self, column: str, paths: Sequence[bytes]) -> dict[bytes, Any]:
        query = f"SELECT path, {column} FROM {self.table} WHERE path BETWEEN ? AND ?"
        return {row[0]: row[1] for row in self.store.page(query, (paths[0], paths[-1]))} if paths else {}

    def set_links(self, links: Iterable[tuple[bytes, bytes]]) -> None:
        """Note where symbolic links lead."""
        self.store.many(
            f"UPDATE {self.table} SET link = ? WHERE path = ?", ((link, path) for path, link in links)
        )

    def set_xattrs(self, found: Iterable[tuple[bytes, Xattrs]]) -> None:
        """Note extended attributes, and the names of those that are no part of a copy."""
        self.store.many(
            f"UPDATE {self.table} SET xattrs = ? WHERE path = ?",
            (
                (pack(tuple(sorted(pair for pair in xattrs if copied(pair[0], self.uncopied)))), path)
                for path, xattrs in found
            ),
        )

    def group_links(self, among: str = "1") -> None:
        """Set `hardlink` on all but the first path of each group of paths that share an inode.

        `among` is a condition of SQL on `first`, the first path: what else may be one. Entries without an `identity`
        (read from a file) keep what they have.
        """
        if not self.store.one(f"SELECT 1 FROM {self.table} WHERE {LINKED} LIMIT 1"):
            return
        index = (
            f"CREATE INDEX IF NOT EXISTS {self.table}_inode ON {self.table} (dev, ino, path) WHERE {LINKED}"
        )
        self.store.run(index)
        first = (
            f"SELECT first.path FROM {self.table} AS first WHERE first.dev = {self.table}.dev "
            f"AND first.ino = {self.table}.ino AND {LINKED} AND ({among}) "
            "ORDER BY first.path LIMIT 1"
        )
        self.store.run(
            f"UPDATE {self.table} SET hardlink = coalesce(nullif(({first}), path), x'') WHERE {LINKED}"
        )

    def complete(self, whole: Manifest) -> None:
        """Make a part of `whole` stand on its own: with the directories above it, and with first paths of its links."""
        wanted: set[bytes] = set()
        for path in self.paths("1"):
            parent = path.rpartition(b"/")[0]
            while parent and parent not in wanted and parent not in self:
                wanted.add(parent)
                parent = parent.rpartition(b"/")[0]
        above = (whole.get(path) for path in wanted)
        self.add(replace(entry, implied=True) for entry in above if entry is not None)
        heads: dict[bytes, bytes] = {}
        for entry in self.where(f"hardlink <> x'' AND hardlink NOT IN (SELECT path FROM {self.table})"):
            head = heads.setdefault(entry.hardlink, entry.path)
            entry.hardlink = b"" if head == entry.path else head
            self.add((entry,))

    def require_tree(self) -> None:
        """Raises ValueError where something lies below what is no directory: a way out of the tree through a link."""
        inside = below("below.path", f"{self.table}.path")
        row = self.store.one(
            f"SELECT path, kind, (SELECT below.path FROM {self.table} AS below WHERE {inside} LIMIT 1) AS lost "
            f"FROM {self.table} WHERE kind <> '{DIR}' AND lost IS NOT NULL LIMIT 1"
        )
        if row:
            raise ValueError(f"{display(row[2])} can't lie in a {row[1]}")

    def drift(self, before: Manifest, among: str = "") -> Iterator[tuple[bytes, str]]:
        """What isn't a directory and `changed` or `vanished` since an earlier manifest of the same tree.

        `among` is a query of SQL for the paths that are asked for; all without it.
        """
        same = " AND ".join(f"now.{name} = was.{name}" for name in ("kind", "size", "mtime", "ino", "ctime"))
        asked = f" AND was.path IN ({among})" if among else ""
        query = (
            f"SELECT was.path, now.path IS NULL FROM {before.table} AS was LEFT JOIN {self.table} AS now "
            f"ON now.path = was.path WHERE was.kind <> '{DIR}' AND (now.path IS NULL OR NOT ({same})){asked}"
        )
        return ((path, VANISHED if gone else CHANGED) for path, gone in self.store.pages(query, "was.path"))

    def in_seconds(self) -> bool:
        """Whether no time has a fraction, not even that of a change, which nobody can set: none is kept there."""
        fraction = f"mtime % {SECOND} <> 0 OR ctime % {SECOND} <> 0"
        return not self.store.one(f"SELECT 1 FROM {self.table} WHERE {fraction} LIMIT 1")

    def totals(self) -> tuple[int, int]:
        """How many regular files there are and their bytes, further names of a hard-linked file left out."""
        count, size = self.sums(f"kind = '{FILE}' AND hardlink = x''")
        return count, size

    def sums(self, condition: str) -> tuple[int, int]:
        """Number and total size of the entries that meet a condition."""
        count, *size = self.store.one(f"SELECT count(*), {total('size')} FROM {self.table} WHERE {condition}")
        return int(count), added(*size)


def below(inner: str, outer: str) -> str:
    """The condition of SQL that the path `inner` lies below `outer`, as a range that an index serves."""
    return f"{inner} > CAST({outer} || x'2f' AS BLOB) AND {inner} < CAST({outer} || x'30' AS BLOB)"
