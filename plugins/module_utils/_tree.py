# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What the engine asks of an endpoint's directory, whether it lies in a pod or on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ._capabilities import ROOT, Rights
from ._entry import NANOSECOND, Entry, Taken
from ._file_system import Shown
from ._look import Look
from ._manifest import Manifest
from ._pieces import PiecesSource, PiecesTarget
from ._selection import Selection
from ._store import Store


@dataclass(frozen=True)
class Facts:
    """What preflight needs to know about an endpoint.

    `kind` is `dir`, `missing`, `block`, `other` or `removed`, which is a directory that just a mount has kept;
    `foreign` is whether what has the name of the work directory is, or holds, what no copy has put there; `volume`
    tells apart two directories (empty: unknown), `above` has the same of the directories above it, and `mounts` the
    names of what is mounted below it; `free_bytes` and `free_inodes` are None where the endpoint can't tell;
    `precision` is the unit of the modification times that it tells in nanoseconds, `settable` that of those that it
    can set; `rights` are those of the user there, or more where a manifest holds what the user may not make; `tools`
    are the commands found there; `xattrs` is whether it can tell extended attributes, `promises` whether its digests
    were taken elsewhere, and say what should be there.
    """

    kind: str
    foreign: bool = False
    readable: bool = True
    writable: bool = True
    free_bytes: int | None = None
    free_inodes: int | None = None
    volume: str = ""
    above: tuple[str, ...] = ()
    mounts: tuple[bytes, ...] = ()
    precision: int = NANOSECOND
    settable: int = NANOSECOND
    tools: frozenset[str] = frozenset()
    xattrs: bool = True
    rights: Rights = ROOT
    promises: bool = False


FLUSH_SECONDS = 20
"""What isn't written out by then isn't waited for."""
PART = 4 << 20
"""Bytes of a file on its way from which on it is worth to be kept for the next run."""


@dataclass
class Incoming:
    """A regular file on its way: `size` is what the source said when it began to send."""

    path: bytes
    size: int
    payload: Iterable[memoryview]


@dataclass
class Changes:
    """What to do at a target, applied in this order.

    `strip` are extended attributes to remove, as pairs of a path and the attribute's name; `clear` are entries
    that stand in the way of `create`; `discard` are paths that were received but not found whole, and are
    thrown away; `bare` are received files that have no owner and mode of their own yet; `create` are source
    entries to bring into place: received files, and everything that has no content; `remove` are extra
    entries; `attributes` are source entries whose mode, owner and time are set last.
    """

    strip: list[tuple[bytes, bytes]] = field(default_factory=list)
    clear: list[Entry] = field(default_factory=list)
    discard: list[bytes] = field(default_factory=list)
    bare: list[Entry] = field(default_factory=list)
    create: list[Entry] = field(default_factory=list)
    remove: list[Entry] = field(default_factory=list)
    attributes: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(
            (self.strip, self.clear, self.discard, self.bare, self.create, self.remove, self.attributes)
        )


class Tree(Protocol):
    """A directory at an endpoint. Paths are bytes, relative to it, never with `..` in them.

    Safe to use from two threads at once as long as only one of them writes.
    """

    @property
    def where(self) -> str:
        """The directory in words, for error messages."""

    @property
    def near(self) -> bool:
        """Whether it is this process that looks at each file."""

    def facts(self) -> Facts:
        """Look without touching. Raises ToolMissing when the endpoint can't work at all."""

    def scan(self, selection: Selection, store: Store | None = None, *, xattrs: bool = True) -> Manifest:
        """The entries of the selection and the parents of its files, without digests, put into `store`.

        Extended attributes are left out where they can't be told, and without `xattrs`.
        """

    def digests(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        """Digests of regular files, read where they lie. A file that can't be read is left out."""


class SourceTree(Tree, Protocol):
    """A tree that files can be read from."""

    def fingerprint(self, selection: Selection) -> str:
        """The fingerprint that the tree has now."""

    def flush(self) -> Shown | None:
        """Have the file system write out what was written to it. What the times of changes show from then on.

        A program that writes through a mapping changes a file's times just at its first write to a page since that was
        written out. None where it isn't known that these times can't be set.
        """

    def pieces(self) -> PiecesSource:
        """The same tree as an end whose files are cut into pieces."""

    def fingerprint_of(self, look: Look) -> str:
        """The fingerprint of this tree where a scan had that look."""

    def read(self, entries: Sequence[Entry]) -> Iterator[Incoming]:
        """The content of regular files, in order. A file that can't be read is left out."""


class TargetTree(SourceTree, Protocol):
    """A directory that can be written to. Nothing appears under its final name before `apply`."""

    def begin(self) -> None:
        """Take the target for this run, and throw away what a dead run left. Raises BusyError."""

    def receive(self, entries: Sequence[Entry], incoming: Iterable[Incoming], checksum: str) -> None:
        """Write the content of `entries` into the work directory. `checksum` is the one by which it will be proven."""

    def received(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        """Digests of what lies in the work directory, read back from there."""

    def apply(self, changes: Changes) -> None:
        """Make the changes as far as possible; the next scan tells what was not."""

    def placed(self) -> Iterable[Taken]:
        """What was received and brought into place, and nobody can have written to since it was read back.

        With its look, which will be another one after any change. Asked for once, after `apply`.
        """

    def end(self, root: Entry | None) -> None:
        """Remove the work directory, give the target free, and give the root the attributes of `root`."""

    def save(self, verified: Manifest, gone: Iterable[bytes], restless: Iterable[bytes]) -> None:
        """Keep the verified entries' attributes where the target can't hold them itself (staging).

        What is `gone` isn't verified here any more; of it, what is `restless` kept changing at the source.
        """

    def close(self, *, keep: bool = True) -> None:
        """Give up what is held open. Harmless when nothing is.

        With `keep`, large files on their way stay for the next `begin`.
        """

    def adopt(self, paths: Sequence[bytes]) -> dict[bytes, int]:
        """Take up what was received before of these files: how many bytes there are of which."""

    def pieces(self) -> PiecesTarget:
        """The same tree as an end whose files are cut into pieces."""
