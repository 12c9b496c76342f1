# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Events as lines for people, in the words that Ansible itself uses."""

from __future__ import annotations

import re
import shutil
import unicodedata
from typing import Any

from .tail_output import Output

# Whatever a playbook or a volume named must not move the cursor, colour the terminal, begin a line of its own, turn
# around what stands beside it, or look like another name by what can't be seen (as UNSEEN in the page's dom.js).
_CONTROL = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufeff\uffa0\U000e0000-\U000e0fff]"
)
# The counts of a parity report, in words.
_COUNTS = {
    "missing": "missing",
    "mismatched": "different",
    "metadata_differences": "different in mode, owner or time",
    "extra": "only at the target",
    "unreadable": "unreadable",
    "changed_at_source": "changed at the source",
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 100 else f"{count:.1f} {_UNITS[unit]}"


def plain(text: object) -> str:
    """One line, with such characters as escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def progress_line(data: dict[str, Any]) -> str:
    """Say how far a copy is."""
    done, total = data.get("bytes", 0), data.get("bytes_total", 0)
    parts = [f"{data.get('label') or data.get('host') or 'copy'}: {data['phase']}"]
    if total:
        parts.append(f"{min(100, 100 * done // total)} %")
    if done or total:
        parts.append(f"{size(done)} of {size(total)}" if total else size(done))
    if rate := data.get("bytes_per_second"):
        parts.append(f"{size(rate)}/s")
    if left := data.get("seconds_left"):
        parts.append(f"{int(left) // 60}:{int(left) % 60:02} left")
    return plain("  ".join(parts))


def fitting(text: str, columns: int) -> tuple[str, int]:
    """As much of a line as fits into so many columns of a terminal, and how many that takes."""
    taken = 0
    for at, letter in enumerate(text):
        wide = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if taken + wide > columns:
            return text[:at], taken
        taken += wide
    return text, taken


def lines_of(event: dict[str, Any]) -> list[str]:
    """Return what a person is told of an event; nothing of those that only machines need."""
    kind, data = str(event["type"]).removeprefix("kubeferry.v1."), event["data"]
    scope, _dot, outcome = kind.partition(".")
    name = data.get("name") or data.get("play_id") or data.get("task_id")
    if kind == "run.started":
        return [f"RUN {event.get('runid')}: {data['playbook']} on {data.get('controller', '?')}"]
    if kind == "play.started":
        batch = f", batch {data['batch']}" if "batch" in data else ""
        return ["", f"PLAY [{name}{batch}]"]
    if kind == "task.started":
        return ["", f"{'HANDLER' if data.get('handler') else 'TASK'} [{name}]"]
    if kind == "run.finished":
        return _recap(data)
    if kind == "gap":
        return [
            f"-- {data.get('count', 'some')} events are missing here: {data.get('message') or data['reason']}"
        ]
    if scope in ("host", "item") and outcome not in ("started", "poll"):
        return _result(scope, outcome, data)
    return []


def _result(scope: str, outcome: str, data: dict[str, Any]) -> list[str]:
    host = data["host"] + (f" -> {data['delegated_to']}" if "delegated_to" in data else "")
    line = f"{outcome}: [{host}]"
    if scope == "item":
        line = f"  {line} (item={data.get('item', '?')})"
    if outcome == "retry":
        line += f" attempt {data.get('attempt', '?')} of {data.get('attempts', '?')}"
    if data.get("ignored"):
        line += " (ignored)"
    report = data.get("parity")
    if isinstance(report, dict):
        counts = report["counts"]
        wrong = [f"{counts[key]} {word}" for key, word in _COUNTS.items() if counts.get(key)]
        said = ", ".join(wrong) or "nothing differs"
        line += f"  {report['matched']} matched, {said}"
    lines = [line]
    if outcome in ("failed", "unreachable"):
        lines += [f"    {part}" for part in str(data.get("msg", "")).splitlines()[:20]]
    return lines


def _recap(data: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"RECAP {data['status']}" + (f" after {data['duration']:.1f} s" if "duration" in data else ""),
    ]
    for host, stats in data.get("stats", {}).items():
        lines.append(f"{host}: " + " ".join(f"{key}={count}" for key, count in stats.items()))
    return lines


class Text:
    """Writes events to a terminal or a file; progress only to a terminal, in one line that is rewritten."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._shown = 0

    def show(self, event: dict[str, Any]) -> None:
        if event["type"] == "kubeferry.v1.progress":
            self._progress(event["data"])
            return
        if lines := lines_of(event):
            self.clear()
            self._out.write("".join(f"{plain(line)}\n" for line in lines))

    def _progress(self, data: dict[str, Any]) -> None:
        if not self._out.terminal:
            return
        if data["phase"] == "end":
            self.clear()
            return
        line, taken = fitting(progress_line(data), shutil.get_terminal_size().columns - 1)
        self._out.write(f"\r{line}{'':<{max(0, self._shown - taken)}}")
        self._shown = taken

    def clear(self) -> None:
        """Take the progress line away."""
        if self._shown:
            shown, self._shown = self._shown, 0
            self._out.write(f"\r{'':<{shown}}\r")
