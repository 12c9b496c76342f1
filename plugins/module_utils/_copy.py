# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The copy: preflight, two manifests, a plan, the move, and the proof.

Follow `files` through `Copy.run`: it becomes a selection, the selection two manifests, these a plan, the
plan batches that are moved, checked where they have landed and only then given their names; and a last
pair of manifests says whether the two sides match.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ._beside import Beside
from ._comparison import Comparison
from ._errors import (
    BusyError,
    ConnectionLost,
    EndpointError,
    ProtocolError,
    Throttled,
    Unreachable,
    UsageError,
)
from ._manifest import DIR, FILE, SYMLINK, Entry, Manifest
from ._names import some
from ._parity import Parity, parity
from ._plan import CREATE, DELETE, METADATA, REPLACE, Change, Plan, batches, needs_content
from ._progress import Progress
from ._selection import Selection
from ._transport import Transport
from ._tree import Changes, Facts, TargetTree, Tree

BATCH_BYTES = 4 << 30
BATCH_ENTRIES = 20_000
"""What is moved before it is checked and given its names: bounds the room that is needed beside the files replaced."""
TRANSIENT = (ConnectionLost, ProtocolError, Throttled, Unreachable)
BACKOFF_SECONDS = 1.0

REGAIN_SECONDS = 60.0
"""How long a hold whose connection was lost may go on at the other side."""


@dataclass(frozen=True)
class Options:
    """How to copy. `metadata` is `strict`, `report` or `ignore`; `retries` counts the attempts after the first."""

    checksum: str = "sha256"
    metadata: str = "strict"
    delete: bool = False
    retries: int = 3
    check: bool = False


@dataclass
class Outcome:
    """What a copy did and proved. Bytes are those of file contents; `seconds` is wall time."""

    plan: Plan
    parity: Parity
    source: Manifest
    bytes_planned: int = 0
    bytes_moved: int = 0
    retries: int = 0
    seconds: float = 0.0
    trouble: list[str] = field(default_factory=list)


