# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The middle of the server: what was stored, applied to the states of runs and handed to viewers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from .errors import DamagedRun, MessageError, StoreError
from .fanout import Channel, Viewer, event_frames
from .limits import MIB, Limits
from .metrics import Metrics
from .run_state import RunState, iso_time, progress_key
from .store import Draft, Page, Store, Stored, on_wire
from .wire import PROGRESS, dump, kind_of

log = logging.getLogger(__name__)

PAGE, PAGE_BYTES = 500, MIB  # stored events read at once
LOADED_RUNS = 64  # runs kept in memory beyond those that somebody watches
HELD_EVENTS = 5_000  # of all runs, while one of them is read from the history


class Hub:
    """All runs of one history."""

    def __init__(self, store: Store, limits: Limits, metrics: Metrics) -> None:
        self.store, self.limits, self.metrics = store, limits, metrics
        self.seq = 0
        self.rows: dict[str, dict[str, Any]] = {}
        self._runs: OrderedDict[str, RunState] = OrderedDict()
        self._loading: dict[str, asyncio.Task[RunState]] = {}
        self._early: dict[str, list[Stored]] = {}
        # What those who watch all runs are not told yet: an event of a run that is being read, and all after it.
        self._held: deque[Stored] = deque()
        self._channels: dict[str | None, Channel] = {}
        self._list_viewers: set[Viewer] = set()
        self._changed: set[str] = set()
        self._unsaved: set[str] = set()
        self._removed: list[str] = []
        self._queue: asyncio.Queue[tuple[Sequence[Draft], asyncio.Future[None]]] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.store.open(self.deliver, self.reset)
        await self._load_rows()
        self._writer = asyncio.create_task(self._write())

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        try:
            await self.save_rows()
        finally:
            await self.store.close()

    async def _load_rows(self) -> None:
        self.rows = {row["run"]: row for row in await self.store.summaries()}
        newest = await self.store.newest()
        known = (row.get("seq", 0) for row in self.rows.values())
        self.seq = max([self.seq, self.store.pruned_seq, *newest.values(), *known])
        # Rows are saved once a second; those that a crash, a full disk or a slower replica left behind are made anew.
        for run, seq in newest.items():
            if seq != self.rows.get(run, {}).get("seq", 0):
                with contextlib.suppress(DamagedRun):  # the log says it
                    await self.run(run)

    async def reset(self) -> None:
        """The history is another one: forget everything, and give every viewer a snapshot of the new one."""
        log.warning("the shared history was replaced, or is an older one; every viewer gets a new snapshot")
        self._runs.clear()
        self._early.clear()
        self._held.clear()
        for task in self._loading.values():
            task.cancel()  # whoever waits for it asks again
        self._loading.clear()
        self.rows, self.seq = {}, 0
        await self._load_rows()
        for run in [key for key in self._channels if key is not None]:
            with contextlib.suppress(DamagedRun):
                await self.run(run)
        for channel in self._channels.values():
            for viewer in list(channel.viewers):
                viewer.resync("epoch_changed")
        for viewer in self._list_viewers:
            viewer.resync("epoch_changed")

    async def append(self, drafts: Sequence[Draft]) -> None:
        """Store events and return when they are durable. Many callers share one transaction. Raises StoreError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((drafts, done))
        await done

    async def _write(self) -> None:
        while True:
            waiting = [await self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            drafts = [draft for part, _done in waiting for draft in part]
            try:
                if drafts:
                    await self.store.append(drafts)
                    self.metrics.add("events_stored", len(drafts))
            except StoreError as error:
                log.error("%s", error)  # noqa: TRY400 -- the sentence says it all
                self.metrics.add("store_errors")
                _finish(waiting, error)
            else:
                _finish(waiting, None)

    def deliver(self, events: Sequence[Stored]) -> None:
        """Called by the history with what it has stored, in order."""
        for stored in events:
            self.seq = max(self.seq, stored.seq)
            self._held.append(stored)
            state = self._runs.get(stored.run)
            if state is None:
                # Of a run that isn't in memory: it is read from the history, this event with it.
                self._early.setdefault(stored.run, []).append(stored)
                self._load(stored.run)
            else:
                self._apply(state, stored)
        self._tell_all()

    def _apply(self, state: RunState, stored: Stored) -> None:
        state.apply(stored.event, stored.seq)  # nothing new where it was read from the history already
        self._changed.add(stored.run)
        self._push(stored.run, stored)

    def _tell_all(self) -> None:
        """Tell those who watch all runs, in order: they resume from the highest seq that they have seen."""
        while self._held and (self._held[0].run not in self._early or len(self._held) > HELD_EVENTS):
            self._push(None, self._held.popleft())

    def _push(self, key: str | None, stored: Stored) -> None:
        if (channel := self._channels.get(key)) is not None and channel.viewers:
            data = stored.event["data"]
            progress = f"{stored.run} {progress_key(data)}" if kind_of(stored.event) == PROGRESS else None
            channel.push(on_wire(stored.body, self.store.epoch, stored.seq), progress)

    def _told(self, run: str | None) -> int:
        """Up to where viewers of a run that is in memory, or of all, have been told."""
        return self._held[0].seq - 1 if run is None and self._held else self.seq

    async def run(self, run: str) -> RunState:
        """A run's state, read from the history when it isn't in memory; an empty one of an unknown run."""
        while (state := self._runs.get(run)) is None:
            # Not awaited itself: whoever gives up waiting doesn't stop it for others.
            task = self._load(run)
            await asyncio.wait({task})
            if not task.cancelled():
                return task.result()
        self._runs.move_to_end(run)
        return state

    def _load(self, run: str) -> asyncio.Task[RunState]:
        task = self._loading.get(run)
        if task is None:
            task = self._loading[run] = asyncio.create_task(self._replay(run))
            task.add_done_callback(lambda done: self._loaded(run, done))
        return task

    def _loaded(self, run: str, task: asyncio.Task[RunState]) -> None:
        if self._loading.get(run) is not task:
            return  # of another history
        del self._loading[run]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._early.pop(run, None)
            self._tell_all()
            # What else it may say can be an event's.
            why = error if isinstance(error, StoreError) else type(error).__name__
            log.error("a run could not be read: %s", why)

    async def _replay(self, run: str) -> RunState:
        state = RunState(run)
        while page := await self._page(run, state.seq):
            for stored in page:
                try:
                    state.apply(stored.event, stored.seq)
                except (AttributeError, LookupError, TypeError, ValueError) as error:
                    # When it came in it was checked: what doesn't have its fields any more is damaged.
                    raise DamagedRun(self.store.name, run, stored.seq) from error
            await asyncio.sleep(0)  # other people's messages come between
        self._runs[run] = state
        for stored in self._early.pop(run, ()):
            self._apply(state, stored)
        self._tell_all()
        if state.seq:
            self._changed.add(run)
        self._evict()
        return state

    async def _page(self, run: str | None, after_seq: int) -> list[Stored]:
        return (await self.store.read(run, after_seq, Page(PAGE, PAGE_BYTES))).events

    def _evict(self) -> None:
        for run in list(self._runs):
            if len(self._runs) <= LOADED_RUNS:
                break
            channel = self._channels.get(run)
            if run not in self._changed and not (channel and channel.viewers):
                del self._runs[run]

    # Viewers

    def watch(self, viewer: Viewer, run: str | None) -> None:
        """Give a viewer every event of a run, or of all, from now on."""
        channel = self._channels.setdefault(run, Channel(self.limits))
        channel.flush()  # what it holds is older than this viewer's beginning
        channel.viewers.add(viewer)

    def watch_list(self, viewer: Viewer) -> None:
        """Give a viewer the changed rows of the list of runs."""
        self._list_viewers.add(viewer)

    def unwatch(self, viewer: Viewer) -> None:
        self._list_viewers.discard(viewer)
        for key in [key for key, channel in self._channels.items() if viewer in channel.viewers]:
            channel = self._channels[key]
            channel.viewers.discard(viewer)
            if not channel.viewers:
                channel.flush()
                del self._channels[key]

    def snapshot_of(self, run: str | None) -> Callable[[str], bytes]:
        """What makes a SNAPSHOT frame of a run that is in memory, or of the list of runs."""

        def make(reason: str) -> bytes:
            if (channel := self._channels.get(run)) is not None:
                channel.flush()
            message: dict[str, Any] = {"type": "SNAPSHOT", "epoch": self.store.epoch, "seq": self._told(run)}
            if reason:
                message["resync"] = reason
            if run is None:
                message["state"] = {"runs": self.list_runs()}
            else:
                state = self._runs.get(run) or RunState(run)
                message |= {
                    "run": run,
                    "seq": max(self.seq, state.seq),
                    "state": state.as_dict(datetime.now(UTC)),
                }
            return dump(message)

        return make

    def list_runs(self) -> list[dict[str, Any]]:
        """Every run's row, the newest first."""
        now = datetime.now(UTC)
        rows = {**self.rows, **{run: self._row(state, now) for run, state in self._runs.items() if state.seq}}
        return sorted(
            rows.values(), key=lambda row: row.get("started") or row.get("updated", ""), reverse=True
        )

    async def require_run(self, run: str) -> None:
        """Raises MessageError for a run that the history doesn't have, be it told of here already or not."""
        state = self._runs.get(run)
        if run in self.rows or (state and state.seq) or (await self.store.read(run, 0, Page(1, 1))).events:
            return
        raise MessageError(
            "unknown_run", "The history has no such run: it may have been dropped for its age.", run=run
        )

    async def replay(self, viewer: Viewer, run: str | None, after_seq: int) -> None:
        """Send a held viewer what the history has after `after_seq` up to now; newer events are queued meanwhile."""
        until = self._told(run)
        while after_seq < until:
            page = [stored for stored in await self._page(run, after_seq) if stored.seq <= until]
            if not page:
                break
            after_seq = page[-1].seq
            bodies = [on_wire(stored.body, self.store.epoch, stored.seq) for stored in page]
            for frame in event_frames(bodies, self.limits.frame_bytes):
                await viewer.send(frame)

    # Once a second

    def tell_list(self) -> set[str]:
        """Send the rows that changed to those who watch the list; returns which they were."""
        changed, self._changed = self._changed, set()
        removed, self._removed = self._removed, []
        now = datetime.now(UTC)
        rows = []
        for run in changed:
            if (state := self._runs.get(run)) is not None:
                row = self.rows[run] = self._row(state, now)
                rows.append(row)
        for run, state in self._runs.items():  # those that fell silent since
            if run not in changed and run in self.rows and state.status == "running":
                row = self._row(state, now)
                if row["status"] != self.rows[run]["status"]:
                    self.rows[run] = row
                    rows.append(row)
        if (rows or removed) and self._list_viewers:
            frame = dump({"type": "RUNS", "runs": rows, "removed": removed})
            for viewer in self._list_viewers:
                viewer.offer(frame)
        return {row["run"] for row in rows}

    def _row(self, state: RunState, now: datetime) -> dict[str, Any]:
        """A run's row. Its age goes by this clock, not by the publisher's, which may be years behind."""
        row, before = state.summary(now), self.rows.get(state.run, {})
        if row["seq"] == before.get("seq"):
            return {**row, "received": before.get("received") or before.get("updated", "")}
        return {**row, "received": iso_time(now.timestamp())}

    async def save_rows(self) -> None:
        """Keep the rows that changed; one that can't be kept now is kept another time. Raises StoreError."""
        self._unsaved |= self.tell_list()
        if saving := self._unsaved & self.rows.keys():
            await self.store.save_summaries([self.rows[run] for run in saving])
        self._unsaved.clear()

    def forget(self, runs: Sequence[str]) -> None:
        """Runs that the history has dropped."""
        for run in runs:
            self.rows.pop(run, None)
            self._runs.pop(run, None)
            self._removed.append(run)


def _finish(waiting: list[tuple[Sequence[Draft], asyncio.Future[None]]], error: StoreError | None) -> None:
    for _drafts, done in waiting:
        if done.done():
            continue  # its caller has gone
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
