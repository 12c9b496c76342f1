# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Extended attributes, POSIX ACLs and file capabilities among them (attr(7), acl(5), capabilities(7)).

Others are no part of a copy, as most of them mean something on their own file system alone; they are named. Labels of
SELinux, which the policy of the node gives to every file, aren't, nor is the form that ACLs have on the disk of XFS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from ._errors import ProtocolError
from ._names import display
from ._tar import ByteStream

Xattrs: TypeAlias = "tuple[tuple[bytes, bytes], ...]"
"""Names and values, in the order of the names."""

COPIED = re.compile(rb"user\..+|system\.posix_acl_(access|default)|security\.capability", re.DOTALL)
UNTOLD = frozenset((b"security.selinux", b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"))
NAME_LIMIT = 255
MOST_OTHERS = 100
"""Names of others that are told of: a pod could make up more without an end."""
LINE_LIMIT = 1 << 18
"""Bytes of one line of getfattr: the kernel allows values of 64 KiB, which are printed in hexadecimal."""
NAMES_LIMIT = 1 << 16
"""Bytes of the names of all attributes of one file: the kernel lists no more."""
FILE_LIMIT = 4 << 20
"""Bytes of what getfattr prints of one file. Most file systems hold 64 KiB at most, which it prints as twice that."""
UNHELD = {errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM}


def pack(xattrs: Xattrs) -> bytes:
    """Attributes as one byte string."""
    return b"".join(name + b"\0" + value.hex().encode("ascii") + b"\0" for name, value in xattrs)


def unpack(packed: bytes) -> Xattrs:
    """The reverse of `pack`."""
    parts = packed.split(b"\0")
    return tuple(
        (name, bytes.fromhex(value.decode("ascii")))
        for name, value in zip(parts[0::2], parts[1::2], strict=False)
    )


def copied(name: bytes, others: set[str]) -> bool:
    """Whether the attribute is part of a copy. The name of one that isn't is added to `others`, for people."""
    if COPIED.fullmatch(name):
        return True
    if name not in UNTOLD and len(others) < MOST_OTHERS:
        others.add(display(name[:NAME_LIMIT]))
    return False


def held(parent: int, name: bytes, others: set[str]) -> Xattrs:
    """The attributes of `name` in the open directory `parent` (which no swapped link can lead away from).

    Names of others that it has are added to `others`.
    """
    path = _place(parent, name)
    try:
        names = [os.fsencode(each) for each in os.listxattr(path, follow_symlinks=False)]
        return tuple(
            (each, os.getxattr(path, each, follow_symlinks=False))
            for each in sorted(names)
            if copied(each, others)
        )
    except OSError as exc:
        if exc.errno in UNHELD:
            return ()
        raise


def give(parent: int, name: bytes, xattrs: Xattrs) -> None:
    """Set attributes as far as this user and file system can. What could not be is found by the next scan."""
    for each, value in xattrs:
        with contextlib.suppress(OSError):
            os.setxattr(_place(parent, name), each, value, follow_symlinks=False)


def strip(parent: int, name: bytes, names: Iterable[bytes]) -> None:
    """Remove attributes, as far as this user can."""
    for each in names:
        with contextlib.suppress(OSError):
            os.removexattr(_place(parent, name), each, follow_symlinks=False)


def _place(parent: int, name: bytes) -> bytes:
    # There is no lgetxattrat(2) yet that Python could call.
    return b"/proc/self/fd/%d/%b" % (parent, name)


# -- the format of getfattr --dump and setfattr --restore -------------------------------------------------


def dump(names: Iterable[tuple[bytes, Xattrs]]) -> bytes:
    """Attributes of files, as `setfattr --restore` reads them."""
    return b"".join(
        b"# file: " + _quoted(name, b"\n\r\\") + b"\n" + b"".join(map(_line, xattrs)) + b"\n"
        for name, xattrs in names
    )


def _line(attribute: tuple[bytes, bytes]) -> bytes:
    name, value = attribute
    return _quoted(name, b"=\n\r\\") + b"=0x" + value.hex().encode("ascii") + b"\n"


def dumped(stream: ByteStream) -> Iterator[tuple[bytes, Xattrs]]:
    """Names and attributes of the files in the output of getfattr, until the end mark.

    Raises ConnectionLost when the stream ends before it and ProtocolError for anything that getfattr doesn't print.
    """
    name: bytes | None = None
    found: list[tuple[bytes, bytes]] = []
    names = printed_bytes = 0
    while (line := stream.until(b"\n", LINE_LIMIT)) != b"# end":
        printed_bytes += len(line) + 1
        if line.startswith(b"# file: "):
            if name is not None:
                yield name, tuple(found)
            name, found = _plain(line[len(b"# file: ") :]), []
            names = printed_bytes = 0
        elif names > NAMES_LIMIT or printed_bytes > FILE_LIMIT:
            raise ProtocolError("getfattr told of more attributes of one file than there can be")
        elif not line and name is not None:
            yield name, tuple(found)
            name = None
        else:
            printed = re.fullmatch(rb"([^=]+)(?:=0x((?:[0-9a-f]{2})*))?", line)
            if printed is None or name is None:
                raise ProtocolError(f"getfattr printed {line[:80]!r}, which can't be")
            found.append((_plain(printed[1]), bytes.fromhex((printed[2] or b"").decode("ascii"))))
            names += len(found[-1][0]) + 1
    if name is not None:
        yield name, tuple(found)


def _quoted(text: bytes, special: bytes) -> bytes:
    return b"".join(b"\\%03o" % byte if byte in special else b"%c" % byte for byte in text)


def _plain(text: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: b"%c" % (int(found[1], 8) & 0xFF), text)
