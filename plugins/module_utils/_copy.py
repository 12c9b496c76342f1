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

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TypeVar

from ._beside import Beside
from ._comparison import Comparison, Criteria
from ._entry import DIR, FILE, SYMLINK, Entry, Taken
from ._errors import (
    BusyError,
    ConnectionLost,
    ContainerAway,
    EndpointError,
    KubeferryError,
    ProtocolError,
    Throttled,
    Unreachable,
    UsageError,
)
from ._file_system import Shown
from ._look import MARGIN
from ._manifest import VANISHED, Manifest
from ._manifest_file import read, write_alone
from ._names import SHOWN, display, some
from ._overlap import require_apart_inside
from ._parity import Parity, parity
from ._plan import CREATE, DELETE, METADATA, REPLACE, Change, Plan, Rules, batches, make_plan, needs_content
from ._preflight import preflight, require_one_volume, require_room
from ._progress import Progress
from ._proofs import Proof, Proofs, key, now
from ._selection import Selection
from ._store import batched
from ._transport import Transport
from ._tree import Changes, Facts, SourceTree, TargetTree

T = TypeVar("T")

BATCH_BYTES = 4 << 30
BATCH_ENTRIES = 20_000
"""What is moved before it is checked and given its names: bounds the room that is needed beside the files replaced."""
MENDING = (CREATE, REPLACE, METADATA)
TRANSIENT = (ConnectionLost, ContainerAway, ProtocolError, Throttled, Unreachable)
BACKOFF_SECONDS = 1.0

REGAIN_SECONDS = 60.0
"""How long a hold whose connection was lost may go on at the other side."""


@dataclass(frozen=True)
class Options:
    """How to copy. `metadata` is `strict`, `report` or `ignore`; `retries` counts the attempts after the first.

    `on_change` is `fail` or `report`: what becomes of a source that isn't at rest. `proofs` is the directory of earlier
    proofs; without it everything is read. `baseline` is a file for what the target has of the source in the end. What
    it names from an earlier copy, and is left as it was then, is deleted where the source hasn't it any more.
    """

    checksum: str = "sha256"
    metadata: str = "strict"
    delete: bool = False
    retries: int = 3
    check: bool = False
    on_change: str = "fail"
    proofs: str | None = None
    baseline: str | None = None


@dataclass
class Outcome:
    """What a copy did and proved. Bytes are those of file contents; `seconds` is wall time.

    `proven` is when everything was read, where this run found nothing changed since then (seconds since the epoch);
    then `source` is empty.
    """

    plan: Plan
    parity: Parity
    source: Manifest
    files: int = 0
    bytes: int = 0
    bytes_planned: int = 0
    bytes_moved: int = 0
    retries: int = 0
    seconds: float = 0.0
    trouble: list[str] = field(default_factory=list)
    proven: float | None = None


