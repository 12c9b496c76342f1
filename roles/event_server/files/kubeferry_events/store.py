# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What a history must do. SQLite and Redis do it; nothing else knows which of them it is.

The promise: once `append` returns, its events survive a crash of the server, each has a seq of its own, and `deliver`
was or will be called with them in the order of seq, once. An event that was there already is neither stored nor
delivered again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

from .errors import DamagedRun
from .limits import Retention
from .wire import dump, is_summary

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """An event on its way into the history. `pubseq` is None where it isn't counted: progress, and the server's own."""

    run: str
    body: bytes
    event: dict[str, Any]
    pubseq: int | None
    # Of progress: the key under which only the newest is kept.
    progress: str | None = None
    task: str = ""
    host: str = ""


@dataclass(slots=True)
class Stored:
    """An event with its place in the history."""

    seq: int
    run: str
    body: bytes  # as published, without epoch and seq
    event: dict[str, Any]

    @classmethod
    def load(cls, history: str, seq: int, run: str, body: object) -> Stored:
        """Raises DamagedRun for what is no event any more."""
        event = _json(body)
        if not (isinstance(body, bytes) and body.endswith(b"}") and _is_event(event, run)):
            raise DamagedRun(history, run, seq)
        return cls(seq, run, body, event)


def _json(body: object) -> object:
    """What a database gives as it was stored, of whatever kind it is since; None where that is no JSON."""
    try:
        return json.loads(body) if isinstance(body, str | bytes) else None
    except ValueError:
        return None


def _is_event(event: object, run: str) -> TypeGuard[dict[str, Any]]:
    """Whether it has what every event has. Checking it by the schema would take longer than reading it."""
    return (
        isinstance(event, dict)
        and event.get("runid") == run
        and isinstance(event.get("data"), dict)
        and all(isinstance(event.get(name), str) for name in ("type", "time"))
    )


@dataclass(slots=True)
class Page:
    """Stored events, as many as a number and their bytes allow and one at least; `more` when there are others."""

    limit: int
    most_bytes: int
    events: list[Stored] = field(default_factory=list)
    bytes: int = 0
    more: bool = False

    def add(self, stored: Stored) -> bool:
        """Take an event in; false where it has no place."""
        size = self.bytes + len(stored.body)
        self.more = bool(self.events) and (len(self.events) >= self.limit or size > self.most_bytes)
        if not self.more:
            self.events.append(stored)
            self.bytes = size
        return not self.more


def on_wire(body: bytes, epoch: str, seq: int) -> bytes:
    """An event as viewers get it. Its JSON was made when it came in; only the cursor is added."""
    return b'%s,"epoch":%s,"seq":%d}' % (body[:-1], dump(epoch), seq)


Deliver = Callable[[Sequence[Stored]], None]


class Store(Protocol):
    """A history. Every method may raise StoreError."""

    # What messages call it, at the beginning of a sentence.
    name: str
    epoch: str
    # The highest seq that was ever dropped: who resumes from below it has missed something.
    pruned_seq: int

    async def open(self, deliver: Deliver, on_reset: Callable[[], Awaitable[None]]) -> None:
        """Get ready; `on_reset` is awaited whenever the history was replaced by another one."""

    async def close(self) -> None: ...

    async def check(self) -> None:
        """Read what is stored from where it is kept, not from anybody's memory."""

    async def append(self, drafts: Sequence[Draft]) -> None:
        """Store all of them, durably, or none."""

    async def read(self, run: str | None, after_seq: int, page: Page) -> Page:
        """Fill a page with stored events of a run, or of all, with a seq above.

        They are in order of seq, and of progress there is the newest of each key.
        """

    async def history(
        self, run: str, page: Page, *, task: str | None, host: str | None, before_seq: int | None
    ) -> Page:
        """Fill a page with stored events of a run without progress, the newest first."""

    async def summaries(self) -> list[dict[str, Any]]:
        """The rows of the list of runs, as they were last saved, without those that are damaged."""

    async def save_summaries(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep all of these rows, or none."""

    async def newest(self) -> dict[str, int]:
        """The number of each run's newest event: a row with a lower one was not saved in time."""

    async def prune(self, keep: Retention, now: float) -> list[str]:
        """Drop the oldest finished runs beyond what is to be kept, and return them. `now` is in Unix seconds."""


def load_rows(history: str, rows: Iterable[tuple[str, object]]) -> list[dict[str, Any]]:
    """The rows of the list of runs, by their runs. A damaged one is left out: it is made anew from its run's events."""
    found = []
    for run, text in rows:
        row = _json(text)
        if is_summary(row) and row["run"] == run:
            found.append(row)
        else:
            log.warning(
                "%s has a damaged row of run %s in its list: it is read from its events", history, run
            )
    return found


def safe(text: str) -> str:
    """A name as a database takes it: lone surrogates, which no encoding has, are written out."""
    return text.encode("utf-8", "backslashreplace").decode()
