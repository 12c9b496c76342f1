# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""How far a copy is, told while it runs.

A module can't print before it ends (ansible/ansible#13620), so progress leaves as JSON datagrams on a unix socket
whose path the environment gives. Without the socket there is no progress, and nothing fails for it.

A module that became another user (`become`) has lost that environment. It finds the socket by the process that it comes
from: the playbook's helper listens under the playbook's number.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SOCKET_VARIABLE = "KUBEFERRY_PROGRESS_SOCKET"
SOCKET_PLACE = "/tmp/kubeferry-progress-{pid}/socket"  # noqa: S108 (looked for, never made here)
# Which task on which host this is; the module only hands it back.
CONTEXT_VARIABLE = "KUBEFERRY_PROGRESS_CONTEXT"
MIN_INTERVAL = 0.1
# Looked after five times as often: what is told in between moves the next beat.
HEARTBEAT = 0.8


@dataclass
class Count:
    """What is done of a phase, and what there is to do (0: not known)."""

    size: int = 0
    files: int = 0
    total_size: int = 0
    total_files: int = 0
    seconds: float = 0.0

    def add(self, other: Count) -> None:
        self.size += other.size
        self.files += other.files
        self.total_size += other.total_size
        self.total_files += other.total_files
        self.seconds += other.seconds


class Progress:
    """Counts what is done and tells it at most ten times a second, and at least once a second while a phase lasts.

    The last word sums up the phase in which most was done: what is told of a copy in the end is what it moved, and not
    what it tidied up after that.
    """

    def __init__(self, label: str = "", path: str | None = None) -> None:
        self._path = find_socket() if path is None else path
        self._context = os.environ.get(CONTEXT_VARIABLE)
        self._label = label
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._stop = threading.Event()
        self._phase = ""
        self._count = Count()
        self._sums: dict[str, Count] = {}
        self._started = self._told = 0.0
        if self._path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            threading.Thread(target=self._beat, name="kubeferry-progress", daemon=True).start()

    def phase(self, name: str, total_bytes: int = 0, total_files: int = 0) -> None:
        """A new phase begins, with so many bytes and files ahead (0: not known)."""
        with self._lock:
            self._sum_up()
            self._phase, self._started = name, time.monotonic()
            self._count = Count(total_size=total_bytes, total_files=total_files)
            self._tell()

    def advance(self, size: int, files: int = 0) -> None:
        """So many more bytes and files are done."""
        self._count.size += size
        self._count.files += files
        if self._socket is not None and time.monotonic() - self._told >= MIN_INTERVAL:
            with self._lock:
                self._tell()

    def close(self) -> None:
        self._stop.set()
        with self._lock:
            if self._socket is not None:
                self._sum_up()
                self._count = max(
                    self._sums.values(), key=lambda sum_: (sum_.size, sum_.files), default=Count()
                )
                self._phase, self._started = "end", time.monotonic() - self._count.seconds
                self._tell()
                self._socket.close()
                self._socket = None

    def _sum_up(self) -> None:
        if self._phase:
            self._count.seconds = time.monotonic() - self._started
            self._sums.setdefault(self._phase, Count()).add(self._count)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT / 5):
            with self._lock:
                if time.monotonic() - self._told >= HEARTBEAT:
                    self._tell()

    def _tell(self) -> None:
        if self._socket is None or not self._path or not self._phase:
            return
        self._told = time.monotonic()
        count, seconds = self._count, self._told - self._started
        rate = count.size / seconds if seconds > 0 else 0.0
        left = count.total_size - count.size
        message = {
            "v": 1,
            "pid": os.getpid(),
            "label": self._label,
            "context": self._context,
            "phase": self._phase,
            "bytes": count.size,
            "bytes_total": count.total_size,
            "files": count.files,
            "files_total": count.total_files,
            "seconds": round(seconds, 3),
            "bytes_per_second": round(rate),
            "seconds_left": round(left / rate, 1) if rate and left > 0 else None,
        }
        try:
            self._socket.sendto(json.dumps(message).encode(), self._path)
        except OSError:
            # Nobody listens, or not fast enough: progress is a courtesy and never an error.
            pass


def find_socket() -> str | None:
    """Return the socket that the environment names, or that of a playbook among this process's ancestors (Linux)."""
    if path := os.environ.get(SOCKET_VARIABLE):
        return path
    pid = os.getppid()
    for _generation in range(32):
        try:
            place = Path(SOCKET_PLACE.format(pid=pid))
            process = Path(f"/proc/{pid}")
            # Anyone may make a directory under such a name; the playbook's own user made this one.
            if place.is_socket() and place.stat().st_uid == process.stat().st_uid:
                return str(place)
            # The field after the command, which is in parentheses and may hold anything, and the state.
            pid = int((process / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None
    return None
