# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What earlier runs could not deliver, sent by later ones that publish to the same URL.

Each URL has a folder, so that what was meant for one server never goes to another. Nobody may come back for the folder
of a wrong URL: what is old in other folders is removed, and all of them count for the limit.

Several runs may do that at once, each from the same folder: whoever locks a file delivers it, and what another process
has taken or removed in the meantime is passed over.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from ._spool import SUFFIX, Spool, check_folder, locked

# Each has a descriptor, and there may be more of them than a process may have files open.
MOST_AT_ONCE = 16
# An empty file may be a run's that is about to lock it; after so long it is nobody's.
STARTING_SECONDS = 3_600.0
# As long as a server keeps a run, unless it is told otherwise.
KEPT_SECONDS = 30 * 86_400.0
# The folder of a URL.
_FOLDER = re.compile(r"[0-9a-f]{16}")
# A run's spool, or one that was set aside.
_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.jsonl|\.[0-9]+\.disputed)")


class Leftovers:
    """The spools of one folder that nobody works with, oldest first, a few at a time."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Find them. Beyond the limit, in bytes, the oldest are removed, be they for this URL or for another."""
        self._limit = limit
        self._waiting: deque[Path] = deque()
        self.open: list[Spool] = []
        others = _beside(folder)
        files = _by_age([folder, *others])
        total = sum(found.st_size for _path, found in files)
        for path, found in files:
            age, is_other = time.time() - found.st_mtime, path.parent != folder
            if total > limit or (is_other and age > KEPT_SECONDS):
                total -= found.st_size if _removed(path) else 0
            elif is_other:
                continue
            elif not found.st_size:
                if age > STARTING_SECONDS:
                    _removed(path)
            elif path.suffix == SUFFIX:
                self._waiting.append(path)

    @property
    def delivered(self) -> bool:
        return not self.open and not self._waiting

    def proceed(self) -> None:
        """Let go of what was delivered, or is for a later run, and open the next ones."""
        for spool in self.open:
            if spool.delivered or spool.disputed:
                spool.close()
        self.open = [spool for spool in self.open if not (spool.delivered or spool.disputed)]
        while self._waiting and len(self.open) < MOST_AT_ONCE:
            if (following := self._opened(self._waiting[0])) is not None:
                self.open = [*self.open, following]
            self._waiting.popleft()

    def _opened(self, path: Path) -> Spool | None:
        try:
            spool = Spool(path, self._limit, locked(path))
            if spool.last:
                spool.finish("interrupted")
                return spool
            spool.close()
        except OSError:
            pass  # a run that is still going on, one that another process delivers or has delivered, or not ours
        return None

    def let_go(self) -> None:
        """The connection is lost: leave them to whoever is connected first. Here, the others have their turn first."""
        for spool in self.open:
            spool.close()
            self._waiting.append(spool.path)
        self.open = []


def _beside(folder: Path) -> list[Path]:
    """Return the folders of other URLs. Those that have been empty for long are removed."""
    try:
        others = [path for path in folder.parent.iterdir() if _FOLDER.fullmatch(path.name) and path != folder]
        for path in others:
            if time.time() - path.lstat().st_mtime > KEPT_SECONDS:
                with contextlib.suppress(OSError):  # there is something in it, or it is no folder
                    path.rmdir()
    except OSError:
        return []
    return others


def _by_age(folders: Sequence[Path]) -> list[tuple[Path, os.stat_result]]:
    """Return the files of the folders that a helper made by their names, oldest first; none of a folder of others."""
    found: list[tuple[Path, os.stat_result]] = []
    for folder in folders:
        with contextlib.suppress(OSError):
            found += _spools(folder)
    return sorted(found, key=lambda file: file[1].st_mtime)


def _spools(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Raises OSError."""
    check_folder(folder)
    found = []
    for path in folder.iterdir():
        if not _NAME.fullmatch(path.name):
            continue
        with contextlib.suppress(FileNotFoundError):  # delivered by another process just now
            found.append((path, path.lstat()))
    return found


def _removed(path: Path) -> bool:
    """Remove a file that nobody works with, and return whether it was one."""
    try:
        file = locked(path)
    except OSError:
        return False
    try:
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(file)
    return True
