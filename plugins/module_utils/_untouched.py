# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Files of this machine that nobody else can have written to until they had their name.

Renaming a file touches its inode, so its time of change doesn't tell any more whether somebody else did, too. A lease
does (fcntl(2), F_SETLEASE). For reading, it is only given while nobody has the file open for writing, and lost as soon
as somebody is about to; for writing, it is given while nobody else has it open at all. He waits until it is given back.
So a large file is held until its batch is in place, or somebody waits; of a small one it is only asked whether one had
it for oneself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ._look import MARGIN

LARGE = 8 << 20
"""Bytes from which on reading a file once more takes longer than all this."""
MOST = 64
SHARE = 8
"""Files that are held at once, and which part of all descriptors these may take."""


PATIENCE = 0.1
"""Seconds after which it is looked again whether somebody waits."""


@dataclass(frozen=True)
class Lease:
    """A descriptor that has the lease of its file, of that kind."""

    descriptor: int
    kind: int

    def holds(self) -> bool:
        """Whether nobody was about to open the file since it was taken."""
        return fcntl.fcntl(self.descriptor, fcntl.F_GETLEASE) == self.kind

    def give_way(self) -> None:
        """Let whoever waits for it have the file."""
        if not self.holds():
            fcntl.fcntl(self.descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def alone(descriptor: int, kind: int) -> bool:
    """Take the lease of a file, for as long as it is open: F_RDLCK where for reading, F_WRLCK where for writing.

    False where somebody else can write to it, or may, as its file system, or all of the system, has no leases.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # That somebody breaks it is noticed when it is looked at; the signal for that must not end this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, kind)
    except OSError:
        return False
    return True


class Untouched:
    """The files that are held, by path."""

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[Lease, str]] = {}
        self._leases: set[Lease] = set()
        self._looked = 0.0
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = MOST if allowed == resource.RLIM_INFINITY else min(MOST, allowed // SHARE)

    def take(self, descriptor: int, kind: int) -> Lease | None:
        """Hold a file, with a lease of that kind. None where that can't be."""
        if len(self._leases) >= self._most:
            return None
        lease = Lease(os.dup(descriptor), kind)
        if alone(descriptor, kind):
            self._leases.add(lease)
            return lease
        lease.close()
        return None

    def keep(self, path: bytes, lease: Lease, digest: str) -> bool:
        """Go on holding a file, which has been read by now; False if somebody else was about to open it."""
        if not lease.holds():
            self.let_go(lease)
            return False
        self._held[path] = lease, digest
        return True

    def give_way(self) -> None:
        """Let whoever waits for one of them have it. Looks just now and then."""
        if self._leases and (now := time.monotonic()) - self._looked > PATIENCE:
            self._looked = now
            for lease in self._leases:
                lease.give_way()

    def release(self) -> Iterator[tuple[bytes, str, os.stat_result]]:
        """Those that nobody was about to write to, with digests and status, which shows any change from now on."""
        if self._held:
            time.sleep(2 * MARGIN / 1e9)  # else what is written at once could have the same time
        try:
            for path, (lease, digest) in self._held.items():
                status = os.fstat(lease.descriptor)
                if lease.holds():
                    yield path, digest, status
        finally:
            self.drop()

    def let_go(self, lease: Lease) -> None:
        """Hold a file no more."""
        self._leases.discard(lease)
        lease.close()

    def drop(self) -> None:
        """Hold nothing any more."""
        for lease in list(self._leases):
            self.let_go(lease)
        self._held.clear()
