# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""How many connections fit into the number of files that a process may have open."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import replace

from .limits import Limits

# The history, the log and requests to the Kubernetes API.
OWN_FILES = 256
ENOUGH = 1_000_000


def raise_limit() -> int:
    """Let this process have as many open files as it may; returns how many those are."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS has another limit behind an infinite one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def fitting(limits: Limits, files: int) -> Limits:
    """The limits, lowered to what so many files are enough for.

    >>> small = fitting(Limits(), 1024)
    >>> small.connections, small.strangers, small.strangers_per_address
    (576, 192, 96)
    """
    room = files - min(OWN_FILES, files // 4)
    strangers = min(limits.strangers, max(2, room // 4))
    return replace(
        limits,
        connections=min(limits.connections, max(1, room - strangers)),
        strangers=strangers,
        # One address never has all places.
        strangers_per_address=min(limits.strangers_per_address, max(1, strangers // 2)),
    )
