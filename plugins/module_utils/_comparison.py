# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Two trees side by side: their manifests, with a digest wherever only a digest can tell whether files match."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from ._beside import Beside
from ._entry import DIR, FILE, NANOSECOND, SECOND, Taken
from ._errors import EndpointError, UsageError
from ._file_system import Shown
from ._known import Known, Placed
from ._look import shows
from ._manifest import Manifest
from ._names import display, some
from ._plan import CREATE, DELETE, METADATA, REPLACE, Change, Plan, Rules, as_known, make_plan, undecided
from ._progress import Progress
from ._selection import WORK_DIR, Selection
from ._store import Store
from ._tree import Tree

LARGE_BYTES = 1 << 18
"""From this size on, reading and hashing a file takes so much longer than opening it that two threads are faster."""


@dataclass(frozen=True)
class Criteria:
    """By which digest contents are compared, and whether attributes are (`metadata` other than `ignore`).

    `lenient` lets a part of the source vanish, or become unreadable, after the first time. `still` tells whether the
    source is as an earlier manifest of it says, if there is a way to find that out for less than a scan.
    """

    checksum: str
    metadata: str
    lenient: bool = False
    still: Callable[[Manifest], bool] = lambda _earlier: False


def not_compared(
    source: Tree, target: Tree, seen: Manifest, selection: Selection, metadata: str
) -> list[str]:
    """What differences can't be found in.

    That is extended attributes where an end has no tools that would show them, and those that were `seen` at the source
    and are no part of a copy; and what has the work directory's name and is somebody's own.
    """
    work = [WORK_DIR.decode()] if _leaves_out(source, selection) else []
    if metadata == "ignore":
        return work
    blind = not (source.facts().xattrs and target.facts().xattrs)
    return work + ["xattrs"] * blind + sorted(seen.uncopied)


def left_out(source: Tree, selection: Selection) -> list[str]:
    """A warning of what is never copied and may be missed."""
    if not _leaves_out(source, selection):
        return []
    name = WORK_DIR.decode()
    return [
        f"{name} in {source.where} has something of yours and is never copied: move that, or exclude {name}."
    ]


def _leaves_out(source: Tree, selection: Selection) -> bool:
    return selection.misses_work and source.facts().foreign


