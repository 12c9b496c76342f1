# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Small changes to a tree on this machine.

What fails is found, and named, by the scan that follows.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable

from ._entry import DIR, Entry
from ._folder import Folder
from ._xattrs import strip


def attempt(step: Callable[[tuple[int, bytes]], None], folder: Folder, path: bytes) -> None:
    """Do one thing to one path, given as its parent's descriptor and its name there."""
    with contextlib.suppress(OSError):
        step(folder.at(path))


def discard(folder: Folder, path: bytes) -> bool:
    """Remove a file. Returns whether it is gone."""
    try:
        unlink(folder.at(path))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove(folder: Folder, entries: Iterable[Entry]) -> None:
    """Remove entries, what lies in a directory before it."""
    deepest_first = sorted(entries, key=lambda entry: entry.path, reverse=True)
    for entry in deepest_first:
        attempt(rmdir if entry.kind == DIR else unlink, folder, entry.path)


def move(folder: Folder, received: bytes, at: tuple[int, bytes]) -> None:
    parent, name = folder.at(received)
    os.rename(name, at[1], src_dir_fd=parent, dst_dir_fd=at[0])


def strip_one(attribute: bytes, at: tuple[int, bytes]) -> None:
    strip(*at, (attribute,))


def permit(mode: int, at: tuple[int, bytes]) -> None:
    """Give a mode to what is no symbolic link."""
    try:
        os.chmod(at[1], mode, dir_fd=at[0], follow_symlinks=False)
    except ValueError as exc:  # it is one, or this is a C library that can't leave one alone
        raise OSError(errno.ELOOP, "can't be told from a symbolic link") from exc


def rmdir(at: tuple[int, bytes]) -> None:
    os.rmdir(at[1], dir_fd=at[0])


def unlink(at: tuple[int, bytes]) -> None:
    os.unlink(at[1], dir_fd=at[0])