class Copy:
    """One copy of a selection from a tree to another."""

    def __init__(
        self,
        source: Tree,
        target: TargetTree,
        selection: Selection,
        options: Options,
        transport: Transport,
        progress: Progress,
    ) -> None:
        self._source = source
        self._target = target
        self._selection = selection
        self._options = options
        self._transport = transport
        self._progress = progress
        self._comparison = Comparison(source, target, selection, options.checksum, options.metadata, progress)
        self._moved = 0
        self._removed: set[bytes] = set()
        self._retries = 0
        self._trouble: list[str] = []

    def run(self) -> Outcome:
        """Copy, and compare. Raises KubeferryError when it can't be done; a mismatch is in the outcome's parity."""
        started = time.monotonic()
        self._progress.phase("preflight")
        _source_facts, facts = preflight(self._source, self._target)
        source, target = self._comparison.manifests()
        first = plan = self._plan(source, target)
        self._require_room(plan, facts)
        if not self._options.check:
            try:
                plan, source, target = self._converge(plan, source, target)
            finally:
                self._target.close()
            self._save(plan, source)
        return Outcome(
            plan=first,
            parity=parity(plan, source, target),
            source=source,
            bytes_planned=first.content_bytes(),
            bytes_moved=self._moved,
            retries=self._retries,
            seconds=time.monotonic() - started,
            trouble=self._trouble,
        )

    def _plan(self, source: Manifest, target: Manifest) -> Plan:
        return self._comparison.plan(source, target, self._options.delete)

    def _require_room(self, plan: Plan, facts: Facts) -> None:
        replaced = sum(
            c.have.size for c in plan.by_action(REPLACE) if c.have is not None and c.have.kind == FILE
        )
        new = plan.content_bytes()
        needed = max(0, new - replaced) + min(BATCH_BYTES, replaced)
        if facts.free_bytes is not None and needed > facts.free_bytes:
            raise EndpointError(
                f"{self._target.where} has {facts.free_bytes} bytes free and the copy needs {needed}: "
                "make room or take a larger volume; nothing was copied."
            )
        made = len(plan.by_action(CREATE))
        if facts.free_inodes is not None and made > facts.free_inodes:
            raise EndpointError(
                f"{self._target.where} has room for {facts.free_inodes} more files and the copy makes {made}: "
                "take a volume with more inodes; nothing was copied."
            )

    # -- doing it ---------------------------------------------------------------------------------

    def _converge(self, plan: Plan, source: Manifest, target: Manifest) -> tuple[Plan, Manifest, Manifest]:
        """Execute the plan and plan again, until nothing is left, or nothing more can be done about it."""
        before: set[tuple[bytes, str]] = set()
        while plan.changes:
            try:
                self._execute(plan, source)
                source, target = self._comparison.manifests()
                plan = self._plan(source, target)
            except TRANSIENT as exc:
                self._target.close()
                if self._retries >= self._options.retries:
                    raise
                self._retry(str(exc))
                continue
            left = {(change.path, change.action) for change in plan.changes}
            content = [c for c in plan.by_action(CREATE, REPLACE) if needs_content(c.want)]
            if left == before and not content:
                break
            before = left
            if content:
                if self._retries >= self._options.retries:
                    break
                self._retry(f"{some([change.path for change in content])} did not arrive whole")
        return plan, source, target

    def _retry(self, reason: str) -> None:
        self._retries += 1
        self._trouble.append(reason)
        self._progress.phase("retry")
        time.sleep(min(BACKOFF_SECONDS * 2 ** (self._retries - 1), 30.0))

    def _execute(self, plan: Plan, source: Manifest) -> None:
        """Work off the plan: contents in batches, then what is extra, then the directories' attributes."""
        self._begin()
        self._progress.phase("move", plan.content_bytes(), len(plan.content()))
        doomed = _doomed(plan)
        failed: set[bytes] = set()
        for batch in batches(plan.changes, BATCH_BYTES, BATCH_ENTRIES):
            failed |= self._batch(batch, source, doomed)
        self._progress.phase("attributes")
        extra = [c.have for c in plan.by_action(DELETE) if c.have is not None and not failed]
        self._removed.update(entry.path for entry in extra)
        attributes = [c.want for c in plan.by_action(METADATA) if c.want is not None and c.want.kind != DIR]
        changes = Changes(remove=extra, attributes=attributes + _directories(plan, source))
        if changes:
            self._target.apply(changes)
        self._target.end(source.get(b".") if self._selection.whole else None)

    def _begin(self) -> None:
        """Take the target. After a lost connection our own hold may last until the other side notices."""
        patience = time.monotonic() + (REGAIN_SECONDS if self._retries else 0.0)
        while True:
            try:
                self._target.begin()
                return
            except BusyError:
                self._target.close()
                if time.monotonic() > patience:
                    raise
                time.sleep(1.0)

    def _batch(self, batch: list[Change], source: Manifest, doomed: dict[bytes, list[Entry]]) -> set[bytes]:
        """Move one batch, check it where it has landed, and bring into place what is whole. Returns what is not."""
        moving = [change for change in batch if needs_content(change.want)]
        bare, arrived = self._move(moving, source) if moving else ([], {})
        failed = {e.path for e in _wanted(moving) if not e.digest or arrived.get(e.path) != e.digest}
        for path in failed:
            self._comparison.forget(path)
        whole = [
            change for change in batch if change.want and not failed & {change.path, change.want.hardlink}
        ]
        self._target.apply(
            Changes(
                clear=[entry for change in whole for entry in doomed.get(change.path, ())],
                discard=[path for path in failed if path in arrived],
                bare=[entry for entry in bare if entry.path not in failed],
                create=_wanted(whole),
            )
        )
        self._comparison.placed(whole)
        return failed

    def _move(self, moving: list[Change], source: Manifest) -> tuple[list[Entry], dict[bytes, str]]:
        """Have contents moved and read back while digests are taken at the source of those that have none yet.

        Returns the entries that arrived without their attributes, and the digests of what arrived.
        """
        changed = [change for change in moving if change.have is not None and change.have.kind == FILE]
        fresh = [change for change in moving if change.have is None or change.have.kind != FILE]
        untold = [entry.path for entry in _wanted(moving) if not entry.digest]
        with Beside(lambda: self._comparison.take_at_source(untold, source)) as digesting:
            moved = self._transport.move(_wanted(fresh), _wanted(changed))
            paths = [entry.path for entry in _wanted(moving)]
            arrived = dict(self._target.received(paths, self._options.checksum))
            digesting.result()
        self._moved += moved.bytes
        return moved.bare, arrived

    def _save(self, plan: Plan, source: Manifest) -> None:
        """Tell the target what is verified there, as a manifest of the source's entries and digests."""
        different = {change.path for change in plan.by_action(CREATE, REPLACE, METADATA)}
        entries = {path: entry for path, entry in source.entries.items() if path not in different}
        verified = replace(source, entries=entries, unreadable={})
        gone = self._removed | different | {change.path for change in plan.by_action(DELETE)}
        self._target.save(verified, gone)


