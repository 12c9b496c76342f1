# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""How far each copy is: the newest datagram of each, and when it is due to be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._progress_socket import ancestors
from ._redact import LONGEST_WORD, Redactor

# At most ten times a second, however often a module speaks.
INTERVAL = 0.1
# A module speaks once a second; one that is silent for so long is gone.
SILENT = 5.0
MOST_COPIES = 1_000
MOST_WORKERS = 100_000
_NUMBERS = ("bytes", "bytes_total", "files", "files_total", "seconds", "bytes_per_second")


@dataclass
class Copy:
    """One copy that is going on."""

    data: dict[str, Any]
    heard: float
    told: float = float("-inf")
    fresh: bool = True


class Meter:
    """Keeps the newest word of each copy. Times are of the caller's monotonic clock."""

    def __init__(self, redactor: Redactor) -> None:
        self._cut = redactor.cut
        self.copies: dict[str, Copy] = {}
        # The task and host of each worker of Ansible, and of each module that was heard.
        self._workers: dict[int, str] = {}

    def hear(self, datagram: bytes, sender: int | None, now: float) -> None:
        """Take in what a process said; what isn't from one of ours is ignored. `sender` is its number, if known."""
        said = _parsed(datagram)
        context = str(said.get("context") or "")
        if isinstance(said.get("worker"), int):
            if len(self._workers) > MOST_WORKERS:
                self._workers.clear()
            self._workers[said["worker"]] = context
            return
        data = _data(said, context or self._context(sender), self._cut)
        if data is None:
            return
        key = f"{data.get('host', '')}/{data['pid']}/{data['label']}"
        known = self.copies.get(key)
        if known is not None:
            known.data, known.heard, known.fresh = data, now, True
        elif data["phase"] != "end" and len(self.copies) < MOST_COPIES:
            self.copies[key] = Copy(data, heard=now)

    def _context(self, sender: int | None) -> str:
        """Return the task and host of a module that lost its environment: its worker's."""
        if sender is None:
            return ""
        if sender not in self._workers:
            known = (self._workers[pid] for pid in ancestors(sender) if pid in self._workers)
            self._workers[sender] = next(known, "")
        return self._workers[sender]

    def due(self, now: float, everything: bool = False) -> list[tuple[str, dict[str, Any]]]:
        """Return what is to be told now, by key. A copy that ended or fell silent is told a last time and forgotten."""
        told: list[tuple[str, dict[str, Any]]] = []
        for key, copy in list(self.copies.items()):
            if now - copy.heard > SILENT or everything:
                copy.data, copy.fresh = {**copy.data, "phase": "end"}, True
            ended = copy.data["phase"] == "end"
            if copy.fresh and (ended or now - copy.told >= INTERVAL - 0.005):
                copy.told, copy.fresh = now, False
                told.append((key, copy.data))
            if ended:
                del self.copies[key]
        return told

    @property
    def waiting(self) -> bool:
        """Whether something new has not been told yet."""
        return any(copy.fresh for copy in self.copies.values())


def _parsed(datagram: bytes) -> dict[str, Any]:
    try:
        said = json.loads(datagram)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and said.get("v") == 1 else {}


def _data(said: dict[str, Any], context: str, cut: Callable[[str, int], str]) -> dict[str, Any] | None:
    label, phase, pid = said.get("label"), said.get("phase"), said.get("pid")
    if not isinstance(label, str) or not isinstance(phase, str) or not phase or not isinstance(pid, int):
        return None
    data: dict[str, Any] = {"v": 1, "pid": abs(pid), "label": cut(label, 1_000), "phase": cut(phase, 100)}
    for name in _NUMBERS:
        value = said.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53:
            whole = name in ("bytes", "bytes_total", "files", "files_total")
            data[name] = int(value) if whole else value
    left = said.get("seconds_left")
    data["seconds_left"] = left if isinstance(left, (int, float)) and 0 <= left < 2**53 else None
    task, blank, host = context.partition(" ")
    if blank:
        data["task_id"], data["host"] = cut(task, LONGEST_WORD), cut(host, LONGEST_WORD)
    return data
