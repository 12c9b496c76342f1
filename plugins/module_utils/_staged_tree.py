# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A staging directory: contents on disk, attributes in the manifest beside it.

So a user without root rights can hold a tree whose owners, modes and devices that user may not make. Regular files,
directories and symbolic links are on disk, readable for that user; everything else is in the manifest alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from ._entry import DIR, FILE, SECOND, SYMLINK, Entry
from ._errors import UsageError
from ._folder import Folder
from ._local_attributes import KEPT_OWNER, LocalAttributes
from ._local_tree import LocalTree
from ._look import Look
from ._manifest import Manifest
from ._manifest_file import digest_of, read, require_name, require_same, tells_xattrs, write
from ._manifest_tree import selected
from ._names import shown
from ._overlap import Origin, require_apart_by_name
from ._progress import Progress
from ._selection import Selection
from ._store import Store
from ._tree import Facts
from ._xattrs import Xattrs

ON_DISK = (FILE, DIR, SYMLINK)


class _StagedAttributes(LocalAttributes):
    """Those that let this user read it back."""

    def mode(self, entry: Entry) -> int:
        """No set-id bits on the way, either."""
        return entry.mode & 0o777 | (0o700 if entry.kind == DIR else 0o600)

    def own(self, entry: Entry) -> tuple[int, int]:
        return KEPT_OWNER

    def xattrs(self, entry: Entry) -> Xattrs:
        return ()


