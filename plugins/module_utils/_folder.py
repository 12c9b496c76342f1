# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Reach paths below a directory without ever leaving it.

Between two system calls a hostile pod that shares the volume could swap a directory for a symbolic link (the class of
CVE-2019-11251). Each component is therefore opened from its parent's descriptor with O_NOFOLLOW.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import OrderedDict
from types import TracebackType
from typing import Self

from ._errors import EndpointError
from ._names import display, parents

KEPT = 64
"""Directories kept open: paths come in order, so a few are enough."""
KEPT_OF_PATH = 16
"""Of those, how many may be new with one path, however deep it is: what was asked for right before stays open."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """A directory and what lies below it, for one thread. Use as a context manager."""

    def __init__(self, root: bytes) -> None:
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise EndpointError(
                f"{display(root)} isn't there any more: bring it back and run again."
            ) from exc
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (*self._open.values(), self._root):
            os.close(descriptor)
        self._open.clear()

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory `path`, owned by this object. Raises OSError, also for a symbolic link."""
        above = path
        lengths: list[int] = []
        while above not in (b"", b".") and above not in self._open:
            lengths.append(len(above))
            above = above.rpartition(b"/")[0]
        descriptor = self._root
        if above in self._open:
            self._open.move_to_end(above)
            descriptor = self._open[above]
        passed = False
        while lengths:
            place = path[: lengths.pop()]
            try:
                deeper = os.open(_parted(place)[1], DIRECTORY, dir_fd=descriptor)
            finally:
                if passed:
                    os.close(descriptor)
            descriptor, passed = deeper, len(lengths) >= KEPT_OF_PATH
            if not passed:
                self._keep(place, descriptor)
        return descriptor

    def _keep(self, path: bytes, descriptor: int) -> None:
        self._open[path] = descriptor
        if len(self._open) > KEPT:
            _path, oldest = self._open.popitem(last=False)
            os.close(oldest)

    def at(self, path: bytes) -> tuple[int, bytes]:
        """The descriptor of the parent directory, and the name in it: arguments for the `dir_fd` calls."""
        parent, name = _parted(path)
        return self.directory(parent), name

    def forget(self) -> None:
        """Directories were moved or removed: look them up anew."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def made(self, path: bytes) -> tuple[int, bytes]:
        """The same as `at`, with the directories above `path` made that don't exist, for this user only."""
        with contextlib.suppress(FileNotFoundError):
            return self.at(path)
        for above in parents(path):
            descriptor, name = self.at(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=descriptor)
        return self.at(path)


def _parted(path: bytes) -> tuple[bytes, bytes]:
    """The parent directory of a path, and the name in it. Raises OSError."""
    parent, _slash, name = path.rpartition(b"/")
    if name in (b"", b".."):
        raise OSError(errno.EXDEV, "a path that leaves the tree", path)
    return parent, name
