# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Times of several tools in several cases, and the table that is made of them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

YARDSTICK, OURS = "kubectl cp", "pvc_copy, verified"


@dataclass
class Case:
    """What is copied, `folder` of the source, and the ratios to the yardstick that tools aim at.

    With `again` the copy is there already, and it is the second one that counts. Times are in seconds.
    """

    name: str
    title: str
    folder: str
    aims: dict[str, float]
    again: bool = False
    yardstick: str = YARDSTICK
    times: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, tool: str, seconds: float) -> None:
        self.times.setdefault(tool, []).append(seconds)

    def fail(self, tool: str, why: str) -> None:
        self.failures[tool] = why
        self.times.pop(tool, None)

    def failed(self, tool: str) -> bool:
        return tool in self.failures

    def cells(self, tool: str) -> tuple[str, str, str]:
        """Median, spread, and median ratio to the yardstick of the same round."""
        if tool in self.failures:
            return "fails", "", ""
        seconds = self.times.get(tool, [])
        yardstick = self.times.get(self.yardstick, [])
        if not seconds:
            return "", "", ""
        ratio = ""
        if len(yardstick) == len(seconds):
            ratio = f"{statistics.median(a / b for a, b in zip(seconds, yardstick, strict=True)):.2f}"
        return f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}", ratio


def table(title: str, cases: list[Case], tools: list[str]) -> str:
    """One row for each case and tool; rows with an aim have it, and whether it is met."""
    lines = [title, f"{'':32}{'':24}{'median':>8}{'spread':>16}{'ratio':>8}   aim"]
    for case in cases:
        for tool in tools:
            median, spread, ratio = case.cells(tool)
            aim = ""
            if tool in case.aims and ratio:
                most = case.aims[tool]
                aim = f"   ≤ {most} {'met' if float(ratio) <= most else 'missed'}"
            first = case.title if tool == tools[0] else ""
            lines.append(f"{first:32}{tool:24}{median:>8}{spread:>16}{ratio:>8}{aim}")
    return "\n".join(lines)