class StagedTree(LocalTree):
    """A `LocalTree` whose attributes and, as a source, whose digests come from the manifest file.

    `manifest_digest` is that of the file. As a source, only this one is taken, or the first one that is read where none
    is given: another copy may stage its files here meanwhile. As a target, it is that of what was saved or, until then,
    of what was looked at. Raises ManifestError for a file whose name its digests have.
    """

    def __init__(
        self, path: str, manifest: str, progress: Progress, as_source: bool, manifest_digest: str = ""
    ) -> None:
        require_name(manifest)
        super().__init__(path, progress, _StagedAttributes())
        self.manifest_digest = manifest_digest
        self._manifest_path = manifest
        self._as_source = as_source
        self._saved = False
        self._origin = ""
        self._replaces = False
        self._gives_to: Origin | None = None
        self._given = Manifest()

    def take_from(self, origin: Origin, *, replaces: bool) -> None:
        """Take files of `origin` from now on. What the manifest tells of those of another one is forgotten.

        They are refused, with UsageError, if they aren't to be replaced.
        """
        self._origin = str(origin)
        self._replaces = replaces

    def give_to(self, target: Origin) -> None:
        """Give files to `target` from now on. Refused, with UsageError, if what they were copied from overlaps with it.

        They may be brought back to where they came from.
        """
        self._gives_to = target

    def facts(self) -> Facts:
        """Devices are in the manifest alone, and so are, of a source, the digests."""
        here = super().facts()
        told = not self._as_source or tells_xattrs(self._manifest_path)
        rights = here.rights._replace(devices=True)
        return replace(here, rights=rights, xattrs=told, promises=self._as_source)

    def scan(self, selection: Selection, store: Store | None = None, *, xattrs: bool = True) -> Manifest:
        found = super().scan(selection, store, xattrs=False)  # they are in the manifest
        found.xattrs = True
        kept = self._kept(found.store)
        if self._as_source:
            return self._promised(found, kept, selection)
        kept.add(self._given)
        found.add(self._with_attributes(found, kept))
        bare = ", ".join(repr(kind) for kind in ON_DISK)
        found.add(known for known in kept.where(f"kind NOT IN ({bare})") if selection.holds(known.path))
        return found

    def fingerprint_of(self, look: Look) -> str:
        """The manifest is a part of the tree."""
        if not self._saved:
            found = digest_of(self._manifest_path)
            if self._as_source:
                require_same(self._manifest_path, self.manifest_digest, found)
            self.manifest_digest = found
        told = look.fingerprint + self.manifest_digest
        return hashlib.blake2b(told.encode(), digest_size=20).hexdigest()

    def save(self, verified: Manifest, gone: Iterable[bytes], restless: Iterable[bytes]) -> None:
        """Write what is verified here now, over what the manifest knew before."""
        kept = self._kept(verified.store)
        whole = verified.like(kept if kept.checksum == verified.checksum else ())
        whole.origin = self._origin
        whole.remove(gone)
        whole.add(verified)
        if whole.sums(f"path NOT IN (SELECT path FROM {verified.table})")[0]:
            whole.xattrs = whole.xattrs and kept.xattrs  # of what an earlier copy brought, too
        whole.restless = list(restless)
        self.manifest_digest = write(whole, self._manifest_path)
        self._saved = True

    def _kept(self, store: Store) -> Manifest:
        if self._as_source:
            kept = read(self._manifest_path, store, self.manifest_digest)
            self.manifest_digest = kept.file_digest
            if self._gives_to is not None and kept.origin != str(self._gives_to):
                require_apart_by_name(kept.origin, self._gives_to)
            return kept
        kept = (
            read(self._manifest_path, store) if os.path.exists(self._manifest_path) else Manifest(store=store)
        )
        if not (kept.origin and self._origin) or kept.origin == self._origin:
            return kept
        if not self._replaces:
            raise UsageError(
                f"{self.where} holds files of {shown(kept.origin)}: choose another directory, or set delete to true to "
                "have them replaced."
            )
        return Manifest(store=store)

    @staticmethod
    def _with_attributes(found: Manifest, kept: Manifest) -> Iterator[Entry]:
        """What is on disk, with the attributes that the manifest has for it."""
        for entry in found:
            known = kept.get(entry.path)
            if known is not None and _same_thing(known, entry):
                yield replace(
                    known,
                    digest="",
                    hardlink=entry.hardlink,
                    identity=entry.identity,
                    stamp=entry.stamp,
                    links=entry.links,
                )

    def _promised(self, found: Manifest, kept: Manifest, selection: Selection) -> Manifest:
        """The tree as the manifest describes it, with everything named where the disk differs."""
        promised = kept.like(selected(kept, selection))
        promised.root, promised.look, promised.unreadable = self._path, found.look, dict(found.unreadable)
        for entry in promised:
            on_disk = found.get(entry.path)
            if entry.kind in ON_DISK and on_disk is None:
                promised.unreadable[entry.path] = "missing from the staging directory"
            elif on_disk is not None and on_disk.holes:
                promised.add((replace(entry, holes=on_disk.holes),))
            if on_disk is not None and not _same_thing(entry, on_disk):
                promised.unreadable[entry.path] = "changed in the staging directory since it was copied there"
        promised.complete(kept)
        promised.restless = [path for path in kept.restless if selection.holds(path)]
        found.disregard(promised.restless, promised)
        for path in found.paths(f"path <> x'2e' AND path NOT IN (SELECT path FROM {promised.table})"):
            promised.unreadable[path] = (
                "in the staging directory, but not in its manifest; move it elsewhere, or stage in another directory"
            )
        return promised

    def _make(self, folder: Folder, entries: Sequence[Entry], spoiled: Collection[bytes]) -> None:
        self._given.add(entries)
        super()._make(folder, [entry for entry in entries if entry.kind in ON_DISK], spoiled)

    def _set_attributes(self, folder: Folder, entry: Entry, path: bytes | None = None) -> None:
        self._given.add((entry,))
        if entry.kind in ON_DISK:
            super()._set_attributes(folder, entry, path)


def _same_thing(known: Entry, on_disk: Entry) -> bool:
    """Whether what lies on disk is still what was put there, as far as a look can tell."""
    if known.kind != on_disk.kind:
        return False
    if known.kind == FILE:
        # There are file systems that keep whole seconds.
        return (known.size, known.mtime // SECOND) == (on_disk.size, on_disk.mtime // SECOND)
    return known.kind != SYMLINK or known.link == on_disk.link
