# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The log: what happened and where in the code, never what somebody sent, and not so much that it fills a disk.

Libraries put requests into their messages and exceptions, with the tokens, cookies and codes that are in them. Of what
they say only the kind and the place are written; this package's own sentences are written as they are.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import PurePath

from .limits import TokenBucket

OWN = "kubeferry_events"
MAX_CHARACTERS = 500
MAX_PLACES = 8  # the innermost ones of an exception
# Of lines of one kind: so many at once, and then one in so many seconds.
BURST, SECONDS = 10, 60.0


class Discretion(logging.Filter):
    """Rewrites what is logged, and holds back what comes too often; the next line of that kind counts what was."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # Kinds and places are the code's: no client makes these grow.
        self._buckets: dict[tuple[str, str, int], TokenBucket] = {}
        self._held: dict[tuple[str, str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        key = (record.name, type(error).__name__, record.lineno)
        now = self._clock()
        if not self._buckets.setdefault(key, TokenBucket(1 / SECONDS, BURST, now)).try_take(now):
            self._held[key] = self._held.get(key, 0) + 1
            return False
        text = _sentence(record) if record.name.partition(".")[0] == OWN else _cause(record, error)
        if held := self._held.pop(key, 0):
            text += f" [{held} more of these were not written]"
        # Without arguments nothing in it is a format.
        record.msg, record.args = text, ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _sentence(record: logging.LogRecord) -> str:
    """An own message on one line."""
    text = record.getMessage()[:MAX_CHARACTERS]
    return "".join(each if each.isprintable() else " " for each in text)


def _cause(record: logging.LogRecord, error: BaseException | None) -> str:
    """The kind of an exception and where it came from, or where a message came from."""
    if error is None:
        return f"a message of {record.filename}:{record.lineno}"
    frames = traceback.extract_tb(error.__traceback__, limit=-MAX_PLACES)
    places = " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} ({places})" if places else type(error).__name__


def set_up() -> None:
    """Write the log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Discretion())
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[handler],
    )
    # What Python itself would print.
    logging.captureWarnings(True)
    sys.unraisablehook = lambda ignored: logging.getLogger("python").error(
        "unraisable", exc_info=ignored.exc_value
    )
