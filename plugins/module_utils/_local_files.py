# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Reading regular files of this machine, and what can be wrong with writing them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ._checksum import hasher
from ._entry import Taken
from ._errors import EndpointError
from ._folder import Folder
from ._names import display
from ._row import number

READ_SIZE = 1 << 20
SMALL = 1 << 16
COMMON = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK so that a FIFO put in a file's place can't block for ever."""
UNHELD_NAME = {errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG}
FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "is over its quota", errno.EFBIG: "can't hold so large a file"}


@contextlib.contextmanager
def opened(folder: Folder, path: bytes) -> Iterator[int]:
    """A regular file, open for reading. Raises OSError."""
    parent, name = folder.at(path)
    descriptor = os.open(name, os.O_RDONLY | COMMON, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file any more")
        yield descriptor
    finally:
        os.close(descriptor)


def open_regular(path: str, flags: int) -> int:
    """An opener for a file that somebody named. Raises OSError for what isn't a regular one.

    A FIFO would be waited for, and a device be read without an end.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file")


def digest_of(descriptor: int, checksum: str) -> str:
    digest = hasher(checksum)
    for piece in pieces_of(descriptor):
        digest.update(piece)
    return digest.hexdigest()


def taken(path: bytes, digest: str, status: os.stat_result, *, sole: bool = False) -> Taken:
    """The digest of a file that had this status when it was read."""
    return Taken(path, digest, number(status.st_ino), number(status.st_ctime_ns), sole)


def pieces_of(descriptor: int) -> Iterator[memoryview]:
    """The content from where the descriptor stands. Raises OSError."""
    # Room is made before it is known how much there is to be read: for a small file that takes longer than reading it.
    most = READ_SIZE if os.fstat(descriptor).st_size > SMALL else SMALL
    while piece := os.read(descriptor, most):
        yield memoryview(piece)


def what_can_be_read(descriptor: int) -> Iterator[memoryview]:
    """The content up to an input error: the short file is then noticed by its digest."""
    with contextlib.suppress(OSError):
        yield from pieces_of(descriptor)


def trouble(exc: OSError, where: str, path: bytes | None = None) -> EndpointError:
    """The error for what can't be written below the directory `where`."""
    why = FULL.get(exc.errno or 0)
    if why is not None:
        return EndpointError(f"{where} {why}: make room there and run again; nothing half-written was kept.")
    name = path or (os.fsencode(exc.filename) if exc.filename else None)
    remedy = (
        "Exclude it, or choose another target, if its file system can't hold such a name."
        if exc.errno in UNHELD_NAME
        else "Check that you may write there."
    )
    return EndpointError(
        f"{display(name) if name else 'A file'} can't be written below {where}: {exc.strerror}. {remedy}"
    )
