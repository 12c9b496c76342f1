# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Counters and gauges in the text format of Prometheus. No label holds a name from a playbook or a cluster."""

from __future__ import annotations

from collections.abc import Callable

COUNTERS = {
    "events_stored": "Events written to the history",
    "events_duplicate": "Events that had arrived before",
    "events_refused": "Events that broke the schema or a limit",
    "events_over_limit": "Events dropped because their run had too many",
    "frames_sent": "Frames sent to clients",
    "bytes_sent": "Bytes of these frames",
    "viewers_resynced": "Viewers that lagged and got a snapshot",
    "viewers_closed_slow": "Viewers closed because they read nothing",
    "connections_refused": "WebSocket connections refused for a limit or their origin",
    "strangers_dropped": "Connections closed because they proved nothing, in time or before others came",
    "messages_refused": "Client messages answered with an error",
    "kubernetes_requests": "Requests to the Kubernetes API",
    "kubernetes_errors": "Requests to the Kubernetes API that failed",
    "logins": "People who signed in",
    "logins_failed": "Sign-ins that failed",
    "store_errors": "Failures of the history",
}


class Metrics:
    """All numbers of one server."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTERS, 0)
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def add(self, name: str, count: int = 1) -> None:
        self.counts[name] += count

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A number that is read when somebody asks."""
        self._gauges[name] = (about, read)

    def text(self) -> str:
        lines = []
        for name, count in self.counts.items():
            lines += _metric(f"kubeferry_{name}_total", "counter", COUNTERS[name], count)
        for name, (about, read) in self._gauges.items():
            lines += _metric(f"kubeferry_{name}", "gauge", about, read())
        return "\n".join([*lines, ""])


def _metric(name: str, kind: str, about: str, value: float) -> list[str]:
    return [
        f"# HELP {name} {about}",
        f"# TYPE {name} {kind}",
        f"{name} {value:g}" if value % 1 else f"{name} {int(value)}",
    ]
