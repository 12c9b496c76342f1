# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A staging directory: contents on disk, attributes in the manifest beside it.

So a user without root rights can hold a tree whose owners, modes and devices that user may not make. Regular files,
directories and symbolic links are on disk, readable for that user; everything else is in the manifest alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from . import _manifest
from ._folder import Folder
from ._local_tree import LocalTree
from ._manifest import DIR, FILE, SYMLINK, Entry, Manifest
from ._progress import Progress
from ._selection import Selection

ON_DISK = (FILE, DIR, SYMLINK)


class StagedTree(LocalTree):
    """A `LocalTree` whose attributes and, as a source, whose digests come from the manifest file."""

    def __init__(self, path: str, manifest: str, progress: Progress, as_source: bool) -> None:
        super().__init__(path, progress)
        self._manifest_path = manifest
        self._as_source = as_source
        self._given: dict[bytes, Entry] = {}

    def scan(self, selection: Selection) -> Manifest:
        found = super().scan(selection)
        kept = self._kept()
        if self._as_source:
            return self._promised(found, kept, selection)
        kept.entries.update(self._given)
        for path, entry in found.entries.items():
            known = kept.get(path)
            if known is not None and _same_thing(known, entry):
                found.entries[path] = replace(
                    known, digest="", hardlink=entry.hardlink, identity=entry.identity, stamp=entry.stamp
                )
        for known in kept:
            if known.kind not in ON_DISK and selection.holds(known.path):
                found.entries[known.path] = known
        found.entries = _manifest.ordered(found.entries.values())
        return found

    def save(self, verified: Manifest, gone: Iterable[bytes]) -> None:
        """Write what is verified here now, over what the manifest knew before."""
        kept = self._kept()
        entries = kept.entries if kept.checksum == verified.checksum else {}
        for path in gone:
            entries.pop(path, None)
        entries.update(verified.entries)
        merged = replace(verified, entries=_manifest.ordered(entries.values()), unreadable={})
        _manifest.write(merged, self._manifest_path)

    def _kept(self) -> Manifest:
        if os.path.exists(self._manifest_path) or self._as_source:
            return _manifest.read(self._manifest_path)
        return Manifest()

    def _promised(self, found: Manifest, kept: Manifest, selection: Selection) -> Manifest:
        """The tree as the manifest describes it, with everything named where the disk differs."""
        promised = Manifest(kept.checksum, kept.precision, self._path, unreadable=dict(found.unreadable))
        parents = set(selection.parents())
        for entry in kept:
            if not selection.holds(entry.path) and entry.path not in parents:
                continue
            on_disk = found.get(entry.path)
            implied = entry.implied or not selection.holds(entry.path)
            promised.entries[entry.path] = replace(entry, implied=implied)
            if entry.kind in ON_DISK and on_disk is None:
                promised.unreadable[entry.path] = "missing from the staging directory"
            elif on_disk is not None and not _same_thing(entry, on_disk):
                promised.unreadable[entry.path] = "changed in the staging directory since it was copied there"
        _manifest.complete(promised.entries, kept.entries)
        promised.entries = _manifest.ordered(promised.entries.values())
        for path in found.entries:
            if path not in promised.entries and path != b".":
                promised.unreadable[path] = "in the staging directory, but not in its manifest"
        return promised

    def _mode(self, entry: Entry) -> int:
        """Permissions that let this user read it back, and no set-id bits on the way."""
        return entry.mode & 0o777 | (0o700 if entry.kind == DIR else 0o600)

    def _create(self, folder: Folder, entry: Entry) -> None:
        self._given[entry.path] = entry
        if entry.kind in ON_DISK:
            super()._create(folder, entry)

    def _set_attributes(self, folder: Folder, entry: Entry, path: bytes | None = None) -> None:
        self._given[entry.path] = entry
        if entry.kind in ON_DISK:
            super()._set_attributes(folder, entry, path)

    def _own(self, entry: Entry) -> tuple[int, int]:
        return -1, -1


def _same_thing(known: Entry, on_disk: Entry) -> bool:
    """Whether what lies on disk is still what was put there, as far as a look can tell."""
    if known.kind != on_disk.kind:
        return False
    if known.kind == FILE:
        return (known.size, known.mtime) == (on_disk.size, on_disk.mtime)
    return known.kind != SYMLINK or known.link == on_disk.link
