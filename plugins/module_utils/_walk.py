# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Walking down a tree on this machine without following a link."""

from __future__ import annotations

import marshal
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ._folder import Folder
from ._look import Look
from ._selection import work_path

Listing: TypeAlias = "tuple[bytes, int, list[tuple[str, os.stat_result]]]"
"""A directory's path, its descriptor, and names and status of what is in it."""

_KIND = 0o170000
_PLAIN = 2
"""The version of marshal's format without references: the same values always give the same bytes."""


class Walk:
    """Walks down from some paths. `unreadable` names what couldn't be looked at; `look` is of all that was seen."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.unreadable: dict[bytes, str] = {}
        self.look = Look()
        root = os.fstat(folder.directory(b"."))
        self.look.begin(time.time_ns(), root.st_ino, root.st_dev)

    def down(self, starts: Sequence[bytes]) -> Iterator[Listing]:
        """Directory by directory; without recursion, as trees can be deep. First comes each start by itself."""
        waiting: list[bytes] = []
        for start in starts:
            listing = self.at(start)
            if listing is not None:
                yield listing
                if stat.S_ISDIR(listing[2][0][1].st_mode):
                    waiting.append(start)
        while waiting:
            path = waiting.pop()
            listing = self._list(path)
            if listing is None:
                continue
            yield listing
            prefix = b"" if path == b"." else path + b"/"
            waiting += [
                prefix + os.fsencode(name)
                for name, status in listing[2]
                if status.st_mode & _KIND == stat.S_IFDIR  # a call for each name would be felt
            ]

    def at(self, path: bytes) -> Listing | None:
        """One path by itself, or None where it isn't."""
        try:
            if path == b".":
                descriptor = self._folder.directory(path)
                return self._seen(b"", descriptor, [(".", os.fstat(descriptor))])
            descriptor, name = self._folder.at(path)
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            return self._seen(path.rpartition(b"/")[0], descriptor, [(os.fsdecode(name), status)])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            self.unreadable[path] = (exc.strerror or "unreadable").lower()
            return None

    def _list(self, path: bytes) -> Listing | None:
        found = []
        try:
            descriptor = self._folder.directory(path)
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    try:
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
                    except FileNotFoundError:  # a suppressing context would cost as much as the call
                        continue
        except OSError as exc:
            self.unreadable[path] = (exc.strerror or "unreadable").lower()
            return None
        if path == b".":
            found = [item for item in found if not work_path(os.fsencode(item[0]))]
        return self._seen(path, descriptor, found)

    def _seen(self, path: bytes, descriptor: int, found: list[tuple[str, os.stat_result]]) -> Listing:
        # Whatever else of an inode is changed, the time of its last change is among this.
        rows = [
            (name, s.st_dev, s.st_mode, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for name, s in found
        ]
        self.look.add(path + b"\0" + marshal.dumps(rows, _PLAIN))
        if rows:
            self.look.changed(max([row[-1] for row in rows]))
            self.look.on({row[1] for row in rows})
        return path, descriptor, found
