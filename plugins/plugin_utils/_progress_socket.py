# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The unix socket on which modules say how far they are."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

SOCKET = "socket"
_CHECKS_SENDER = hasattr(socket, "SO_PASSCRED")


def bind(place: Path) -> socket.socket:
    """Make the socket in a directory. Raises OSError.

    The callback does it and hands it to the helper, so that what the first tasks say waits in it while the helper
    starts.
    """
    path = place / SOCKET
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(str(path))
        if _CHECKS_SENDER:
            # A module that became another user has to be able to write; who writes is told by the kernel.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            path.chmod(0o666)
    except OSError:
        made.close()
        raise
    return made


class ProgressSocket:
    """The helper's end of it."""

    def __init__(self, descriptor: int) -> None:
        """Raises OSError."""
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(False)

    def receive(self, ancestor: int) -> tuple[bytes, int | None] | None:
        """Return a datagram and its sender's process number, or None when there is none now; b"" from a stranger.

        The user who runs the playbook, root, and any process that the playbook started may speak.
        """
        try:
            if not _CHECKS_SENDER:
                return self.socket.recv(65_536), None
            message, control, _flags, _address = self.socket.recvmsg(65_536, socket.CMSG_SPACE(12))
        except OSError:
            return None
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid, uid, _gid = struct.unpack("3i", payload[:12])
                if uid in (0, os.getuid()) or ancestor in ancestors(pid):
                    return message, pid
        return b"", None


def ancestors(pid: int) -> list[int]:
    """Return the processes that a process comes from, nearest first (Linux)."""
    found: list[int] = []
    while pid > 1 and len(found) < 64:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            break
        # The second field is the command in parentheses and may contain anything.
        pid = int(stat.rpartition(b")")[2].split()[1])
        found.append(pid)
    return found
