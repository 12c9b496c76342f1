# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""One path of a tree: what is known of it, and what a file system could hold at all."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ._capabilities import Rights

FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK = "file", "dir", "symlink", "fifo", "socket", "char", "block"
KINDS = frozenset({FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK})
NANOSECOND, SECOND = 1, 1_000_000_000
UNCLEAN = re.compile(rb"(?:^|/)\.{0,2}(?:/|\Z)|\0")
NOBODY = (1 << 32) - 1
"""No user, group or device has this number, or one above it."""
DIGEST_BYTES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}


@dataclass(slots=True)
class Entry:
    """One path of a tree.

    `size` in bytes (0 unless a regular file), `mode` the twelve permission bits, `mtime` in nanoseconds
    since the epoch, `link` a symlink's target, `hardlink` the first path of the link group that this
    path belongs to (empty for that first path itself), `device` major and minor, `digest` in lower-case
    hex (empty while not taken). `implied` marks a parent of a selected file: it must exist, and is given
    its attributes only when it is made. `xattrs` are names and values of extended attributes, in the order of
    the names. `identity` is (device, inode) where the scan found more than one link, `stamp` inode and the time
    of its last change in nanoseconds, `holes` is how many bytes of a file take up no room, `links` how many names it
    has, also outside of the tree; these four are not part of a manifest file.
    """

    path: bytes
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    link: bytes = b""
    hardlink: bytes = b""
    device: tuple[int, int] = (0, 0)
    digest: str = ""
    implied: bool = False
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    identity: tuple[int, int] | None = field(default=None, compare=False)
    stamp: tuple[int, int] = field(default=(0, 0), compare=False)
    holes: int = field(default=0, compare=False)
    links: int = field(default=1, compare=False)


def clean(path: bytes) -> bool:
    """Whether `path` is relative and stays in its tree, and no other name of the same thing."""
    return path == b"." or not UNCLEAN.search(path)


def possible(path: bytes, kind: str, size: int, *numbers: int) -> None:
    """Whether a file system could hold this; `numbers` are owners and devices. Raises ValueError: it may be made up."""
    if not clean(path):
        raise ValueError("a path that leaves the tree")
    if path == b"." and kind != DIR:
        raise ValueError("no such thing can be")
    if not 0 <= size < 1 << 63 or (size and kind != FILE):
        raise ValueError("a size that nothing of its kind has")
    if not 0 <= min(numbers) <= max(numbers) < NOBODY:
        raise ValueError("an owner or device that no file has")


def checked(entry: Entry) -> Entry:
    """The entry, if it is one that a file system could hold. Raises ValueError: where it comes from may be hostile."""
    possible(entry.path, entry.kind, entry.size, entry.uid, entry.gid, *entry.device)
    if entry.hardlink and not clean(entry.hardlink):
        raise ValueError("a path that leaves the tree")
    if b"\0" in entry.link:
        raise ValueError("no such thing can be")
    if not 0 <= entry.mode <= 0o7777 or abs(entry.mtime) >= 1 << 80:
        raise ValueError("a mode or time that no file has")
    return entry


READABLE = {FILE: 0o400, DIR: 0o500}
"""What the mode of a file or a directory must have for its owner to read it, if that isn't root."""


def provable(entry: Entry, user: Rights) -> Entry:
    """The entry as the user of a target can hold it: what he could not read, he could not prove.

    Root that doesn't pass permissions, but may give files away, keeps what it could not get back to.
    """
    needed = READABLE.get(entry.kind, 0)
    if user.passes or not needed:
        return entry
    mode = entry.mode | needed
    lost = entry.kind == DIR or not (user.others and entry.mode & stat.S_IROTH)
    if user.uid == 0 and entry.uid != 0 and lost:
        return replace(entry, uid=0, mode=mode & ~stat.S_ISUID)
    return entry if mode == entry.mode else replace(entry, mode=mode)


class Taken(NamedTuple):
    """A digest, and the inode that the file had right before it was read, with the time of its last change.

    Both are numbers as a row has them, or None where nobody can tell. `alone` is whether nobody else had the file open
    then, so that whatever is done to it from then on changes that time.
    """

    path: bytes
    digest: str
    inode: int | str | None = None
    changed: int | str | None = None
    alone: bool = False