class Copy:
    """One copy of a selection from a tree to another."""

    def __init__(
        self,
        source: SourceTree,
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
        lenient = options.on_change == "report"
        criteria = Criteria(options.checksum, options.metadata, lenient, self._source_is_still)
        self._comparison = Comparison(source, target, selection, criteria, progress)
        self._proofs = Proofs(options.proofs)
        self._subject = ""
        self._moved = 0
        self._begun: Manifest | None = None
        self._first: Plan | None = None
        self._touched = False
        self._baseline: Manifest | None = None
        self._retries = 0
        self._trouble: list[str] = []

    def run(self) -> Outcome:
        """Copy, and compare. Raises KubeferryError when it can't be done; a mismatch is in the outcome's parity."""
        started = time.monotonic()
        self._progress.phase("preflight")
        here, there = self._patiently(lambda: preflight(self._source, self._target))
        self._subject = self._about(here, there)
        # A proof doesn't name what there is, for a baseline.
        noted = not self._options.baseline or os.path.exists(self._options.baseline)
        known = self._patiently(self._known_whole) if noted and there.kind == "dir" else None
        try:
            outcome = known or self._copy(here, there)
        except KubeferryError as exc:
            exc.changed = self._touched
            raise
        outcome.seconds = time.monotonic() - started
        return outcome

    def _known_whole(self) -> Outcome | None:
        """The outcome where an earlier run has proven both trees to be as they are now."""
        if not self._proofs.about(self._subject):
            return None
        self._progress.phase("look")
        with Beside(
            lambda: self._target.fingerprint(self._selection), at_once=self._comparison.apart
        ) as looking:
            source = self._source.fingerprint(self._selection)
            proof = self._proofs.find(self._subject + key(looking.result(), source))
        if proof is None or (proof.extra and self._options.baseline):  # which of that may go, it doesn't tell
            return None
        nothing = Manifest()
        nothing.uncopied.update(proof.uncopied)
        return Outcome(
            plan=make_plan(nothing, nothing, Rules()),
            parity=Parity(matched=proof.matched, extra=proof.extra),
            source=nothing,
            files=proof.files,
            bytes=proof.bytes,
            proven=proof.when,
        )

    def _flush(self) -> tuple[Shown | None, Shown | None]:
        """Have both sides write out what was written to them; what shows at each from then on."""
        with Beside(self._target.flush, at_once=self._comparison.apart) as flushing:
            return self._source.flush(), flushing.result()

    def _source_is_still(self, seen: Manifest) -> bool:
        """Whether a walk of the source sees what it saw for that manifest, and any change since then would show."""
        if seen.look is None or not seen.look.telling:
            return False
        return self._source.fingerprint(self._selection) == self._source.fingerprint_of(seen.look)

    def _about(self, source: Facts, target: Facts) -> str:
        """How the names of proofs about such copies of this directory begin.

        Among it is what either end can tell at all: with better tools more is compared. The directory is told from
        others by its inode's number, which others may have as well: what is proven is in the rest of the name.
        """
        options, inode = self._options, source.volume.rpartition(":")[2]
        tools = (source.xattrs, source.precision, target.xattrs, target.settable)
        wanted = (options.checksum, options.metadata, options.delete)
        return key(inode, self._selection.told(), *wanted, *tools) + "."

    def _copy(self, here: Facts, there: Facts) -> Outcome:
        self._comparison.rely(*self._patiently(self._flush))
        source, target = self._patiently(self._comparison.manifests)
        self._require_told(source)
        require_apart_inside(self._source.where, self._target.where, here, there, source, target)
        begun = self._begun = source
        if self._options.baseline and os.path.exists(self._options.baseline):
            self._baseline = read(self._options.baseline, source.store)
        first = self._first = plan = self._plan(source, target)
        require_one_volume(plan, target, there, self._target.where)
        if self._options.check:
            found = self._verdict(plan, source, target)
            self._prepare(plan, there)
        else:
            self._prepare(plan, there)
            try:
                plan, source, target = self._converge(plan, source, target)
            except EndpointError:
                self._target.close(keep=False)  # such as a full volume
                raise
            finally:
                self._target.close()
            found = self._verdict(plan, source, target)
            self._save(plan, source, begun)
            if self._options.baseline:
                write_alone(plan.shared(), self._options.baseline)
        files, size = source.totals()
        outcome = Outcome(
            plan=first,
            parity=found,
            source=source,
            files=files,
            bytes=size,
            bytes_planned=first.content()[1],
            bytes_moved=self._moved,
            retries=self._retries,
            trouble=self._trouble,
        )
        kept = self._options.proofs and not plan and not self._options.check
        if kept and self._comparison.quiet(source, target):
            self._remember(outcome.parity, source, target)
        return outcome

    def _remember(self, found: Parity, source: Manifest, target: Manifest) -> None:
        """Keep the proof, if both trees have been at rest for long enough that any later change will show."""
        ours, theirs = source.look, target.look
        if found.holds("strict") and ours and theirs and ours.settled and theirs.settled:
            looks = self._target.fingerprint_of(theirs), self._source.fingerprint_of(ours)
            self._proofs.keep(
                self._subject + key(*looks),
                Proof(now(), found.matched, *source.totals(), found.extra, sorted(source.uncopied)),
            )

    def _require_told(self, source: Manifest) -> None:
        """Raises UsageError where all else is to be deleted beside what a manifest tells only a part of.

        By patterns it may have been that part, or not: nothing tells.
        """
        if not self._options.delete or self._selection.include or not self._source.facts().promises:
            return
        for start in self._selection.starts():
            entry = source.get(start)
            if entry.implied if entry else start == b".":
                whole = "the tree" if start == b"." else display(start)
                raise UsageError(
                    f"delete: the manifest of {self._source.where} tells only of a part of {whole}, and all else in "
                    f"{self._target.where} would be removed: give the files, include and exclude again with which it "
                    "was staged, or leave delete out; nothing was changed."
                )

    def _prepare(self, plan: Plan, facts: Facts) -> None:
        plan.part_files()
        require_room(plan, facts, self._target.where, BATCH_BYTES)

    def _verdict(self, plan: Plan, source: Manifest, target: Manifest) -> Parity:
        drift = source.drift(self._begun) if self._begun else ()
        return parity(plan, source, target, drift, extra_counts=self._options.delete)

    def _plan(self, source: Manifest, target: Manifest) -> Plan:
        return self._comparison.plan(source, target, self._options.delete, self._baseline)

    # -- doing it ---------------------------------------------------------------------------------

    def _converge(self, plan: Plan, source: Manifest, target: Manifest) -> tuple[Plan, Manifest, Manifest]:
        """Execute the plan and plan again, until nothing is left, or nothing more can be done about it."""
        before = ""
        while plan.count(*MENDING):
            try:
                self._execute(plan, source)
                time.sleep(2 * MARGIN / 1e9)  # else what was just done could be changed again without a trace
                self._comparison.written_out(self._target.flush())
                source, target = self._comparison.manifests()
                plan = self._plan(source, target)
            except TRANSIENT as exc:
                plan, source, target = self._look_again(exc, plan)
                continue
            left, content = _fingerprint(plan), plan.content()[0]
            if left == before and not content:
                break
            before = left
            if content:
                self._require_promised(plan)
                if self._retries >= self._options.retries:
                    break
                unsent = (c.path for c in plan.changes(CREATE, REPLACE) if needs_content(c.want))
                self._retry(f"{some(list(islice(unsent, SHOWN)), content)} did not arrive whole")
        unmade = plan.unmade if self._options.metadata != "strict" else ()
        verified = plan.count(CREATE, REPLACE) == len(unmade)
        if plan.count(DELETE) and verified and not self._lost(source):
            return self._prune(plan, source, target)
        return plan, source, target

    def _require_promised(self, plan: Plan) -> None:
        """Raises EndpointError where what didn't arrive whole isn't what a manifest promises: no retry mends that."""
        if not self._source.facts().promises:
            return
        unsent = (
            c.want for c in plan.changes(CREATE, REPLACE) if c.want is not None and needs_content(c.want)
        )
        for entries in batched(unsent, BATCH_ENTRIES):
            found = self._source.digests([entry.path for entry in entries], self._options.checksum)
            promised = {entry.path: entry.digest for entry in entries}
            if broken := [each.path for each in found if each.digest != promised[each.path]]:
                raise EndpointError(
                    f"{some(broken)} in {self._source.where} isn't what its manifest says, so somebody has changed it "
                    "since it was staged: run the first hop again, which brings it anew, and then this one. What is "
                    "whole at the target was kept."
                )

    def _lost(self, source: Manifest) -> bool:
        """Whether something vanished from the source that has to be there."""
        if self._begun is None or self._options.on_change == "report":
            return False
        return any(what == VANISHED for _path, what in source.drift(self._begun))

    def _look_again(self, broken: KubeferryError, plan: Plan) -> tuple[Plan, Manifest, Manifest]:
        """After a connection broke: what is in its place by now isn't sent again.

        Raises the error after the last retry, with what was still to be done by the `plan`.
        """
        self._target.close()
        if self._retries >= self._options.retries:
            raise _with_rest(broken, plan)
        self._retry(str(broken))
        try:
            source, target = self._patiently(self._comparison.manifests)
        except TRANSIENT as exc:
            raise _with_rest(exc, plan) from exc
        return self._plan(source, target), source, target

    def _patiently(self, work: Callable[[], T]) -> T:
        """What `work` returns, which changes nothing; after a lost connection it is tried again."""
        while True:
            try:
                return work()
            except TRANSIENT as exc:
                if self._retries >= self._options.retries:
                    raise
                self._retry(str(exc))

    def _retry(self, reason: str) -> None:
        self._retries += 1
        self._trouble.append(reason)
        self._progress.phase("retry")
        time.sleep(min(BACKOFF_SECONDS * 2 ** (self._retries - 1), 30.0))

    def _execute(self, plan: Plan, source: Manifest) -> None:
        """Work off the plan: contents in batches, then what is extra, then the directories' attributes."""
        self._begin()
        self._own_up(plan)
        plan.part_files()
        self._comparison.changing(plan)
        self._open(plan, CREATE, REPLACE)
        count, size = plan.content()
        self._progress.phase("move", size, count)
        for batch in batches(plan.changes(CREATE, REPLACE), BATCH_BYTES, BATCH_ENTRIES):
            self._batch(batch, source, plan)
        self._progress.phase("attributes")
        for strips in batched(_strips(plan), BATCH_ENTRIES):
            self._apply(Changes(strip=strips))
        attributes = (c.want for c in plan.changes(METADATA) if c.want is not None and c.want.kind != DIR)
        for entries in batched(chain(attributes, _directories(plan, source, *MENDING)), BATCH_ENTRIES):
            self._apply(Changes(attributes=entries))
        self._target.end(source.get(b".") if self._selection.whole else None)

    def _prune(self, plan: Plan, source: Manifest, target: Manifest) -> tuple[Plan, Manifest, Manifest]:
        """Remove what is extra, now that all else is verified: what lies in a directory before the directory."""
        self._comparison.changing(plan)
        while plan.count(DELETE):
            try:
                self._begin()
                self._own_up(plan)
                self._open(plan, DELETE)
                extra = (c.have for c in plan.changes(DELETE, backwards=True) if c.have is not None)
                for entries in batched(extra, BATCH_ENTRIES):
                    self._apply(Changes(remove=entries))
                for entries in batched(_directories(plan, source, DELETE), BATCH_ENTRIES):
                    self._apply(Changes(attributes=entries))
                self._target.end(source.get(b".") if self._selection.whole else None)
                source, target = self._comparison.manifests()
                return self._plan(source, target), source, target
            except TRANSIENT as exc:
                plan, source, target = self._look_again(exc, plan)
        return plan, source, target

    def _apply(self, changes: Changes) -> None:
        self._touched = True
        self._target.apply(changes)

    def _own_up(self, plan: Plan) -> None:
        """Have the first plan, which is shown, tell also what has come to the target since, and is removed now."""
        if self._first is not None:
            self._first.also_delete(plan)

    def _open(self, plan: Plan, *actions: str) -> None:
        """Let an ordinary user work in his own read-only directories; these get their attributes in the end anyway."""
        for entries in batched(plan.shut(*actions), BATCH_ENTRIES):
            self._apply(Changes(attributes=[replace(e, mode=e.mode | stat.S_IRWXU) for e in entries]))

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

    def _batch(self, batch: list[Change], source: Manifest, plan: Plan) -> None:
        """Move one batch, check it where it has landed, and bring into place what is whole."""
        moving = [change for change in batch if needs_content(change.want)]
        bare, arrived = self._move(moving, source) if moving else ([], {})
        told = source.digests([change.path for change in moving])
        failed = {
            path
            for path, digest in told.items()
            if not digest or path not in arrived or arrived[path].digest != digest
        }
        self._comparison.forget(failed)
        whole = [
            change for change in batch if change.want and not failed & {change.path, change.want.hardlink}
        ]
        for change in whole:
            if change.want is not None and change.path in told:
                change.want.digest = told[change.path]
        self._apply(
            Changes(
                clear=[entry for change in whole for entry in _doomed(change, plan)],
                discard=sorted(failed),
                bare=[entry for entry in bare if entry.path not in failed],
                create=_wanted(whole),
            )
        )
        arrived.update((taken.path, taken) for taken in self._target.placed())
        self._comparison.placed(whole, arrived)

    def _move(self, moving: list[Change], source: Manifest) -> tuple[list[Entry], dict[bytes, Taken]]:
        """Have contents moved and read back while digests are taken at the source of those that have none yet.

        Returns the entries that arrived without their attributes, and the digests of what arrived.
        """
        changed = [change for change in moving if change.have is not None and change.have.kind == FILE]
        fresh = [change for change in moving if change.have is None or change.have.kind != FILE]
        untold = [entry.path for entry in _wanted(moving) if not entry.digest]
        with Beside(lambda: self._comparison.take_at_source(untold, source)) as digesting:
            moved = self._transport.move(_wanted(fresh), _wanted(changed), self._options.checksum)
            paths = [entry.path for entry in _wanted(moving)]
            arrived = {each.path: each for each in self._target.received(paths, self._options.checksum)}
            digesting.result()
        self._moved += moved.bytes
        return moved.bare, arrived

    def _save(self, plan: Plan, source: Manifest, begun: Manifest) -> None:
        """Tell the target what is verified there, as a manifest of the source's entries and digests."""
        verified = source.part(f"path NOT IN ({plan.unsettled()})")
        gone = chain(plan.paths(*MENDING, DELETE), self._first.paths(DELETE) if self._first else ())
        restless = (path for path, _what in source.drift(begun, plan.unsettled()))
        self._target.save(verified, gone, restless)


def _doomed(change: Change, plan: Plan) -> list[Entry]:
    """What must go before a path can be made: a directory with what is in it, or anything in a directory's place.

    A symbolic link goes too: moving onto a link that leads to a directory would move into that directory.
    """
    want, have = change.want, change.have
    if want is None or have is None or not (have.kind in (DIR, SYMLINK) or want.kind == DIR):
        return []
    inside = plan.changes(DELETE, within=change.path) if have.kind == DIR else ()
    return [have, *(lost.have for lost in inside if lost.have is not None)]


def _directories(plan: Plan, source: Manifest, *actions: str) -> Iterator[Entry]:
    """Directories whose attributes must be set once these actions are done, each before those above it.

    So none is shut before what lies in it is done.
    """
    paths: set[bytes] = set()
    made: set[bytes] = set()
    for path, action, kind in plan.touched(*actions):
        if kind == DIR:
            paths.add(path)
            if action in (CREATE, REPLACE):
                made.add(path)
        if action != METADATA:
            paths.add(path.rpartition(b"/")[0])
    found = (source.get(path) for path in sorted(paths - {b"."}, reverse=True))
    return (
        entry
        for entry in found
        if entry is not None and entry.kind == DIR and (not entry.implied or entry.path in made)
    )


def _strips(plan: Plan) -> Iterator[tuple[bytes, bytes]]:
    """Extended attributes that the target has and the source hasn't."""
    for change in plan.changes(METADATA):
        if change.want is not None and change.have is not None and "xattrs" in change.reasons:
            wanted = {name for name, _value in change.want.xattrs}
            yield from ((change.path, name) for name, _value in change.have.xattrs if name not in wanted)


def _with_rest(broken: KubeferryError, plan: Plan) -> KubeferryError:
    """The error that ended a copy, with the paths that may not be in their places."""
    count = plan.count(*MENDING, DELETE)
    rest = list(islice(plan.paths(*MENDING, DELETE), SHOWN))
    why = str(broken).replace("; try again.", ".")  # the last sentence says so
    return type(broken)(f"{why} Not known to be done: {some(rest, count)}. Run again to go on from there.")


def _fingerprint(plan: Plan) -> str:
    """The same text for plans with the same changes."""
    told = hashlib.sha256()
    for path in plan.paths(CREATE, REPLACE, METADATA, DELETE):
        told.update(path + b"\0")
    return told.hexdigest()


def _wanted(changes: Iterable[Change]) -> list[Entry]:
    return [change.want for change in changes if change.want is not None]
