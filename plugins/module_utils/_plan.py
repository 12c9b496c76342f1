# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What must be done to make the target equal the source: the one place where two trees are compared.

`changed`, check mode, diff mode and the parity report all come from a plan. A plan without changes is
the proof that the two match.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ._entry import BLOCK, CHAR, DIR, FIFO, FILE, SOCKET, SYMLINK, Entry
from ._errors import BusyError, EndpointError
from ._manifest import LINKED, Manifest, below
from ._names import display, parents
from ._row import COLUMNS, WIDTH, entry_of
from ._selection import LOST_AND_FOUND, WORK_DIR
from ._store import Row, added, total

CREATE, REPLACE, METADATA, DELETE = "create", "replace", "metadata", "delete"
EXTRA = "extra"
"""The action of what only the target has and keeps."""

ALIKE = "kind size mode uid gid mtime link hardlink major minor digest xattrs".split()
"""The columns in which entries that match are usually equal."""
SEEN = ("size", "mtime", "link")
"""What a look shows of whether a thing is as it was known, beside its kind."""


@dataclass(frozen=True)
class Rules:
    """What counts as a difference besides type, content and link target.

    `precision` in nanoseconds is the unit in which modification times are compared: the coarser one
    of what the two ends can tell; `devices` is whether the target can hold some.
    """

    mode: bool = True
    owner: bool = True
    mtime: bool = True
    precision: int = 1
    xattrs: bool = True
    devices: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """One path to act on: `reasons` say what differs; `want` is the source's entry, `have` the target's."""

    path: bytes
    action: str
    reasons: tuple[str, ...]
    want: Entry | None = None
    have: Entry | None = None


