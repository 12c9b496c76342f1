# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Quantities of storage as Kubernetes writes them (`10Gi`, `500M`, `1e9`, `1500m`), and bytes."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from ._errors import UsageError

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d{1,2})|([KMGTPE]i|[mkMGTPE]))?")


def to_bytes(text: str) -> int:
    """The bytes of a quantity, rounded up. Raises UsageError for anything else."""
    found = _QUANTITY.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{text!r} is no quantity of storage: write it as in 10Gi or 500M.")
    number, exponent, suffix = found[1], found[2] or "", found[3] or ""
    factor = Decimal(1024) ** _BINARY[suffix] if suffix in _BINARY else Decimal(1000) ** _DECIMAL[suffix]
    return math.ceil(Decimal(number + exponent) * factor)


def from_bytes(count: int) -> str:
    """Bytes as a quantity that Kubernetes takes, in the largest unit that leaves no fraction."""
    for suffix, power in reversed(_BINARY.items()):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{suffix}"
    return str(count)


def readable(count: int) -> str:
    """Bytes for people, in the unit that leaves a number below 1024."""
    number, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        del units[0]
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"
