# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What a walk on this machine finds, as rows of a manifest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from ._entry import BLOCK, CHAR, FILE, SYMLINK
from ._row import number
from ._shell_output import KINDS, holes
from ._store import Row
from ._walk import Listing
from ._xattrs import held, pack


def rows(
    listings: Iterable[Listing], xattrs: bool, uncopied: set[str], unreadable: dict[bytes, str]
) -> Iterator[Row]:
    """Rows of COLUMNS, with extended attributes if wanted; a link that goes meanwhile is passed over.

    Names of attributes that are no part of a copy are added to `uncopied`, and to `unreadable` what doesn't tell them
    or where it leads, with the reason.
    """
    for path, descriptor, found in listings:
        prefix = path + b"/" if path and path != b"." else b""
        for text, status in found:
            name = os.fsencode(text)
            kind = KINDS[stat.S_IFMT(status.st_mode)]
            link: bytes | None = b""
            given = b""
            try:
                if kind == SYMLINK:
                    link = _leads_to(descriptor, name)
                elif xattrs:
                    given = pack(held(descriptor, name, uncopied))
            except OSError as exc:
                what = "where it leads" if kind == SYMLINK else "its extended attributes"
                unreadable[prefix + name] = f"{what}: {(exc.strerror or 'unreadable').lower()}"
            if link is not None:
                yield _row(prefix + name, kind, status, link, given)


def _leads_to(parent: int, name: bytes) -> bytes | None:
    """Where a symbolic link leads; None where it has gone."""
    try:
        return os.readlink(name, dir_fd=parent)
    except FileNotFoundError:
        return None


def _row(path: bytes, kind: str, status: os.stat_result, link: bytes, xattrs: bytes) -> Row:
    size = status.st_size if kind == FILE else 0
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in (CHAR, BLOCK) else (0, 0)
    return (
        path,
        kind,
        size,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        number(status.st_mtime_ns),
        link,
        b"",
        *device,
        "",
        0,
        xattrs,
        number(status.st_dev) if status.st_nlink > 1 else None,
        number(status.st_ino),
        number(status.st_ctime_ns),
        holes(size, status.st_blocks * 512) if size else 0,
        status.st_nlink,
    )