class Plan:
    """All changes, in the order of the path's bytes, and what was found on the way.

    Paths that only the target has are planned for deletion only where asked, or where the target has them as `known`
    tells, which is what an earlier copy left there of the source. `matched` is the number of the source's
    entries that need nothing. A plan is a table beside its two manifests, so that it may be longer than fits into
    memory: iterating gives copies.
    """

    def __init__(
        self, source: Manifest, target: Manifest, rules: Rules, delete: bool, known: Manifest | None = None
    ) -> None:
        self._source = source
        self._target = target
        self._store = source.store
        self._table = self._store.table("action, reasons")
        self._extra = DELETE if delete else EXTRA
        self._devices = rules.devices
        self._compare(rules)
        if known is not None:
            self._delete_known(known)
        self.matched = len(source) - self.count(CREATE, REPLACE, METADATA)

    def __del__(self) -> None:
        if hasattr(self, "_table"):
            with contextlib.suppress(EndpointError):
                self._store.drop(self._table)

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.count(CREATE, REPLACE, METADATA, DELETE))

    @property
    def unmade(self) -> dict[bytes, str]:
        """What is missing at the target since no copy can make it there, with its kind.

        A socket is made by the program that listens there, and a device by root.
        """
        kinds = (SOCKET,) if self._devices else (SOCKET, CHAR, BLOCK)
        if not self._source.sums(_in(kinds, "kind"))[0]:
            return {}
        return {path: kind for path, _action, kind in self.touched(CREATE) if kind in kinds}

    def count(self, *actions: str) -> int:
        return int(self._store.one(f"SELECT count(*) FROM {self._table} WHERE {_in(actions)}")[0])

    def changes(self, *actions: str, within: bytes = b"", backwards: bool = False) -> Iterator[Change]:
        """The changes with these actions (all without any), `within` a directory where one is named."""
        chosen = actions or (CREATE, REPLACE, METADATA, DELETE)
        inside = f" AND {below('plan.path', '?')}" if within else ""
        have, joined = "NULL", ""
        if self.count(*set(chosen) - {CREATE}):
            have = _columns("have")
            joined = f"LEFT JOIN {self._target.table} AS have ON have.path = plan.path "
        query = (
            f"SELECT plan.path, plan.action, plan.reasons, {_columns('want')}, {have} FROM {self._table} AS plan "
            f"LEFT JOIN {self._source.table} AS want ON want.path = plan.path {joined}"
            f"WHERE {_in(chosen, 'plan.action')}{inside}"
        )
        values = (within, within) if within else ()
        for row in self._store.pages(query, "plan.path", values, backwards=backwards):
            yield _change(row)

    def part_files(self) -> None:
        """Have files replaced that were to be given attributes, and have more names than the source tells of.

        Attributes belong to all names of a file, also to those that aren't selected, or not even in the tree.
        """
        if not self.count(METADATA):
            return
        target, source = self._target.table, self._source.table
        shared = (
            f"SELECT dev, ino FROM {target} AS have WHERE {LINKED} AND EXISTS "
            f"(SELECT 1 FROM {source} AS want WHERE want.path = have.path) "
            "GROUP BY dev, ino HAVING max(links) > count(*)"
        )
        kinds = _in((FILE, SYMLINK, FIFO), "kind")  # others may be beyond the user who has the target
        self._store.run(
            f"UPDATE {self._table} SET action = '{REPLACE}' WHERE action = '{METADATA}' AND path IN "
            f"(SELECT path FROM {target} WHERE {LINKED} AND {kinds} AND (dev, ino) IN ({shared}))"
        )

    def also_delete(self, later: Plan) -> None:
        """Take over what a later plan for the same trees deletes."""
        self._store.run(
            f"INSERT OR REPLACE INTO {self._table} SELECT * FROM {later._table} AS plan "
            f"WHERE action = '{DELETE}' AND NOT EXISTS (SELECT 1 FROM {self._table} AS own "
            f"WHERE own.path = plan.path AND own.action = '{DELETE}')"
        )

    def others_work(self) -> bytes:
        """A work directory further below, in which something is to be removed or replaced; empty without one."""
        name = f"CAST('/{WORK_DIR.decode()}/' AS BLOB)"
        query = (
            f"SELECT path FROM {self._table} WHERE {_in((DELETE, REPLACE))} "
            f"AND instr(CAST(path || x'2f' AS BLOB), {name}) > 0 LIMIT 1"
        )
        row = self._store.one(query)
        path: bytes = row[0] + b"/" if row else b""
        holder, work, _rest = path.partition(b"/" + WORK_DIR + b"/")
        return (holder + work).rstrip(b"/")

    def touched(self, *actions: str) -> Iterator[Row]:
        """Path, action and kind of what the changes with these actions make, or remove."""
        query = (
            f"SELECT plan.path, plan.action, coalesce(want.kind, '') FROM {self._table} AS plan "
            f"LEFT JOIN {self._source.table} AS want ON want.path = plan.path WHERE {_in(actions, 'plan.action')}"
        )
        yield from self._store.pages(query, "plan.path")

    def touches(self, directory: bytes) -> bool:
        """Whether a directory, or something below it, is to be made, replaced or removed."""
        inside = f"{_in((CREATE, REPLACE, DELETE))} AND (path = ? OR {below('path', '?')})"
        query = f"SELECT 1 FROM {self._table} WHERE {inside} LIMIT 1"
        return bool(self._store.one(query, (directory, directory, directory)))

    def shut(self, *actions: str) -> list[Entry]:
        """The target's directories whose modes keep even their owner from changing in them what these actions change.

        Those that are only parents of what is selected aren't among them: they are left alone.
        """
        shut = list(self._target.where(f"kind = '{DIR}' AND implied = 0 AND mode & {stat.S_IWUSR} = 0"))
        if not shut:
            return []
        changed: set[bytes] = set()
        replaced: set[bytes] = set()
        for path, action, _kind in self.touched(*actions):
            changed.add(path.rpartition(b"/")[0])
            if action == REPLACE:
                replaced.add(path)
        return [
            entry
            for entry in shut
            if entry.path in changed or not replaced.isdisjoint({entry.path, *parents(entry.path)})
        ]

    def paths(self, *actions: str) -> Iterator[bytes]:
        query = f"SELECT path FROM {self._table} WHERE {_in(actions)}"
        for row in self._store.pages(query, "path"):
            yield row[0]

    def unsettled(self) -> str:
        """The query of SQL for the paths of the source that don't match."""
        return f"SELECT path FROM {self._table} WHERE {_in((CREATE, REPLACE, METADATA))}"

    def shared(self) -> Manifest:
        """What the target has of the source, whatever its attributes are."""
        return self._target.part(
            f"path IN (SELECT path FROM {self._source.table}) AND path NOT IN "
            f"(SELECT path FROM {self._table} WHERE {_in((CREATE, REPLACE))})"
        )

    def room(self) -> int:
        """The bytes that what is made or replaced takes up."""
        return self._content("want.size - want.holes")[1]

    def content(self) -> tuple[int, int]:
        """How many files must be moved, and their bytes."""
        return self._content("want.size")

    def _content(self, weight: str) -> tuple[int, int]:
        count, *size = self._store.one(
            f"SELECT count(*), {total(weight)} FROM {self._table} AS plan "
            f"JOIN {self._source.table} AS want ON want.path = plan.path "
            f"WHERE {_in((CREATE, REPLACE), 'plan.action')} AND want.kind = '{FILE}' AND want.hardlink = x''"
        )
        return int(count), added(*size)

    def replaced_bytes(self) -> int:
        """The bytes of the files that others take the place of."""
        size = self._store.one(
            f"SELECT {total('have.size - have.holes')} FROM {self._table} AS plan "
            f"JOIN {self._target.table} AS have ON have.path = plan.path WHERE plan.action = '{REPLACE}'"
        )
        return added(*size)

    def _compare(self, rules: Rules) -> None:
        insert = f"INSERT INTO {self._table} (path, action, reasons)"
        source, target = self._source.table, self._target.table
        self._store.run(
            f"{insert} SELECT path, '{CREATE}', 'missing' FROM {source} AS want WHERE NOT EXISTS "
            f"(SELECT 1 FROM {target} AS have WHERE have.path = want.path)"
        )
        self._store.many(f"{insert} VALUES (?, ?, ?)", self._differing(rules))
        self._store.run(
            f"{insert} SELECT path, '{self._extra}', 'extra' FROM {target} AS have "
            f"WHERE implied = 0 AND path NOT IN (x'2e', ?1) AND NOT ({below('path', '?1')}) AND NOT EXISTS "
            f"(SELECT 1 FROM {source} AS want WHERE want.path = have.path)",
            (LOST_AND_FOUND,),
        )

    def _delete_known(self, known: Manifest) -> None:
        """Plan to delete what is extra and as it was known, but no directory in which something else lies."""
        same = " AND ".join(f"have.{name} = was.{name}" for name in (*SEEN, "digest"))
        self._store.run(
            f"UPDATE {self._table} SET action = '{DELETE}' WHERE action = '{EXTRA}' AND EXISTS "
            f"(SELECT 1 FROM {known.table} AS was JOIN {self._target.table} AS have ON have.path = was.path "
            f"WHERE was.path = {self._table}.path AND have.kind = was.kind AND (was.kind = '{DIR}' OR ({same})))"
        )
        self._store.run(
            f"UPDATE {self._table} SET action = '{EXTRA}' WHERE action = '{DELETE}' AND EXISTS "
            f"(SELECT 1 FROM {self._table} AS kept "
            f"WHERE {below('kept.path', self._table + '.path')} AND kept.action = '{EXTRA}')"
        )

    def _differing(self, rules: Rules) -> Iterator[Row]:
        """The paths that both have and that differ; the query leaves out most of those that don't."""
        equal = " AND ".join(f"want.{name} = have.{name}" for name in ALIKE)
        told = (
            f"(want.kind <> '{FILE}' OR want.digest <> '') AND (want.kind <> '{SYMLINK}' OR want.link <> x'')"
        )
        query = (
            f"SELECT want.path, {_columns('want')}, {_columns('have')} FROM {self._source.table} AS want "
            f"JOIN {self._target.table} AS have ON have.path = want.path WHERE NOT ({equal} AND {told})"
        )
        for path, *columns in self._store.pages(query, "want.path"):
            reasons = differences(entry_of(columns[:WIDTH]), entry_of(columns[WIDTH:]), rules)
            if reasons:
                action = METADATA if REPLACING.isdisjoint(reasons) else REPLACE
                yield path, action, " ".join(reasons)