class Comparison:
    """Compares a selection of two trees, as often as asked; what was read isn't read again, if any change shows."""

    def __init__(
        self, source: Tree, target: Tree, selection: Selection, criteria: Criteria, progress: Progress
    ) -> None:
        self._source = source
        self._target = target
        self._selection = selection
        self._criteria = criteria
        self._progress = progress
        self._store = Store()
        self._placed = Placed(self._store)
        self._at_source = Known(self._store)
        self._at_target = Known(self._store)
        self._shown: tuple[Shown | None, Shown | None] = (None, None)
        self._first = True
        self._seen: Manifest | None = None
        self._root: int | None = None

    @property
    def apart(self) -> bool:
        """Whether looking at one side leaves this process time for the other."""
        return not (self._source.near and self._target.near)

    def rely(self, source: Shown | None, target: Shown | None) -> None:
        """What the times of changes show of either side. Without that, everything is read as often as asked."""
        self._shown = source, target

    def written_out(self, target: Shown | None) -> None:
        """The same of the target, which this run has written to and which has written that out since."""
        self._shown = self._shown[0], target

    def manifests(self) -> tuple[Manifest, Manifest]:
        """Both sides as they are now. Raises EndpointError when a selected path isn't there or can't be read."""
        self._progress.phase("manifest")
        # Of the target, just what there is to compare.
        xattrs = self._criteria.metadata != "ignore" and self._source.facts().xattrs
        with Beside(
            lambda: self._target.scan(self._selection, self._store, xattrs=xattrs),
            at_once=self.apart,
        ) as scanning:
            source = self._source_now()
            target = scanning.result()
        for manifest, shown in zip((source, target), self._shown, strict=True):
            if manifest.look is not None:
                manifest.look.rely(shown)
        self._require_own_names(target)
        self._require_digests(source)
        source.checksum = target.checksum = self._criteria.checksum
        if self._first or not self._criteria.lenient:
            self._require_selected(source)
        self._first = False
        # What the source can't vouch for is left as it is.
        target.disregard([*source.unreadable, *source.restless], source)
        self._at_source.recall(source)
        self._at_target.recall(target)
        self._placed.recall(target)
        self._take_undecided(source, target)
        return source, target

    def plan(
        self, source: Manifest, target: Manifest, delete: bool = False, known: Manifest | None = None
    ) -> Plan:
        """What would make the target equal the source. Of what is extra, that which is as it was `known` is deleted."""
        if known is not None:
            self._take_known(source, target, known)
        compared = self._criteria.metadata != "ignore"
        target_facts = self._target.facts()
        kept = SECOND if target.in_seconds() else NANOSECOND
        rules = Rules(
            mode=compared,
            owner=compared,
            mtime=compared,
            precision=max(source.precision, target_facts.settable, kept),
            xattrs=compared and source.xattrs,
            devices=target_facts.rights.devices,
        )
        return make_plan(source, target, rules, delete, known)

    def take_at_source(self, paths: Iterable[bytes], source: Manifest) -> None:
        """Have digests taken at the source."""
        self._at_source.take(self._source.digests, paths, source)

    def forget(self, paths: Collection[bytes]) -> None:
        """Files didn't arrive as their digests promised: read them anew next time."""
        if paths:
            self._seen = None
            self._at_source.forget(paths)

    def changing(self, plan: Plan) -> None:
        """What the plan says is about to be done at the target. What is on its way lies in the tree's own directory."""
        if not plan.count(CREATE, REPLACE, METADATA, DELETE):
            return
        self._at_target.change([b"."])
        self._at_target.change(
            directory
            for path, _action, kind in plan.touched(CREATE, REPLACE, METADATA, DELETE)
            for directory in (path.rpartition(b"/")[0], path if kind == DIR else b"")
            if directory
        )

    def placed(self, changes: Iterable[Change], arrived: Mapping[bytes, Taken]) -> None:
        """The files of these changes were found whole where they were received, and should have got their names."""
        self._placed.note(changes, arrived)

    def quiet(self, source: Manifest, target: Manifest) -> bool:
        """Whether nobody can have written to files since they were read without that showing to a later run.

        Whoever has mapped a file can, in pages that he has written to since they were written out.
        """
        return _quiet(source) and _quiet(target)

    def _source_now(self) -> Manifest:
        """The source's manifest: the one from before, where a walk sees what it saw then."""
        if self._seen is None or not self._criteria.still(self._seen):
            self._seen = self._source.scan(self._selection, self._store)
            self._require_same(self._seen)
        return self._seen

    def _require_same(self, source: Manifest) -> None:
        """A directory that another one has taken the place of is not what was asked for, however empty it is."""
        root = source.look.root if source.look else None
        if self._root is not None and root != self._root:
            raise EndpointError(
                f"{self._source.where} was moved away, replaced or unmounted while it was copied: bring it back and "
                "run again."
            )
        self._root = root

    def _take_undecided(self, source: Manifest, target: Manifest) -> None:
        ours, theirs = (undecided(source, target, side.table) for side in (source, target))
        count, size = source.sums(ours)
        if not count and not target.sums(theirs)[0]:
            return
        self._progress.phase("compare", size, count)
        with Beside(
            lambda: self._at_target.take(self._target.digests, target.paths(theirs), target),
            at_once=self.apart or size >= count * LARGE_BYTES,
        ) as comparing:
            self._at_source.take(self._source.digests, source.paths(ours), source, self._progress)
            comparing.result()

    def _take_known(self, source: Manifest, target: Manifest, known: Manifest) -> None:
        """Have digests taken of what the target alone has, and what looks as it was known."""
        paths = target.paths(as_known(source, target, known))
        self._at_target.take(self._target.digests, paths, target)

    def _require_digests(self, source: Manifest) -> None:
        """A source that comes with its digests decides by which algorithm files are compared."""
        if source.checksum != self._criteria.checksum and source.sums("digest <> ''")[0]:
            raise UsageError(
                f"checksum: the manifest of {self._source.where} holds {source.checksum} digests: "
                f"set checksum to {source.checksum}."
            )

    def _require_own_names(self, target: Manifest) -> None:
        """Names that were given aren't found in a list: where several are taken for one, each of them seems there."""
        for paths in self._selection.alike:
            known: dict[object, bytes] = {}
            for entry in filter(None, map(target.get, paths)):
                other = known.setdefault((entry.kind, entry.stamp[0], entry.identity), entry.path)
                if other != entry.path and (entry.kind == DIR or entry.links == 1):
                    raise EndpointError(
                        f"{display(other)} and {display(entry.path)} are one and the same in {self._target.where}, "
                        "whose file system doesn't tell such names apart: choose another target, or copy one of them."
                    )

    def _require_selected(self, source: Manifest) -> None:
        """What was asked for must be there and readable, before anything is touched."""
        where = self._source.where
        known = {*source.unreadable, *source.restless}
        absent = [name for name in self._selection.files if name not in source and name not in known]
        if absent:
            remedy = (
                "correct the list of files"
                if self._first
                else "it vanished during the copy, run again or leave it out"
            )
            raise EndpointError(f"{some(absent)} isn't in {where}: {remedy}.")
        for parent in self._selection.parents():
            entry = source.get(parent)
            if entry is not None and entry.kind != DIR:
                raise UsageError(
                    f"files: {display(parent)} in {where} is a {entry.kind}, no directory: name the files where they "
                    "really lie."
                )
        if source.unreadable:
            path, reason = next(iter(source.unreadable.items()))
            mended = (
                "run the first hop again"
                if self._source.facts().promises
                else "run as a user who may read it"
            )
            raise EndpointError(
                f"{some(list(source.unreadable))} in {where} can't be used ({display(path)}: {reason}): "
                f"exclude what isn't needed, or {mended}."
            )


def _quiet(side: Manifest) -> bool:
    """Whether a later run will see whatever is done to the files of one side."""
    shown = side.look.shown if side.look else None
    if shown is None or not shown.lasting:
        return False
    return not side.sums(f"kind = '{FILE}' AND NOT {shows('ctime', shown.since)}")[0]
