# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""How far each copy is: the newest datagram of each, and when it is due to be told."""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# At most ten times a second, however often a module speaks.
INTERVAL = 0.1
# A module speaks once a second; one that is silent for so long is gone.
SILENT = 5.0
MOST_COPIES = 1_000
_NUMBERS = ("bytes", "bytes_total", "files", "files_total", "seconds", "bytes_per_second")


@dataclass
class Copy:
    """One copy that is going on."""

    data: dict[str, Any]
    heard: float
    told: float = 0.0
    fresh: bool = True


class Meter:
    """Keeps the newest word of each copy. Times are of the caller's monotonic clock."""

    def __init__(self) -> None:
        self.copies: dict[str, Copy] = {}

    def hear(self, datagram: bytes, now: float) -> None:
        """Take in what a module said; what isn't from one of ours is ignored."""
        data = _data(datagram)
        if data is None:
            return
        key = f"{data.get('host', '')}/{data['pid']}/{data['label']}"
        known = self.copies.get(key)
        if known is not None:
            known.data, known.heard, known.fresh = data, now, True
        elif data["phase"] != "end" and len(self.copies) < MOST_COPIES:
            self.copies[key] = Copy(data, heard=now)

    def due(self, now: float, everything: bool = False) -> list[tuple[str, dict[str, Any]]]:
        """Return what is to be told now, by key. A copy that ended or fell silent is told a last time and forgotten."""
        told: list[tuple[str, dict[str, Any]]] = []
        for key, copy in list(self.copies.items()):
            if now - copy.heard > SILENT or everything:
                copy.data, copy.fresh = {**copy.data, "phase": "end"}, True
            ended = copy.data["phase"] == "end"
            if copy.fresh and (ended or now - copy.told >= INTERVAL - 0.005):
                copy.told, copy.fresh = now, False
                told.append((key, copy.data))
            if ended:
                del self.copies[key]
        return told

    @property
    def waiting(self) -> bool:
        """Whether something new has not been told yet."""
        return any(copy.fresh for copy in self.copies.values())


def _data(datagram: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(datagram)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("v") != 1:
        return None
    label, phase, pid = said.get("label"), said.get("phase"), said.get("pid")
    if not isinstance(label, str) or not isinstance(phase, str) or not phase or not isinstance(pid, int):
        return None
    data: dict[str, Any] = {"v": 1, "pid": abs(pid), "label": label[:1_000], "phase": phase[:100]}
    for name in _NUMBERS:
        value = said.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53:
            whole = name in ("bytes", "bytes_total", "files", "files_total")
            data[name] = int(value) if whole else value
    left = said.get("seconds_left")
    data["seconds_left"] = left if isinstance(left, (int, float)) and 0 <= left < 2**53 else None
    # The callback gave the module "<task id> <host>" to hand back; without it, nobody knows (see _progress.py).
    task, blank, host = str(said.get("context") or "").partition(" ")
    if blank:
        data["task_id"], data["host"] = task[:1_024], host[:1_024]
    return data


class ProgressSocket:
    """The unix socket that modules send to, in a directory that the callback made."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._path = Path(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self._checks_sender = hasattr(socket, "SO_PASSCRED")
        self.socket.bind(path)
        if self._checks_sender:
            # A module that became another user has to be able to write; who writes is told by the kernel.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._path.chmod(0o666)

    def receive(self, ancestor: int) -> bytes | None:
        """Return a datagram, or None when there is none now; b"" for one from a stranger.

        The user who runs the playbook, root, and any process that the playbook started may speak.
        """
        try:
            if not self._checks_sender:
                return self.socket.recv(65_536)
            message, control, _flags, _address = self.socket.recvmsg(65_536, socket.CMSG_SPACE(12))
        except OSError:
            return None
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid, uid, _gid = struct.unpack("3i", payload[:12])
                if uid in (0, os.getuid()) or ancestor in ancestors(pid):
                    return message
        return b""

    def close(self) -> None:
        self.socket.close()
        self._path.unlink(missing_ok=True)
        try:
            self._path.parent.rmdir()
        except OSError:
            pass  # somebody put something beside it


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
