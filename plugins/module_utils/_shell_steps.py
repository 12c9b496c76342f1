# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The changes at a target as the archive of lists that the APPLY script works off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from . import _tar as tar
from ._entry import DIR, FILE, SECOND, SOCKET, SYMLINK, Entry
from ._names import parents
from ._scripts import NAMES_BYTES
from ._tree import Changes
from ._xattrs import dump

FEW = 3
"""From so many files on, a directory's files are moved by one command instead of one each."""
UNSAID = -1
"""The time in seconds that BusyBox's touch takes for the failure to read one. Its tar sets it."""


class Steps:
    """Builds one archive: each member is a list of names, named by its number and what to do with it."""

    def __init__(self, work: bytes, nanoseconds: bool) -> None:
        self._received = work + b"/tree/"
        self._nanoseconds = nanoseconds
        self._members: list[bytes] = []
        self._number = 0

    def archive(self, changes: Changes) -> bytes:
        """The steps for `changes`, in the order that `Changes` lays down."""
        self._names(b"wipe", [self._received + path for path in changes.discard])
        self._pairs(b"strip", [(attribute, b"./" + path) for path, attribute in changes.strip])
        self._clear(changes.clear)
        self._permit(changes.bare, self._received)
        self._xattrs([e for e in changes.create if e.kind == FILE and not e.hardlink], self._received)
        self._create(changes)
        self._clear(changes.remove)
        self._attributes(changes.attributes)
        return b"".join(self._members) + tar.end()

    def _clear(self, entries: list[Entry]) -> None:
        self._names(b"rm", [b"./" + entry.path for entry in entries if entry.kind != DIR])
        deepest_first = sorted((e.path for e in entries if e.kind == DIR), reverse=True)
        self._names(b"rmdir", [b"./" + path for path in deepest_first])

    def _create(self, changes: Changes) -> None:
        """Make what has no content beside what was received, then move it all into place.

        A new directory moves with all that is in it.
        """
        create = changes.create
        made = [e for e in create if e.kind not in (FILE, SOCKET) and not e.hardlink]
        if made:
            # Whoever owns a new directory must be able to move things into it; its true mode is set last.
            open_ = [replace(e, mode=e.mode | 0o700) if e.kind == DIR else e for e in made]
            self._add(b"make", b"".join(self._header(e, e.path) for e in open_) + tar.end())
        if not self._nanoseconds:  # BusyBox's tar, which leaves links with the time at which it made them
            self._times([e for e in made if e.kind == SYMLINK], self._received)
        self._links(create)
        new = {entry.path for entry in create if entry.kind == DIR}
        tops = [e.path for e in create if e.kind != SOCKET and new.isdisjoint(parents(e.path))]
        self._move(tops)

    def _links(self, create: list[Entry]) -> None:
        links = [entry for entry in create if entry.hardlink]
        if not links:
            return
        self._names(b"mkdir", sorted({self._received + _parent(entry.path) for entry in links}))
        here = {entry.path for entry in create}
        pairs = [
            ((self._received if e.hardlink in here else b"./") + e.hardlink, self._received + e.path)
            for e in links
        ]
        self._pairs(b"ln", pairs)

    def _move(self, paths: list[bytes]) -> None:
        by_parent: dict[bytes, list[bytes]] = {}
        for path in paths:
            by_parent.setdefault(_parent(path), []).append(path)
        few: list[tuple[bytes, bytes]] = []
        for parent, inside in by_parent.items():
            if len(inside) < FEW:
                few += [(self._received + path, b"./" + path) for path in inside]
            else:
                self._move_into(parent, [self._received + path for path in inside])
        self._pairs(b"mv", few)

    def _move_into(self, parent: bytes, names: list[bytes]) -> None:
        # The destination is handed over as a symbolic link, since a script has no safe way to take a name from a list.
        up = b"../" * (self._received.count(b"/") - 1)
        link = Entry(b"", SYMLINK, 0, 0o777, 0, 0, 0, link=up + parent)
        for some in _lists([(name,) for name in names]):
            self._members.append(self._header(link, b"%06d.to" % (self._number + 1)))
            self._add(b"mvto", some)

    def _attributes(self, entries: list[Entry]) -> None:
        """Times last, since a change of owner or mode does not touch them, but moving things does."""
        others = [entry for entry in entries if entry.kind != DIR]
        self._permit(others, b"./")
        self._times(others, b"./")
        directories = [entry for entry in entries if entry.kind == DIR]
        self._xattrs(directories, b"./")
        if directories:
            headers = b"".join(self._header(entry, b"./" + entry.path) for entry in directories)
            self._add(b"dirs", headers + tar.end())
        # BusyBox's tar sets modes of directories for root alone. What even its owner can't enter comes last.
        self._modes([entry for entry in directories if entry.mode & 0o100], b"./")
        for entry in directories:
            if not entry.mode & 0o100:
                self._modes([entry], b"./")

    def _permit(self, entries: list[Entry], prefix: bytes) -> None:
        """Owners, then modes, since a change of owner clears the set-id bits; one command for all that are alike.

        Extended attributes come in between: a change of owner clears capabilities, and a mode may forbid to write them.
        """
        owners: dict[bytes, list[bytes]] = {}
        for entry in entries:
            owners.setdefault(b"chown.%d:%d" % (entry.uid, entry.gid), []).append(prefix + entry.path)
        for step, names in owners.items():
            self._names(step, names)
        self._xattrs(entries, prefix)
        self._modes([entry for entry in entries if entry.kind != SYMLINK], prefix)

    def _modes(self, entries: list[Entry], prefix: bytes) -> None:
        modes: dict[bytes, list[bytes]] = {}
        for entry in entries:
            modes.setdefault(b"chmod.%04o" % entry.mode, []).append(prefix + entry.path)
        for step, names in modes.items():
            self._names(step, names)

    def _xattrs(self, entries: list[Entry], prefix: bytes) -> None:
        data = dump((prefix + entry.path, entry.xattrs) for entry in entries if entry.xattrs)
        if data:
            self._add(b"setfattr", data)

    def _times(self, entries: list[Entry], prefix: bytes) -> None:
        said: list[tuple[bytes, bytes]] = []
        unsaid: list[tuple[bytes]] = []
        for entry in entries:
            if self._nanoseconds or entry.mtime // SECOND != UNSAID:
                said.append((self._time(entry), prefix + entry.path))
            else:
                unsaid.append((prefix + entry.path,))
        self._pairs(b"touch", said)
        for some in _lists(unsaid):
            self._add(b"date", some, UNSAID * SECOND)

    def _time(self, entry: Entry) -> bytes:
        return b"@" + (
            tar.decimal(entry.mtime) if self._nanoseconds else b"%d" % (entry.mtime // 1_000_000_000)
        )

    def _names(self, step: bytes, names: list[bytes]) -> None:
        self._pairs(step, [(name,) for name in names])

    def _pairs(self, step: bytes, pairs: Sequence[tuple[bytes, ...]]) -> None:
        for some in _lists(pairs):
            self._add(step, some)

    def _add(self, step: bytes, data: bytes, mtime: int = 0) -> None:
        self._number += 1
        entry = Entry(b"", FILE, 0, 0o600, 0, 0, mtime)
        self._members.append(
            tar.header(entry, b"%06d.%b" % (self._number, step), len(data)) + data + tar.padding(len(data))
        )

    def _header(self, entry: Entry, name: bytes) -> bytes:
        return tar.header(entry, name, 0, self._nanoseconds)


def _lists(pairs: Sequence[tuple[bytes, ...]]) -> Iterator[bytes]:
    """The names in lists that one command can be given each, which begin with how many bytes the names are."""
    names: list[bytes] = []
    size = 0
    for pair in pairs:
        more = sum(len(name) + 1 for name in pair)
        if names and size + more > NAMES_BYTES:
            yield b"\0".join((b"%d" % size, *names, b""))
            names, size = [], 0
        names += pair
        size += more
    if names:
        yield b"\0".join((b"%d" % size, *names, b""))


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"."
