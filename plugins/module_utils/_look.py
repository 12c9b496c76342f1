# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The look of a tree: a fingerprint of everything that shows whether anything in it was changed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from ._entry import SECOND
from ._file_system import Shown

MARGIN = 20_000_000
"""Nanoseconds. The kernel's clock for the times of files ticks every 4 to 10 ms: what was changed so shortly before a
walk could be changed again without looking any different."""
COARSE_MARGIN = 2_000_000_000
"""The same for a time without a fraction of a second: its file system keeps no more, or stat tells no more."""


def shows(changed: str, later: int) -> str:
    """The condition of SQL that an inode which was changed at `changed` looks different if it is changed `later`.

    No number that needs text, being beyond 64 bits, meets it.
    """
    margin = f"CASE {changed} % {SECOND} WHEN 0 THEN {COARSE_MARGIN} ELSE {MARGIN} END"
    return f"({changed} < {later} - {margin})"


class Look:
    """Takes in what a walk sees: names, and for each its kind, size, mode, owner, inode and times.

    The time of an inode's last change is among it, which no program can set. So two walks with the same fingerprint
    saw the same files with the same content, provided that the first one was `settled`.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=20)
        self._settles = 0
        self.began = 0
        """When the first walk began, in nanoseconds by the clock that files get their times from; 0 if none did."""
        self.root: int | None = None
        self.shown: Shown | None = None
        """What the times that were seen show of changes; None where they show nothing for sure."""
        self._device: int | None = None
        self._devices: set[int] = set()

    def begin(self, now: int, root: int | None, device: int | None) -> None:
        """A walk begins. The first counts. `root` is the inode of the directory, which lies on `device`."""
        if not self.began:
            self.began, self.root, self._device = now, root, device

    def on(self, devices: Iterable[int]) -> None:
        """Devices of what was seen."""
        self._devices.update(devices)

    def rely(self, shown: Shown | None) -> None:
        """What the directory's file system shows. Nothing is known of another one that is mounted below it."""
        self.shown = shown if self._devices <= {self._device} else None

    def add(self, seen: bytes) -> None:
        """What the walk saw, the same bytes for the same things."""
        self._hash.update(len(seen).to_bytes(8, "big"))
        self._hash.update(seen)

    def torn(self) -> None:
        """The walk didn't see everything: no other one is like it."""
        self.add(secrets.token_bytes(16))

    def changed(self, nanoseconds: int) -> None:
        """The last change of something that was seen."""
        margin = MARGIN if nanoseconds % SECOND else COARSE_MARGIN
        self._settles = max(self._settles, nanoseconds + margin)

    @property
    def settled(self) -> bool:
        """Whether nothing was changed so shortly before the walk that another change wouldn't show."""
        return self._settles < self.began

    @property
    def telling(self) -> bool:
        """Whether any change since the walk shows, also one that is made through a mapping."""
        return self.shown is not None and self._settles < self.shown.since

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()
