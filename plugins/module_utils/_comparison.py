# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Two trees side by side: their manifests, with a digest wherever only a digest can tell whether files match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from ._beside import Beside
from ._errors import EndpointError, ProtocolError, UsageError
from ._manifest import DIR, FILE, Entry, Manifest, checked_tree
from ._names import display, some
from ._plan import Change, Plan, Rules, make_plan, undecided
from ._progress import Progress
from ._selection import Selection
from ._tree import Tree

Digests: TypeAlias = Callable[[Sequence[bytes], str], Iterable[tuple[bytes, str]]]


Version: TypeAlias = tuple[int, int, tuple[int, int]]


class Known:
    """Digests taken in this run. They hold for as long as a file looks the same.

    Part of the look is the time of the last change of the inode, which no program can set: a file that is rewritten
    with the size and the modification time it had is read again.
    """

    def __init__(self) -> None:
        self._digests: dict[bytes, tuple[Version, str]] = {}

    def take(self, digests: Digests, paths: Sequence[bytes], manifest: Manifest) -> None:
        """Have digests of `paths` taken, and put them into the manifest."""
        for path, digest in digests(paths, manifest.checksum):
            entry = manifest.entries[path]
            entry.digest = digest
            self._digests[path] = (_version(entry), digest)

    def recall(self, manifest: Manifest) -> None:
        """Put what is known into a newer manifest of the same tree."""
        for path, (version, digest) in self._digests.items():
            entry = manifest.get(path)
            if entry is not None and not entry.digest and _version(entry) == version:
                entry.digest = digest

    def forget(self, path: bytes) -> None:
        self._digests.pop(path, None)


def _version(entry: Entry) -> Version:
    return entry.size, entry.mtime, entry.stamp


def _arrived(entry: Entry, want: Entry, before: Entry | None, unit: int) -> bool:
    """Whether what lies at the target can only be what was placed there, so that it needn't be read again.

    Not if it is still the file from before, whose size and time may be the same, and not if something else has
    written to it since.
    """
    if before is not None and before.stamp[0] == entry.stamp[0]:
        return False
    return (entry.size, entry.mtime // unit) == (want.size, want.mtime // unit)


class Comparison:
    """Compares a selection of two trees, as often as asked; what was read once isn't read again."""

    def __init__(
        self,
        source: Tree,
        target: Tree,
        selection: Selection,
        checksum: str,
        metadata: str,
        progress: Progress,
    ) -> None:
        self._source = source
        self._target = target
        self._selection = selection
        self._checksum = checksum
        self._metadata = metadata
        self._progress = progress
        self._at_source = Known()
        self._at_target = Known()
        self._placed: dict[bytes, tuple[Entry, Entry | None, str]] = {}
        self._first = True

    def manifests(self) -> tuple[Manifest, Manifest]:
        """Both sides as they are now. Raises EndpointError when a selected path isn't there or can't be read."""
        self._progress.phase("manifest")
        with Beside(lambda: self._target.scan(self._selection)) as scanning:
            source = self._source.scan(self._selection)
            target = scanning.result()
        self._require_digests(source)
        source.checksum = target.checksum = self._checksum
        self._require_selected(
            source, "nothing was changed" if self._first else "it vanished during the copy"
        )
        self._first = False
        try:
            checked_tree(source.entries)
        except ValueError as exc:
            raise ProtocolError(
                f"{self._source.where} is no tree: {exc}. Run again when it is at rest."
            ) from exc
        self._at_source.recall(source)
        self._at_target.recall(target)
        for path, (want, before, digest) in self._placed.items():
            entry = target.get(path)
            if entry is not None and _arrived(entry, want, before, target.precision):
                entry.digest = digest
        self._take_undecided(source, target)
        return source, target

    def plan(self, source: Manifest, target: Manifest, delete: bool = False) -> Plan:
        """What would make the target equal the source."""
        compared = self._metadata != "ignore"
        precision = max(source.precision, target.precision)
        rules = Rules(mode=compared, owner=compared, mtime=compared, precision=precision)
        return make_plan(source, target, rules, delete)

    def take_at_source(self, paths: Sequence[bytes], source: Manifest) -> None:
        """Have digests taken at the source."""
        self._at_source.take(self._source.digests, paths, source)

    def forget(self, path: bytes) -> None:
        """A file didn't arrive as its digest promised: read it anew next time."""
        self._at_source.forget(path)

    def placed(self, changes: Iterable[Change]) -> None:
        """The files of these changes were found whole where they were received, and should have got their names."""
        for change in changes:
            want = change.want
            if want is None or want.kind != FILE:
                continue
            first = self._placed.get(want.hardlink)
            if want.hardlink and first is None:
                # A link to what was there already: that is read again.
                self._placed.pop(want.path, None)
            else:
                self._placed[want.path] = (want, change.have, want.digest if first is None else first[2])

    def _take_undecided(self, source: Manifest, target: Manifest) -> None:
        pairs = undecided(source, target)
        ours = [path for path in pairs if not source.entries[path].digest]
        theirs = [path for path in pairs if not target.entries[path].digest]
        if not ours and not theirs:
            return
        self._progress.phase("compare", sum(source.entries[path].size for path in ours), len(ours))
        with Beside(lambda: self._at_target.take(self._target.digests, theirs, target)) as comparing:
            self.take_at_source(ours, source)
            comparing.result()

    def _require_digests(self, source: Manifest) -> None:
        """A source that comes with its digests decides by which algorithm files are compared."""
        if source.checksum != self._checksum and any(entry.digest for entry in source):
            raise UsageError(
                f"checksum: the manifest of {self._source.where} holds {source.checksum} digests: "
                f"set checksum to {source.checksum}."
            )

    def _require_selected(self, source: Manifest, outcome: str) -> None:
        """What was asked for must be there and readable, before anything is touched. `outcome` ends the sentence."""
        where = self._source.where
        known = source.entries.keys() | source.unreadable.keys()
        absent = [name for name in self._selection.files if name not in known]
        if absent:
            raise EndpointError(f"{some(absent)} isn't in {where}: correct the list of files; {outcome}.")
        for parent in self._selection.parents():
            entry = source.get(parent)
            if entry is not None and entry.kind != DIR:
                raise UsageError(
                    f"files: {display(parent)} in {where} is a {entry.kind}, no directory: name the files where they "
                    "really lie."
                )
        if source.unreadable:
            path, reason = next(iter(source.unreadable.items()))
            raise EndpointError(
                f"{some(list(source.unreadable))} in {where} can't be used ({display(path)}: {reason}): "
                "exclude what isn't needed, or run as a user who may read it."
            )