def _columns(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in COLUMNS.split(", "))


def _in(actions: Iterable[str], column: str = "action") -> str:
    return f"{column} IN ({', '.join(repr(action) for action in actions)})"


def _change(row: Row) -> Change:
    path, action, reasons, *columns = row
    want, have = columns[:WIDTH], columns[WIDTH:]
    return Change(
        path,
        action,
        tuple(reasons.split()),
        None if want[0] is None else entry_of(want),
        None if have[0] is None else entry_of(have),
    )


def needs_content(entry: Entry | None) -> bool:
    """Whether bytes have to be moved to make this entry (further hard links need none)."""
    return entry is not None and entry.kind == FILE and not entry.hardlink


def differences(want: Entry, have: Entry, rules: Rules) -> tuple[str, ...]:
    """What differs between the source's entry and the target's, most important first; empty if they match.

    Digests must have been taken on both sides when type and size are equal: without one, the content
    counts as different.
    """
    if want.kind != have.kind:
        return ("type",)
    if want.implied:
        return ()
    found = [*_content_differences(want, have)]
    if rules.mode and want.kind != SYMLINK and want.mode != have.mode:
        found.append("mode")
    if rules.xattrs and want.xattrs != have.xattrs:
        found.append("xattrs")
    if rules.owner:
        found += [name for name in ("uid", "gid") if getattr(want, name) != getattr(have, name)]
    if rules.mtime and want.mtime // rules.precision != have.mtime // rules.precision:
        found.append("mtime")
    return tuple(found)


