# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A file of this machine that is read back while the rest of it is still being written.

That is a proof only where nobody else can have written to it meanwhile (`_untouched`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from ._beside import Beside
from ._checksum import hasher

STEP = 1 << 20
WRITE_OUT = 32 << 20
"""Bytes after which the file system is told to begin writing them to the disk, which it would do at the end."""


class ReadBack:
    """The digest of a file that grows. `wrote` tells how far it has; `digest` waits for the rest of it."""

    def __init__(self, descriptor: int, checksum: str) -> None:
        self._descriptor = descriptor
        self._hasher = hasher(checksum)
        self._size = 0
        self._whole = False
        self._grown = threading.Condition()
        self._beside = Beside(self._follow)

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Reading goes on for the duration of a block, at most."""
        with self._beside:
            try:
                yield
            finally:
                self._tell(self._size, whole=True)

    def wrote(self, size: int) -> None:
        """The file has `size` bytes by now."""
        if size - self._size >= STEP:
            self._tell(size, whole=False)

    def digest(self, size: int) -> str:
        """The digest of the file, which has `size` bytes in the end. Raises OSError."""
        self._tell(size, whole=True)
        self._beside.result()
        return self._hasher.hexdigest()

    def _tell(self, size: int, *, whole: bool) -> None:
        with self._grown:
            self._size, self._whole = size, whole
            self._grown.notify()

    def _beyond(self, at: int) -> tuple[int, bool]:
        """The size once there is something to read after `at`, and whether that is all."""
        with self._grown:
            self._grown.wait_for(lambda: self._whole or self._size - at >= STEP)
            return self._size, self._whole

    def _follow(self) -> None:
        buffer = memoryview(bytearray(STEP))
        at = told = 0
        whole = False
        while not whole:
            size, whole = self._beyond(at)
            while at < size and (count := os.preadv(self._descriptor, [buffer[: size - at]], at)):
                self._hasher.update(buffer[:count])
                at += count
            if at - told >= WRITE_OUT:
                os.posix_fadvise(self._descriptor, told, at - told, os.POSIX_FADV_DONTNEED)
                told = at
