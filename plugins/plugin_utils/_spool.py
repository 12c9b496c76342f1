# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A run's events on disk until the server has acknowledged them.

Every event is written before it is sent, so that a helper or a machine that dies loses nothing that a later run could
not send. One file holds one run, one event a line; whoever works with it holds a lock on it. Where the disk is full the
file goes on in memory, and where there can be none it begins there: a server that takes the events needs no disk here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections import deque
from pathlib import Path

from ._event_line import envelope, event_line, gap_envelope, pubseq_of
from ._redact import Redactor

# Of a file's name, after the run's number.
SUFFIX = ".jsonl"
# An acknowledged file is emptied beyond this size, so that a long run does not fill the disk.
EMPTIED_FROM = 4 * 1_048_576
# Left free for the events that end a run whose spool is full.
RESERVE = 65_536
# What is kept in memory where the disk is full.
MOST_IN_MEMORY = 16 * 1_048_576
HAS_MEMORY = hasattr(os, "memfd_create")
_FINISHED = b'"type":"kubeferry.v1.run.finished"'


class Spool:
    """The events of one run, from one thread to another, by way of the disk."""

    def __init__(self, path: Path, limit: int, file: int | None = None) -> None:
        """Open or make the file, or go on with one that is locked already. Raises as `locked` does."""
        self.path = path
        self.run = path.stem
        self._limit = limit
        self._lock = threading.Lock()
        # Where the events are: on the disk, which is locked, or in memory.
        self._file = locked(path, os.O_CREAT) if file is None else file
        self._disk: int | None = self._file
        # How much of what is in memory the disk has as well.
        self._on_disk = 0
        # Whether the server acknowledged what it was not sent. That proves nothing, but nothing more is sent: where
        # another run has this number, the two would become one.
        self.disputed = False
        try:
            self._scan()
        except OSError:
            os.close(self._file)
            raise
        self._sent = self._acked = 0
        self._acked_pubseq = 0
        # The highest number that was ever sent; what an earlier process left here may have been.
        self._sent_pubseq = self.last
        self._batches: deque[tuple[int, int]] = deque()
        self._lost_from: int | None = None
        self._rewound = False

    @classmethod
    def without_disk(cls, path: Path, limit: int) -> Spool:
        """Return one in memory, where there can't be a file and HAS_MEMORY holds. Raises OSError."""
        made = cls(path, min(limit, MOST_IN_MEMORY), _memory())
        made._disk = None
        return made

    def _scan(self) -> None:
        """Find out what an earlier process left here; a line that it didn't finish goes."""
        self.last, self._size, self._first, self.finished = 0, 0, 1, False
        with os.fdopen(os.dup(self._file), "rb") as lines:
            for line in lines:
                number = pubseq_of(line)
                if number is None:
                    break
                if not self._size:
                    self._first = number
                self.last = number
                self._size += len(line)
                self.finished = _FINISHED in line[:400]
        os.ftruncate(self._file, self._size)

    def append(self, line: bytes) -> None:
        """Number an event and keep it. What doesn't fit on the disk is counted and a gap stands for it."""
        with self._lock:
            self.last += 1
            ending = _FINISHED in line[:100]
            self.finished |= ending
            if self._lost_from is not None and not self._close_gap(ending):
                return
            if not self._put(envelope(self.run, self.last, line), RESERVE if ending else 0):
                self._lost_from = self.last

    def lost(self, count: int) -> None:
        """Events were lost on their way here: they have numbers, and a gap stands for them."""
        with self._lock:
            first = self.last + 1
            self.last += count
            gap = gap_envelope(
                self.run, first, self.last, "publisher_lost", "the helper process did not read fast enough"
            )
            if self._lost_from is None and not self._put(gap, RESERVE):
                self._lost_from = first

    def _close_gap(self, ending: bool) -> bool:
        if self._lost_from is None:
            return True
        gap = gap_envelope(self.run, self._lost_from, self.last - 1, "spool_full", "the spool was full")
        if self._size + RESERVE > self._limit and not ending:
            return False
        if not self._put(gap, RESERVE):
            return False
        self._lost_from = None
        return True

    def _put(self, line: bytes, beyond: int) -> bool:
        if self._size + len(line) > self._limit + beyond:
            return False
        if not self._written(line) and not (self._moved_to_memory() and self._written(line)):
            return False
        self._size += len(line)
        return True

    def _written(self, line: bytes) -> bool:
        try:
            written = os.pwrite(self._file, line, self._size)
        except OSError:
            return False
        if written != len(line):
            os.ftruncate(self._file, self._size)
        return written == len(line)

    def _moved_to_memory(self) -> bool:
        """The disk is full: go on in memory, with what has been written so far."""
        if self.in_memory or not HAS_MEMORY:
            return False
        memory = _memory()
        if os.pwrite(memory, os.pread(self._file, self._size, 0), 0) != self._size:
            os.close(memory)
            return False
        self._file, self._on_disk = memory, self._size
        self._limit = min(self._limit, MOST_IN_MEMORY)
        return True

    @property
    def in_memory(self) -> bool:
        return self._file != self._disk

    def finish(self, status: str) -> None:
        """Say how the run ended, where nobody has said so: its playbook is gone."""
        if not self.finished:
            self.append(event_line("run.finished", {"status": status}, Redactor()))

    def batch(self, most_bytes: int, most_events: int) -> list[bytes]:
        """Return the next events to send, without their line ends; none where all were sent."""
        with self._lock:
            if self._sent >= self._size or self.disputed:
                return []
            chunk = os.pread(self._file, min(most_bytes, self._size - self._sent), self._sent)
            if b"\n" not in chunk:
                # One event is larger than what is asked for: it goes alone.
                chunk = os.pread(self._file, self._size - self._sent, self._sent)
                chunk = chunk[: chunk.index(b"\n") + 1]
            lines = chunk[: chunk.rindex(b"\n") + 1].splitlines(keepends=True)[:most_events]
            self._sent += sum(map(len, lines))
            last = pubseq_of(lines[-1]) or self.last
            self._sent_pubseq = max(self._sent_pubseq, last)
            self._batches.append((last, self._sent))
            return [line[:-1] for line in lines]

    def acknowledge(self, pubseq: int) -> None:
        """The server has all events up to this one.

        Fewer than it acknowledged before: it lost its history, and gets what is still here from the beginning.
        """
        with self._lock:
            if pubseq > self._sent_pubseq:
                self.disputed = True
                self._rewind()
                return
            if pubseq < self._acked_pubseq and not self._rewound:
                self._rewind_to_start()
            self._acked_pubseq = pubseq
            while self._batches and self._batches[0][0] <= pubseq:
                self._acked = self._batches.popleft()[1]
            if self._acked == self._size >= EMPTIED_FROM:
                os.ftruncate(self._file, 0)
                self._size = self._sent = self._acked = self._on_disk = 0
                self._batches.clear()
                self._first = self.last + 1

    def reconnect(self, same_history: bool) -> None:
        """Begin again after a lost connection: with what was not acknowledged, or with everything."""
        with self._lock:
            self._rewound = False
            if same_history:
                self._rewind()
            else:
                self._rewind_to_start()

    def _rewind(self) -> None:
        self._sent = self._acked
        self._batches.clear()

    def _rewind_to_start(self) -> None:
        self._rewound = True
        self._acked = self._acked_pubseq = 0
        self._rewind()
        if self._first > 1:
            # What was acknowledged and removed can't be sent again, and the server counts from 1.
            old = os.pread(self._file, self._size, 0)
            gap = gap_envelope(
                self.run, 1, self._first - 1, "server_lost_history", "the server had them and lost them"
            )
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, gap + old, 0)
            self._size, self._first = len(gap) + len(old), 1

    @property
    def outstanding(self) -> int:
        """How many bytes were sent and not acknowledged."""
        return self._sent - self._acked

    @property
    def undelivered(self) -> int:
        """How many events the server has not acknowledged."""
        with self._lock:
            return self._count(self._acked)

    def _count(self, begin: int) -> int:
        """How many events there are from that byte on, and that are lost."""
        lost = 0 if self._lost_from is None else self.last - self._lost_from + 1
        return os.pread(self._file, self._size - begin, begin).count(b"\n") + lost

    @property
    def unkept(self) -> int:
        """How many of the undelivered events the disk doesn't have, where they are in memory, which ends with this."""
        with self._lock:
            return self._count(max(self._acked, self._on_disk)) if self.in_memory else 0

    @property
    def delivered(self) -> bool:
        return self._acked >= self._size and self._lost_from is None

    def set_aside(self) -> Path:
        """Keep the file under a name under which no later run sends it, and return that. Raises OSError."""
        if self._disk is None:
            raise FileNotFoundError(errno.ENOENT, "the events are in memory alone", str(self.path))
        return self.path.rename(self.path.with_suffix(f".{time.time_ns()}.disputed"))

    def close(self) -> None:
        """Remove the file if everything in it was delivered and let go of it."""
        if self.delivered and self._disk is not None:
            with contextlib.suppress(OSError):  # a later run sends it again, which the server notices
                self.path.unlink()
        os.close(self._file)
        if self._disk is not None and self.in_memory:
            os.close(self._disk)


