# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The playbook's end of the pipe to the helper: it takes a line or drops it, and never waits."""

from __future__ import annotations

import fcntl
import os
import select
import time
from pathlib import Path

from ._event_line import lost_line
from ._forks import close_in_forks, keep_in_forks

# What the kernel and then this process keep while the helper is not reading.
PIPE_BYTES = 1_048_576
KEPT_BYTES = 1_048_576


class EventPipe:
    """Lines for the helper. Hooks are called one at a time (Ansible holds a lock around them), so none is here."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = bytearray()
        self._lost = 0
        self._limit = KEPT_BYTES
        self.lost = 0
        self.broken = False
        os.set_blocking(descriptor, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                pass  # over the user's limit: the usual 64 KiB do
        self._open = True
        close_in_forks(descriptor)

    def write(self, line: bytes) -> None:
        """Write a line, keep it for later, or count it as lost; what was lost is told in its place."""
        if self.broken or not self._open:
            return
        if len(self._kept) + len(line) > self._limit:
            self._flush()
        if len(self._kept) + len(line) > self._limit:
            self._lost += 1
            self.lost += 1
            return
        if self._lost:
            self._kept += lost_line(self._lost)
            self._lost = 0
        self._kept += line
        self._flush()

    def write_now(self, line: bytes) -> bool:
        """Write a line of at most PIPE_BUF bytes, whole or not at all: it is never kept, and so never on the disk."""
        if self.broken or not self._open or self._kept or len(line) > select.PIPE_BUF:
            return False
        try:
            return os.write(self._descriptor, line) == len(line)
        except OSError:
            return False

    def make_room(self) -> None:
        """The run ends: what says so is kept even where there was no room for anything else."""
        self._limit += KEPT_BYTES

    def _flush(self) -> None:
        while self._kept:
            try:
                written = os.write(self._descriptor, self._kept)
            except BlockingIOError:
                return
            except OSError:
                self.broken = True  # the helper is gone
                self._kept.clear()
                return
            del self._kept[:written]

    def close(self, seconds: float = 0.0, rest: Path | None = None) -> None:
        """Close the pipe, after waiting at most so long for what is kept to go into it.

        What doesn't go in is written to the file `rest`, where the helper finds it when it reads again.
        """
        if not self._open:
            return
        deadline = time.monotonic() + seconds
        if self._lost:
            self._kept += lost_line(self._lost)
        self._flush()
        while self._kept and (left := deadline - time.monotonic()) > 0:
            select.select([], [self._descriptor], [], left)
            self._flush()
        if self._kept and rest is not None:
            _keep_for_the_helper(rest, bytes(self._kept))
        self._open = False
        keep_in_forks(self._descriptor)
        os.close(self._descriptor)


def _keep_for_the_helper(rest: Path, lines: bytes) -> None:
    """Write what didn't get into the pipe, for nobody else's eyes."""
    try:
        descriptor = os.open(rest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(lines)
    except OSError:
        pass  # then the helper can only say that the run broke off
