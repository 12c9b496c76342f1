# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What a user may do beyond what owners and modes allow (capabilities(7))."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

_DAC_OVERRIDE, _FOWNER, _MKNOD = 1, 3, 27


class Rights(NamedTuple):
    """Whether the user `uid` `passes` all permissions of files, may set attributes of `others`, and make `devices`."""

    uid: int
    passes: bool
    others: bool
    devices: bool


ROOT = Rights(0, passes=True, others=True, devices=True)


def rights(uid: int, effective: str) -> Rights:
    """Those of a user with the capabilities `effective`, as /proc/self/status has them; empty where nothing tells."""
    if not effective:
        return Rights(uid, *[uid == 0] * 3)
    held = int(effective, 16)
    return Rights(uid, *(bool(held >> number & 1) for number in (_DAC_OVERRIDE, _FOWNER, _MKNOD)))


def effective_here() -> str:
    """The capabilities of this process."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("CapEff:"):
                return line.split()[1]
    return ""