def make_folder(folder: Path) -> None:
    """Make the folder of one server's spools, for nobody else. Raises OSError, also where it is not such a folder."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raises OSError where others could put files into the folder: they would be sent, or removed, as this user's."""
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise _not_ours(folder, "it is a symbolic link")
    if not stat.S_ISDIR(found.st_mode):
        raise _not_ours(folder, "it is no folder")
    if found.st_uid != os.geteuid():
        raise _not_ours(folder, "it is another user's")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _not_ours(folder, "others can write there")


def _not_ours(path: Path, why: str) -> OSError:
    return OSError(errno.EPERM, why, str(path))


def _memory() -> int:
    return os.memfd_create("kubeferry-events")


def locked(path: Path, flags: int = 0) -> int:
    """Open a spool for this process alone and return its descriptor.

    Raises OSError, BlockingIOError where another process works with it. What is there and is no spool stays as it is.
    """
    file = os.open(path, flags | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(file), path.lstat()):
            raise FileNotFoundError(errno.ENOENT, "removed before it was locked", str(path))
        if not _is_spool(file, path):
            raise _not_ours(path, f"{path.name} there is no file of this user's events")
    except OSError:
        os.close(file)
        raise
    return file


def _is_spool(file: int, path: Path) -> bool:
    """Whether an open file is this user's, and empty or begun as `envelope` begins the first event of its run."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        return False
    begin = envelope(path.name.partition(".")[0], 0, b"").partition(b':0"')[0]
    return begin.startswith(os.pread(file, len(begin), 0))
