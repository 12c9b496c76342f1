# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Whether another run holds a directory of this machine."""

from __future__ import annotations

import fcntl
import os

from ._errors import BusyError
from ._local_files import COMMON
from ._names import display
from ._selection import WORK_DIR


def held_above(root: bytes) -> str:
    """The directory above `root` that another run is copying to; empty where there is none."""
    path = os.path.realpath(root)
    while path != (path := os.path.dirname(path)):
        if _held(os.path.join(path, WORK_DIR, b"lock")):
            return display(path)
    return ""


def inside(where: str, above: str) -> BusyError:
    """The error for a target that lies in another one that has a run at work."""
    return BusyError(
        f"{where} lies in {above}, to which another run is copying: wait until it has ended, or stop it, then try "
        "again."
    )


def _held(lock: bytes) -> bool:
    """Whether somebody has the kernel's lock on a file. One that can't be opened is nobody's, as far as can be told."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | COMMON)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
