# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What is mounted below a directory. Nothing else tells of a part of a volume that is mounted in that same volume."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOUNTS = "/proc/self/mountinfo"
ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")


def mounts_here() -> list[bytes]:
    """The mount points of this machine, as the kernel writes them; none where it doesn't tell."""
    try:
        with open(MOUNTS, "rb") as stream:
            return [line.split(b" ", 5)[4] for line in stream]
    except OSError:
        return []


def mounted_below(directory: bytes, points: Iterable[bytes]) -> tuple[bytes, ...]:
    """The names of the mount points below a directory that has no link in its path."""
    above = directory.rstrip(b"/") + b"/"
    plain = (ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), point) for point in points)
    return tuple(sorted({point.removeprefix(above) for point in plain if point.startswith(above)} - {b""}))
