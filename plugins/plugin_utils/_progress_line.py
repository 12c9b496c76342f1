# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The line at the bottom of the terminal that shows how far the copies are.

Ansible prints whenever a host is done, also while another copies, and nothing says when it is about to. A line that is
only rewritten with a carriage return would be printed into. So on a terminal the last row is taken out of what scrolls
(as package managers do) while a copy goes on, and Ansible's output scrolls above it. Where cursor movements are not to
be had, and the line was asked for all the same, it is rewritten with carriage returns.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
# What moves the cursor, turns the line around, can't be seen, or is beyond what terminals agree about.
_UNPRINTABLE = re.compile(
    r"[^\x20-\x7e\xa1-\uffff]|[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufeff\uffa0\ud800-\udfff]"
)
_PLAIN_WIDTH = 100


def size(count: float) -> str:
    """Write a number of bytes for people."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 100 else f"{count:.1f} {_UNITS[unit]}"


def clock(seconds: float) -> str:
    whole = int(seconds + 0.5)
    hours, minutes, left = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def describe(data: dict[str, Any]) -> str:
    """Say in one line how far one copy is."""
    done, total = data.get("bytes", 0), data.get("bytes_total", 0)
    files, all_files = data.get("files", 0), data.get("files_total", 0)
    label = data["label"] or data.get("host") or ""
    parts = [f"{label}: {data['phase']}" if label else data["phase"]]
    if total:
        parts.append(f"{min(100, 100 * done // total)} %")
    if done or total:
        parts.append(f"{size(done)} of {size(total)}" if total else size(done))
    if files or all_files:
        parts.append(f"{files}/{all_files} files" if all_files else f"{files} files")
    if rate := data.get("bytes_per_second"):
        parts.append(f"{size(rate)}/s")
    if left := data.get("seconds_left"):
        parts.append(f"{clock(left)} left")
    # Names come from volumes.
    return _UNPRINTABLE.sub("?", "  ".join(parts))


def one_line(copies: Sequence[dict[str, Any]], width: int) -> str:
    """Say how far all copies are, the one that began first in front, as far as there is room."""
    first = describe(copies[0])
    rest = len(copies) - 1
    tail = f"  (+{rest} more)" if rest else ""
    return _cut(first, width - len(tail)) + tail


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(text: str, room: int) -> str:
    if columns(text) <= room:
        return text
    text = text[: max(0, room - 1)]
    while text and columns(text) > room - 1:
        text = text[:-1]
    return f"{text}…"


class ProgressLine:
    """Shows and erases the line. It never waits for a terminal and never fails for one."""

    def __init__(self, descriptor: int, force: bool = False) -> None:
        self._descriptor = descriptor
        try:
            terminal = os.isatty(descriptor)
            self._rows = (
                terminal
                and os.environ.get("TERM", "dumb") != "dumb"
                and os.get_terminal_size(descriptor).lines > 3
            )
        except OSError:
            terminal, self._rows = False, False
        self.enabled = bool(self._rows) or force
        # The size that the terminal had when the row was taken; None while it isn't.
        self._taken: os.terminal_size | None = None
        self._shown = 0

    def show(self, copies: Sequence[dict[str, Any]]) -> None:
        if not self.enabled:
            return
        if not copies:
            self.erase()
        elif self._rows:
            self._show_below(copies)
        else:
            text = one_line(copies, _PLAIN_WIDTH)
            taken = columns(text)
            self._write("\r" + text + " " * (self._shown - taken))
            self._shown = taken

    def _show_below(self, copies: Sequence[dict[str, Any]]) -> None:
        try:
            now = os.get_terminal_size(self._descriptor)
        except OSError:
            self.enabled = False
            return
        begin = ""
        if now != self._taken:
            # A new line makes sure that the cursor isn't on the row that is taken; then: save the cursor (the next
            # sequence moves it), let all rows but the last scroll, put it back, and up over the new line.
            begin = "" if self._taken else "\n"
            begin += f"\x1b7\x1b[1;{now.lines - 1}r\x1b8" + ("" if self._taken else "\x1b[1A")
            self._taken = now
        text = one_line(copies, now.columns - 1)
        # One write: the terminal takes it as a whole, so nothing of Ansible's comes between the movements.
        self._write(f"{begin}\x1b7\x1b[{now.lines};1H\x1b[2K{text}\x1b8")

    def erase(self) -> None:
        """Leave the terminal as it was."""
        if self._taken is not None:
            self._write(f"\x1b7\x1b[r\x1b[{self._taken.lines};1H\x1b[2K\x1b8")
            self._taken = None
        elif self._shown:
            self._write("\r" + " " * self._shown + "\r")
        self._shown = 0

    def _write(self, text: str) -> None:
        try:
            os.write(self._descriptor, text.encode(errors="replace"))
        except OSError:
            self.enabled = False
