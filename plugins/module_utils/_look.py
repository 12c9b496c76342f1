# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The look of a tree: a fingerprint of everything that shows whether anything in it was changed."""

from __future__ import annotations

import hashlib
import secrets

from ._entry import NANOSECOND

MARGIN = 20_000_000
"""Nanoseconds. The kernel's clock for the times of files ticks every 4 to 10 ms: what was changed so shortly before a
walk could be changed again without looking any different."""
COARSE_MARGIN = 2_000_000_000
"""The same where only seconds are told."""


def margin(precision: int) -> int:
    """The one that holds where times are told in this unit."""
    return MARGIN if precision == NANOSECOND else COARSE_MARGIN


class Look:
    """Takes in what a walk sees: names, and for each its kind, size, mode, owner, inode and times.

    The time of an inode's last change is among it, which no program can set. So two walks with the same fingerprint
    saw the same files with the same content, provided that the first one was `settled`.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=20)
        self._latest: int | None = None
        self._newest = 0
        self.root: int | None = None

    def begin(self, now: int, root: int | None, precision: int = NANOSECOND) -> None:
        """A walk begins, at that time in nanoseconds by the clock that files get their times from. The first counts.

        `root` is the inode of the directory.
        """
        if self._latest is None:
            self._latest, self.root = now - margin(precision), root

    def add(self, seen: bytes) -> None:
        """What the walk saw, the same bytes for the same things."""
        self._hash.update(len(seen).to_bytes(8, "big"))
        self._hash.update(seen)

    def torn(self) -> None:
        """The walk didn't see everything: no other one is like it."""
        self.add(secrets.token_bytes(16))

    def changed(self, nanoseconds: int) -> None:
        """The last change of something that was seen."""
        self._newest = max(self._newest, nanoseconds)

    @property
    def settled(self) -> bool:
        """Whether nothing was changed so shortly before the walk that another change wouldn't show."""
        return self._newest < self.settles

    @property
    def settles(self) -> int:
        """What was changed before this time, in nanoseconds, would show another change."""
        return 0 if self._latest is None else self._latest

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()
