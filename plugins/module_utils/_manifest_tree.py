# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A manifest file in the place of a tree, to compare another tree with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from . import _manifest
from ._manifest import Entry, Manifest
from ._selection import Selection
from ._tree import Facts, Incoming


class ManifestTree:
    """Implements `Tree` as far as a comparison needs it: there are entries and digests, and nothing to read."""

    def __init__(self, path: str) -> None:
        self._manifest = _manifest.read(path)
        self.where = f"the manifest {path}"
        self.path = self._manifest.root

    @property
    def checksum(self) -> str:
        return self._manifest.checksum

    def facts(self) -> Facts:
        return Facts("dir", precision=self._manifest.precision)

    def scan(self, selection: Selection) -> Manifest:
        parents = set(selection.parents())
        entries = {
            path: replace(entry, implied=entry.implied or not selection.holds(path))
            for path, entry in self._manifest.entries.items()
            if selection.holds(path) or path in parents
        }
        _manifest.complete(entries, self._manifest.entries)
        return replace(self._manifest, entries=_manifest.ordered(entries.values()), unreadable={})

    def digests(self, paths: Sequence[bytes], checksum: str) -> Iterator[tuple[bytes, str]]:
        return iter(())

    def read(self, entries: Sequence[Entry]) -> Iterator[Incoming]:
        return iter(())
