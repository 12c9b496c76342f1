# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Transports: how the bytes of files get from one tree into the work directory of another.

C(tar) sends whole files and works everywhere. C(rsync) sends the difference to the file that the target has, and needs
rsync at both ends, one of them this machine. C(auto) takes each for what it does best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ._entry import Entry
from ._errors import UsageError
from ._local_tree import LocalTree
from ._pieces_transport import PiecesTransport
from ._progress import Progress
from ._rsync import Rsync
from ._shell_tree import ShellTree
from ._tree import PART, SourceTree, TargetTree

AnyTree: TypeAlias = "LocalTree | ShellTree"

DELTA_BYTES = 64 << 10
"""From this size on it pays to send a difference instead of the whole file."""
LARGE_BYTES = 32 << 20
"""The same where it is found by pieces, which are longer than the blocks of rsync."""
SPARSE_BYTES = 1 << 20
"""From this size on it pays to leave out holes."""


@dataclass
class Moved:
    """What one move did: bytes sent or received, and the entries that arrived without their attributes."""

    bytes: int = 0
    bare: list[Entry] = field(default_factory=list)


class Transport(Protocol):
    """A way to move contents."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    def move(self, fresh: Sequence[Entry], changed: Sequence[Entry], checksum: str) -> Moved:
        """Move `fresh` files, and `changed` ones of which the target has another version."""


class TarTransport:
    """Whole files, one after the other."""

    name = "tar"

    def __init__(self, source: SourceTree, target: TargetTree) -> None:
        self._source = source
        self._target = target

    def move(self, fresh: Sequence[Entry], changed: Sequence[Entry], checksum: str) -> Moved:
        entries = [*fresh, *changed]
        if entries:
            self._target.receive(entries, self._source.read(entries), checksum)
        return Moved(sum(entry.size for entry in entries))


class RsyncTransport:
    """Differences, by rsync's algorithm."""

    name = "rsync"

    def __init__(self, rsync: Rsync) -> None:
        self._rsync = rsync

    def move(self, fresh: Sequence[Entry], changed: Sequence[Entry], checksum: str) -> Moved:
        entries = [*fresh, *changed]
        return Moved(self._rsync.run(entries) if entries else 0, entries)


class AutoTransport:
    """Differences for large files that changed, whole files for the rest: tar needs fewer round trips."""

    name = "auto"

    def __init__(self, tar: TarTransport, rsync: RsyncTransport) -> None:
        self._tar = tar
        self._rsync = rsync

    def move(self, fresh: Sequence[Entry], changed: Sequence[Entry], checksum: str) -> Moved:
        large = [entry for entry in changed if entry.size >= DELTA_BYTES]
        small = [entry for entry in changed if entry.size < DELTA_BYTES]
        whole, parts = self._tar.move(fresh, small, checksum), self._rsync.move((), large, checksum)
        return Moved(whole.bytes + parts.bytes, parts.bare)


class PiecewiseTransport:
    """Another transport, but for large files of which the target has a part, and for those with holes.

    Of these just the pieces that differ are sent. `pieces` makes the transport for them, given the checksum; `large` is
    the size from which on every file is sent by it.
    """

    def __init__(
        self,
        whole: Transport,
        target: TargetTree,
        pieces: Callable[[str], PiecesTransport],
        large: float = math.inf,
    ) -> None:
        self.name = whole.name
        self._whole = whole
        self._target = target
        self._make = pieces
        self._large = large
        self._pieces: PiecesTransport | None = None

    def move(self, fresh: Sequence[Entry], changed: Sequence[Entry], checksum: str) -> Moved:
        holes = {e.path for e in (*fresh, *changed) if e.holes and e.size >= SPARSE_BYTES}
        large = [e.path for e in (*fresh, *changed) if e.size >= PART or e.path in holes]
        had = self._target.adopt(large)
        parts = holes.union(had, (e.path for e in (*fresh, *changed) if e.size >= self._large))
        if not isinstance(self._whole, RsyncTransport | AutoTransport):
            parts.update(entry.path for entry in changed if entry.size >= LARGE_BYTES)
        moved = self._whole.move(
            [e for e in fresh if e.path not in parts], [e for e in changed if e.path not in parts], checksum
        )
        basis = {e.path: max(e.size, had.get(e.path, 0)) for e in changed if e.path in parts}
        entries = [entry for entry in (*fresh, *changed) if entry.path in parts]
        if entries:
            if self._pieces is None:
                self._pieces = self._make(checksum)
            moved.bytes += self._pieces.move(entries, {**had, **basis})
            moved.bare = [*moved.bare, *entries]
        return moved


def choose(name: str, source: AnyTree, target: AnyTree, progress: Progress) -> Transport:
    """The transport called `name` (C(auto), C(tar) or C(rsync)). Raises UsageError where rsync can't work."""
    whole = _choose(name, source, target)
    if any(isinstance(tree, ShellTree) and "dd" not in tree.facts().tools for tree in (source, target)):
        return whole
    return PiecewiseTransport(
        whole,
        target,
        lambda checksum: PiecesTransport(source.pieces(), target.pieces(), checksum, progress),
    )


def _choose(name: str, source: AnyTree, target: AnyTree) -> Transport:
    tar = TarTransport(source, target)
    if name == "tar":
        return tar
    if isinstance(source, ShellTree) and isinstance(target, LocalTree):
        rsync = RsyncTransport(Rsync(source, target, pulls=True))
    elif isinstance(source, LocalTree) and isinstance(target, ShellTree):
        rsync = RsyncTransport(Rsync(target, source, pulls=False))
    else:
        return _without_rsync(name, tar, "it needs one end in a pod and the other one on this machine")
    without = [tree.where for tree in (source, target) if "rsync" not in tree.facts().tools]
    if without:
        return _without_rsync(name, tar, f"rsync isn't installed at {' and '.join(without)}")
    return rsync if name == "rsync" else AutoTransport(tar, rsync)


def _without_rsync(name: str, tar: TarTransport, why: str) -> TarTransport:
    if name == "rsync":
        raise UsageError(f"transport: rsync can't be used here, since {why}: use auto or tar.")
    return tar