REPLACING = frozenset({"type", "size", "content", "link", "hardlink", "device"})
"""The differences that can't be mended by setting attributes."""


def _content_differences(want: Entry, have: Entry) -> Iterator[str]:
    if want.kind == FILE:
        if want.size != have.size:
            yield "size"
        elif not want.digest or want.digest != have.digest:
            yield "content"
    elif want.kind == SYMLINK and (want.link != have.link or not want.link):
        yield "link"  # none leads nowhere: an end didn't tell
    elif want.kind in (CHAR, BLOCK) and want.device != have.device:
        yield "device"
    if want.hardlink != have.hardlink:
        yield "hardlink"


def undecided(source: Manifest, target: Manifest, side: str) -> str:
    """The condition of SQL on `side` (the table of either) for regular files that have the same size on both sides.

    Only their digests can tell whether they match; those that have none yet are meant.
    """
    other = target if side == source.table else source
    return (
        f"kind = '{FILE}' AND digest = '' AND EXISTS (SELECT 1 FROM {other.table} AS other "
        f"WHERE other.path = {side}.path AND other.kind = '{FILE}' AND other.size = {side}.size)"
    )


def as_known(source: Manifest, target: Manifest, known: Manifest) -> str:
    """The condition of SQL on the table of `target` for files that it alone has, and that look as they were known.

    Only their digests can tell whether they are; those that have none yet are meant.
    """
    alike = " AND ".join(f"was.{name} = {target.table}.{name}" for name in ("path", "kind", *SEEN))
    return (
        f"kind = '{FILE}' AND digest = '' AND path NOT IN (SELECT path FROM {source.table}) "
        f"AND EXISTS (SELECT 1 FROM {known.table} AS was WHERE {alike})"
    )


def make_plan(
    source: Manifest, target: Manifest, rules: Rules, delete: bool = False, known: Manifest | None = None
) -> Plan:
    """Compare two manifests of one store, which has `known` as well (see `Plan`).

    Raises EndpointError when a directory with content stands in the way. What another run has on its way further below
    is never removed or replaced: BusyError.
    """
    target.group_links(f"EXISTS (SELECT 1 FROM {source.table} AS want WHERE want.path = first.path)")
    plan = Plan(source, target, rules, delete, known)
    if not delete:
        _refuse_conflicts(plan)
    elif work := plan.others_work():
        raise BusyError(
            f"{display(work)} at the target, which delete would remove, is the work directory of a copy to where it "
            "lies: wait until that has ended; remove it if no such run is alive, or exclude it."
        )
    return plan


def _refuse_conflicts(plan: Plan) -> None:
    """A directory that must give way to something else would take its files with it: only if asked."""
    for change in plan.changes(REPLACE):
        if change.have is not None and change.have.kind == DIR and "type" in change.reasons:
            for lost in plan.changes(EXTRA, within=change.path):
                raise EndpointError(
                    f"{display(lost.path)} lies in a directory of the target where the source has no directory: "
                    "make sure that the source is whole and at rest; then move it away, or set delete to true to have "
                    "it removed."
                )


def batches(changes: Iterable[Change], max_bytes: int, max_entries: int) -> Iterator[list[Change]]:
    """Slices of the creating and replacing changes, in order, of bounded size (a larger file is a slice of its own).

    A directory always comes before what lies in it.
    """
    batch: list[Change] = []
    size = 0
    for change in changes:
        if change.want is None or change.action not in (CREATE, REPLACE):
            continue
        weight = change.want.size if needs_content(change.want) else 0
        if batch and (size + weight > max_bytes or len(batch) >= max_entries):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += weight
    if batch:
        yield batch
