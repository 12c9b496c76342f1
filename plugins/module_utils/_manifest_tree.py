# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A manifest file in the place of a tree, to compare another tree with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ._entry import Entry, Taken
from ._manifest import Manifest
from ._manifest_file import read
from ._names import shown
from ._selection import Selection
from ._store import Store
from ._tree import Facts


class ManifestTree:
    """Implements `Tree` as far as a comparison needs it: there are entries and digests, and nothing to read."""

    near = True

    def __init__(self, path: str, digest: str = "") -> None:
        self._manifest = read(path, expected=digest)
        self.where = f"the manifest {shown(path)}"
        self.path = self._manifest.root

    @property
    def checksum(self) -> str:
        return self._manifest.checksum

    def facts(self) -> Facts:
        return Facts("dir", precision=self._manifest.precision, xattrs=self._manifest.xattrs)

    def scan(self, selection: Selection, store: Store | None = None, *, xattrs: bool = True) -> Manifest:
        manifest = self._manifest.like(selected(self._manifest, selection), store)
        manifest.complete(self._manifest)
        manifest.restless = [path for path in self._manifest.restless if selection.holds(path)]
        return manifest

    def digests(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        return iter(())


def selected(manifest: Manifest, selection: Selection) -> Iterator[Entry]:
    """The entries of a manifest that are selected, and the parents of selected files as implied ones."""
    parents = set(selection.parents())
    for entry in manifest:
        held = selection.holds(entry.path)
        if held or entry.path in parents:
            yield replace(entry, implied=entry.implied or not held)
