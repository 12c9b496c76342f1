# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What the time of an inode's last change tells on which file systems, by the numbers that `stat -f -c %t` prints.

On others it may be no more than the time of modification, which any program can set (FAT, SMB, most that are made with
FUSE), or nobody knows, as with an overlay, which is what lies below it.
"""

from __future__ import annotations

from dataclasses import dataclass

WRITTEN_OUT = {
    "ef53": True,  # ext2 to ext4
    "58465342": True,  # XFS
    "9123683e": True,  # Btrfs
    "2fc12fc1": True,  # ZFS
    "f2f52010": True,  # F2FS
    "c36400": True,  # CephFS
    "6969": False,  # NFS: what another machine does may show a minute late
}
"""These show the next write through a mapping, too, once they have written out everything.

With each is whether a later run may rely on that."""
IN_MEMORY = ("1021994", "858458f6")
"""tmpfs and ramfs have nowhere to write to: what is written through a mapping never shows."""


@dataclass(frozen=True)
class Shown:
    """What a tree's times of changes show, where they can't be set.

    `since` is from when on, in nanoseconds by the clock there, they also show what is written through a mapping; 0 if
    they don't. `lasting` is whether a later run may rely on them.
    """

    since: int
    lasting: bool


def what_shows(number: str, flushed: int) -> Shown | None:
    """What can be relied on. `flushed` is when it began to write out everything, or 0 if that couldn't be done."""
    if number in WRITTEN_OUT:
        return Shown(flushed, WRITTEN_OUT[number])
    return Shown(0, lasting=False) if number in IN_MEMORY else None
