# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The lines that the callback writes to its helper, and the envelopes that the helper makes of them.

A line is an event without its place in the run: `{"time": …, "type": …, "data": {…}}`. The helper puts in front of it
what numbers it, without taking it apart. A line that begins with `[` is a word between the two of them.
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from ._redact import MASKED, Redactor

TYPE_PREFIX = "kubeferry.v1."
# Words of the callback to its helper.
END = b'["end"]\n'
LOST = "lost"
LEARN = "learn"

_PUBSEQ = re.compile(rb'"pubseq":([0-9]+)[,}]')
_FIRST = re.compile(rb'"first_pubseq":([0-9]+)[,}]')


_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Clock:
    """Writes the time; the seconds are written once, because most events come many in a second."""

    def __init__(self) -> None:
        self._second = -1
        self._written = ""

    def now(self) -> str:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._written = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second
        return f"{self._written}.{nanoseconds // 1_000:06}Z"


now = _Clock().now


def _mended(value: object) -> object:
    """Return JSON data without lone surrogates, which stand for the bytes of names that are not UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_mended(key): _mended(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mended(inner) for inner in value]
    return value


def event_line(kind: str, data: dict[str, Any], redactor: Redactor, *flags: str) -> bytes:
    """Return one line for the helper.

    `data` is plain JSON data; `flags` are `redacted` and `truncated` where they hold already.
    """
    encoded = _encode(data)
    if redactor.suspects(encoded):
        data = redactor.scrub(data)
        encoded = _encode(data)
    # After the search: a secret may be of such bytes.
    if "\\ud" in encoded:
        encoded = _encode(_mended(data))
    if MASKED in encoded:
        flags = (*flags, "redacted")
    marks = "".join(f'"{flag}":true,' for flag in sorted(set(flags)))
    return f'{{"time":"{now()}","type":"{TYPE_PREFIX}{kind}",{marks}"data":{encoded}}}\n'.encode()


def lost_line(count: int) -> bytes:
    """Return the line that tells the helper that so many events did not get through the pipe."""
    return json.dumps([LOST, count]).encode() + b"\n"


def learn_line(value: str) -> bytes:
    """Return the line that tells the helper what else must not leave."""
    return json.dumps([LEARN, value]).encode() + b"\n"


def envelope(run: str, pubseq: int, line: bytes, progress: int | None = None) -> bytes:
    """Return the whole event, as one line, made of a line of `event_line`.

    Progress is not counted, for it may be dropped: its id has the number of the newest other event and its own.
    """
    number = f"{pubseq}" if progress is None else f"{pubseq}.{progress}"
    head = f'{{"specversion":"1.0","id":"{run}:{number}","source":"/runs/{run}","runid":"{run}","pubseq":{pubseq},'
    return head.encode() + line[1:]


def gap_envelope(run: str, first: int, last: int, reason: str, message: str) -> bytes:
    """Return the event that stands for events `first` to `last`, which are lost."""
    data = {
        "reason": reason,
        "message": message,
        "count": last - first + 1,
        "first_pubseq": first,
        "last_pubseq": last,
    }
    encoded = _encode(data)
    line = f'{{"time":"{now()}","type":"{TYPE_PREFIX}gap","data":{encoded}}}\n'.encode()
    return envelope(run, last, line)


def pubseq_of(line: bytes) -> int | None:
    """Return the number of an envelope that `envelope` made; None where the line is not whole."""
    found = _PUBSEQ.search(line, 0, 300)
    return int(found[1]) if found and line.endswith(b"}\n") else None