def preflight(source: Tree, target: TargetTree) -> tuple[Facts, Facts]:
    """Look at both ends before anything is touched. Raises EndpointError."""
    with Beside(target.facts) as looking:
        there, here = source.facts(), looking.result()
    require_directory(there, source.where)
    if not there.readable:
        raise EndpointError(
            f"{source.where} can't be read by user {there.uid}: run as a user who may read it."
        )
    if here.kind != "missing" or not here.writable:
        require_directory(here, target.where)
    if not here.writable:
        raise EndpointError(
            f"{target.where} can't be written to by user {here.uid}: mount it writable, or run as another."
        )
    if there.volume and there.volume == here.volume:
        raise UsageError(f"{source.where} and {target.where} are the same directory: choose another target.")
    for inner, outer, name in ((here, there, "source"), (there, here, "target")):
        if outer.place and inner.place.startswith(outer.place.rstrip("/") + "/"):
            raise UsageError(f"{inner.place} lies in the {name}: choose another target.")
    return there, here


def require_directory(facts: Facts, where: str) -> None:
    why = {
        "missing": "doesn't exist: correct the path",
        "block": "is a block device, no file system: only claims with volumeMode Filesystem can be copied",
        "other": "isn't a directory: give the directory and name the file in files",
    }.get(facts.kind)
    if why is not None:
        raise EndpointError(f"{where} {why}.")


def _doomed(plan: Plan) -> dict[bytes, list[Entry]]:
    """What must go before a path can be made: a directory with what is in it, or anything in a directory's place.

    A symbolic link goes too: moving onto a link that leads to a directory would move into that directory.
    """
    doomed: dict[bytes, list[Entry]] = {}
    extra = {change.path: change.have for change in plan.by_action(DELETE)}
    for change in plan.by_action(REPLACE):
        want, have = change.want, change.have
        if want is None or have is None or not (have.kind in (DIR, SYMLINK) or want.kind == DIR):
            continue
        inside = [e for path, e in extra.items() if e is not None and path.startswith(change.path + b"/")]
        doomed[change.path] = [have, *inside]
    return doomed


def _directories(plan: Plan, source: Manifest) -> list[Entry]:
    """Directories whose attributes must be set once everything is in its place."""
    paths: set[bytes] = set()
    for change in plan.changes:
        if change.want is not None and change.want.kind == DIR:
            paths.add(change.path)
        if change.action != METADATA:
            paths.add(change.path.rpartition(b"/")[0])
    made = {change.path for change in plan.by_action(CREATE, REPLACE)}
    found = (source.get(path) for path in sorted(paths))
    return [
        entry
        for entry in found
        if entry is not None
        and entry.kind == DIR
        and entry.path != b"."
        and (not entry.implied or entry.path in made)
    ]


def _wanted(changes: Iterable[Change]) -> list[Entry]:
    return [change.want for change in changes if change.want is not None]
