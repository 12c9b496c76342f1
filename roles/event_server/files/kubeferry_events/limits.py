# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the server accepts. Each number has a reason beside it; all can be set in the environment.

>>> bucket = TokenBucket(rate=10, burst=5, now=0.0)
>>> bucket.take(5, now=0.0), round(bucket.take(1, now=0.0), 3), bucket.take(1, now=1.0)
(0.0, 0.1, 0.0)
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds, rates per second."""

    # A publisher's batch. Larger than what one frame of a slow link carries in a second helps nobody.
    message_bytes: int = MIB
    # Before HELLO a stranger may send a token and little more (an OpenShift or ID token is below 4 KiB).
    stranger_bytes: int = 32 * KIB
    # A result and a report that the publisher bounded at 24,000 characters of JSON each, and names beside them.
    event_bytes: int = 96 * KIB
    events_per_message: int = 2_000
    # Beyond this the server reads a publisher more slowly; nothing is lost, the publisher spools.
    events_per_second: int = 20_000
    # A thousand hosts and a hundred tasks.
    events_per_run: int = 200_000
    # What viewers, and strangers with a Kubernetes token, may send.
    messages_per_second: int = 10
    messages_burst: int = 40
    connections: int = 2_000
    # Connections that have not proved anything yet: silent ones, requests for the page, WebSockets before HELLO. Beyond
    # these numbers the oldest is closed. An address may be a proxy's, with all of its users behind it.
    strangers: int = 500
    strangers_per_address: int = 200
    # How long they may be silent: before a request, between its lines, and after it; and a WebSocket before HELLO.
    stranger_seconds: float = 30.0
    # How far a viewer may lag behind before it gets a snapshot in place of what it missed.
    viewer_bytes: int = 2 * MIB
    # A viewer whose socket takes nothing for so long is closed.
    stall_seconds: float = 20.0
    # One frame of EVENTS: large enough to be cheap, small enough to be shown while the next is on its way.
    frame_bytes: int = 256 * KIB
    # One answer to GET_HISTORY: a viewer asks for the rest when it has read this.
    history_bytes: int = MIB
    ping_seconds: float = 30.0
    # Kubernetes requests of one connection at once, and namespaces watched by it.
    kubernetes_requests: int = 4
    kubernetes_watches: int = 8
    kubernetes_events: int = 5_000
    kubernetes_seconds: float = 20.0


@dataclass(frozen=True)
class Retention:
    """What the history keeps: the newest runs within all three bounds.

    For the number and the bytes no running run is dropped, nor the newest one.
    """

    days: float = 30.0
    bytes: int = 1024 * MIB
    runs: int = 1_000


class TokenBucket:
    """Lets `rate` a second through and `burst` at once. Says how long to wait, and never refuses."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, now

    def take(self, count: float, now: float) -> float:
        """Take so many and return the seconds to wait before going on."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        self._level -= count
        return max(0.0, -self._level / self._rate)

    def try_take(self, now: float) -> bool:
        """Take one if there is one."""
        if self.take(0, now) == 0.0 and self._level >= 1:
            self._level -= 1
            return True
        return False
