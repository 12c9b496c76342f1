# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What find and getfattr say on standard error of names that they couldn't look at.

Nothing else tells which directory wasn't listed: permissions may change back, and a test of them by a shell isn't the
kernel's answer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DENIED = b"Permission denied"
ABSENT = (b"No such file or directory", b"Not a directory")
MAX_PRINTED = 1 << 14
"""Bytes of a path as it is printed: the kernel takes 4096, each of which may be written with four."""
SIMPLE = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class Complaint(NamedTuple):
    """One name below the directory that a tool couldn't look at: it was `denied`, or not there any more."""

    path: bytes
    denied: bool


def complaints(tool: str, said: bytes) -> tuple[list[Complaint], list[bytes]]:
    """What `tool` said, and those of its messages that mean something else."""
    start = tool.encode() + b": "
    found: list[Complaint] = []
    others: list[bytes] = []
    # A name in a message may hold newlines. What comes before the first message is none.
    for message in re.split(rb"^%b" % re.escape(start), said, flags=re.MULTILINE)[1:]:
        name, _colon, why = message.rstrip(b"\n").rpartition(b": ")
        path = _path(name)
        if path is None or why not in (DENIED, *ABSENT):
            others.append(start + message.rstrip(b"\n"))
        else:
            found.append(Complaint(path, why == DENIED))
    return found, others


def _path(name: bytes) -> bytes | None:
    """The path that a message is about: as it is, or between quotes with what is special in it escaped (GNU)."""
    if len(name) > MAX_PRINTED:
        return None
    if len(name) > 2 and name[:1] == name[-1:] == b"'":
        name = re.sub(rb"\\([0-7]{3}|.)", _meant, name[1:-1], flags=re.DOTALL)
    if name == b"." or name.startswith(b"./"):
        return name.removeprefix(b"./") or b"."
    return None


def _meant(escape: re.Match[bytes]) -> bytes:
    text = escape[1]
    return bytes([int(text, 8) & 0xFF]) if len(text) == 3 else SIMPLE.get(text, text)
