# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Which publisher's numbers have arrived, as ranges.

>>> ledger = Ledger()
>>> [ledger.add(number) for number in (1, 2, 4, 2)]
[True, True, True, False]
>>> ledger.contiguous, ledger.missing()
(2, [(3, 3)])
"""

from __future__ import annotations

from bisect import bisect_right


class Ledger:
    """A set of positive integers that arrive mostly in order: a thousand of them are one range."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def add(self, number: int) -> bool:
        """Add one; false when it was there."""
        if number in self:
            return False
        self.cover(number, number)
        return True

    def cover(self, first: int, last: int) -> None:
        """Add every number from `first` to `last`."""
        if first > last:
            return
        # Ranges that touch or overlap the new one melt into it.
        low = bisect_right(self._lasts, first - 2) if self._lasts else 0
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    @property
    def contiguous(self) -> int:
        """The highest number with none missing below it; 0 when 1 is missing."""
        return self._lasts[0] if self._firsts and self._firsts[0] <= 1 else 0

    def missing(self) -> list[tuple[int, int]]:
        """The ranges that are absent below the highest number there is."""
        holes = []
        expected = 1
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if first > expected:
                holes.append((expected, first - 1))
            expected = last + 1
        return holes
