# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""PUBLISH: from untrusted messages to stored events and acknowledgements."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .errors import DamagedRun, MessageError, StoreError, WrongFormat
from .hub import Hub
from .run_state import RunState, progress_key
from .store import Draft
from .wire import GAP, PREFIX, PROGRESS, check_event, dump, first_of_gap, is_pubseq, is_run

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What a PUBLISH came to: the highest contiguous pubseq of each run, and the events that were refused."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    why: str = ""


class Ingest:
    """Checks events, leaves out what has arrived before, and stores the rest."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # Numbers on their way into the history, so that two connections can't both bring one.
        self._under_way: dict[str, set[int]] = {}

    async def publish(self, events: Sequence[dict[str, Any]]) -> Outcome:
        """Store events. Returns when they are durable. Raises MessageError when they can't be stored."""
        outcome = Outcome()
        drafts: list[Draft] = []
        runs: dict[str, RunState] = {}
        try:
            for event in events:
                draft = self._draft(event, outcome)
                if draft is None:
                    continue
                if draft.run not in runs:
                    runs[draft.run] = await self._hub.run(draft.run)
                if (admitted := self._admit(draft, runs[draft.run], outcome)) is not None:
                    drafts.append(admitted)
            # Also with no draft: what another connection has under way must be durable before it is acknowledged.
            await self._hub.append(drafts)
            for draft in drafts:
                # A shared history delivers them only later; they are acknowledged now.
                runs[draft.run].note(draft.event)
        except StoreError as error:
            raise _unwritable(error) from error
        finally:
            for draft in drafts:
                if draft.pubseq is not None:
                    self._under_way.get(draft.run, set()).discard(draft.pubseq)
        for run in runs:
            state = await self._hub.run(run)
            outcome.acknowledged[run] = state.ledger.contiguous
            if not self._under_way.get(run):
                self._under_way.pop(run, None)
        if outcome.refused:
            log.warning(
                "%d events of a publisher were refused, the first for this: %s",
                len(outcome.refused),
                outcome.why,
            )
        return outcome

    def _draft(self, event: dict[str, Any], outcome: Outcome) -> Draft | None:
        """What is to be stored: the event, or a gap in its place where it breaks a rule, or None."""
        try:
            kind = check_event(event, datetime.now(UTC))
            # The server's own fields are not a publisher's to set.
            event = {name: value for name, value in event.items() if name not in ("epoch", "seq")}
            body = dump(event)
            if len(body) > self._hub.limits.event_bytes:
                raise WrongFormat(
                    f"an event has {len(body)} bytes; {self._hub.limits.event_bytes} are allowed"
                )
        except (WrongFormat, ValueError, RecursionError) as error:
            outcome.refused.append(str(event.get("id", ""))[:80])
            why = str(error).removeprefix("Wrong format: ")
            outcome.why = outcome.why or why
            self._hub.metrics.add("events_refused")
            return _gap_for(event, why)
        data = event["data"]
        progress = progress_key(data) if kind == PROGRESS else None
        return Draft(
            run=event["runid"],
            body=body,
            event=event,
            pubseq=None if kind == PROGRESS else event["pubseq"],
            progress=progress,
            task=data.get("task_id", ""),
            host=data.get("host", ""),
        )

    def _admit(self, draft: Draft, state: RunState, outcome: Outcome) -> Draft | None:
        """What is to be stored for a draft: itself, marked as under way; a gap at the run's limit; or nothing."""
        if draft.pubseq is None:
            return draft
        under_way = self._under_way.setdefault(draft.run, set())
        if draft.pubseq in state.arrived or draft.pubseq in under_way:
            self._hub.metrics.add("events_duplicate")
            return None
        limit = self._hub.limits.events_per_run
        # How the run ended is worth more than the limit.
        if state.events + len(under_way) >= limit and draft.event["type"] != f"{PREFIX}run.finished":
            self._hub.metrics.add("events_over_limit")
            outcome.why = outcome.why or f"the run has more than {limit} events; the rest is not kept"
            if state.over_limit:
                state.arrived.add(draft.pubseq)
                state.ledger.add(draft.pubseq)
                return None
            state.over_limit = True
            numbers = (draft.pubseq, draft.pubseq)
            draft = _gap(draft.run, numbers, "run_limit", "The run has more events than this server keeps.")
        under_way.add(draft.event["pubseq"])
        return draft


def _unwritable(error: StoreError) -> MessageError:
    if isinstance(error, DamagedRun):
        return MessageError(
            "damaged_run",
            f"Run {error.run} is damaged in the server's history, which takes no more of it: nothing of this message "
            "is acknowledged; the server's log says more.",
            run=error.run,
        )
    return MessageError(
        "server_error",
        "The history can't be written now: nothing of this message is acknowledged; send it again.",
    )


def _gap_for(event: dict[str, Any], why: str) -> Draft | None:
    """The gap that stands for a refused event whose run and number can be read, and says why it was."""
    run, number, data = event.get("runid"), event.get("pubseq"), event.get("data")
    if not is_run(run) or not is_pubseq(number) or event.get("type") == f"{PREFIX}{PROGRESS}":
        return None
    first = number
    if event.get("type") == f"{PREFIX}{GAP}" and isinstance(data, dict):
        # A gap that is refused for something else stands for the same events as before: nobody else will.
        with contextlib.suppress(WrongFormat):
            first = first_of_gap(data, number)
    return _gap(run, (first, number), "invalid_event", f"The server refused what breaks a rule: {why}.")


def _gap(run: str, numbers: tuple[int, int], reason: str, message: str) -> Draft:
    first, number = numbers
    event = {
        "specversion": "1.0",
        "id": f"{run}:{number}",
        "source": f"/runs/{run}",
        "type": f"{PREFIX}{GAP}",
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "runid": run,
        "pubseq": number,
        "data": {
            "reason": reason,
            "message": message,
            "count": number - first + 1,
            "first_pubseq": first,
            "last_pubseq": number,
        },
    }
    return Draft(run=run, body=dump(event), event=event, pubseq=number)
