# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""An entry as a row of a table of `_store`."""

from __future__ import annotations

from ._entry import Entry
from ._store import Row
from ._xattrs import pack, unpack

COLUMNS = (
    "path, kind, size, mode, uid, gid, mtime, link, hardlink, major, minor, digest, implied, xattrs, dev, ino, ctime, "
    "holes, links"
)
WIDTH = COLUMNS.count(",") + 1
IMPLIED, CHANGED = map(COLUMNS.split(", ").index, ("implied", "ctime"))
LARGEST = (1 << 63) - 1


def row_of(entry: Entry) -> Row:
    """An entry as a row of COLUMNS."""
    device, inode = entry.identity or (None, entry.stamp[0])
    return (
        *(entry.path, entry.kind, entry.size, entry.mode, entry.uid, entry.gid, number(entry.mtime)),
        *(entry.link, entry.hardlink, entry.device[0], entry.device[1], entry.digest, int(entry.implied)),
        *(pack(entry.xattrs), None if device is None else number(device), number(inode)),
        *(number(entry.stamp[1]), entry.holes, entry.links),
    )


def entry_of(row: Row) -> Entry:
    """The entry in a row of COLUMNS."""
    path, kind, size, mode, uid, gid, mtime, link, hardlink, major, minor, *about = row
    digest, implied, xattrs, device, inode, changed, holes, links = about
    return Entry(
        path,
        kind,
        size,
        mode,
        uid,
        gid,
        int(mtime),
        link,
        hardlink,
        (major, minor),
        digest,
        bool(implied),
        unpack(xattrs) if xattrs else (),
        None if device is None else (int(device), int(inode)),
        (int(inode), int(changed)),
        holes,
        links,
    )


def marked(row: Row, implied: int) -> Row:
    """The row with another value for whether it is implied."""
    return (*row[:IMPLIED], implied, *row[IMPLIED + 1 :])


def number(value: int) -> int | str:
    """A number as SQLite can keep it: text, where 64 bits are too few (some file systems' inode numbers, far times)."""
    return value if -LARGEST <= value <= LARGEST else str(value)
