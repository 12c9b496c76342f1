# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import asyncio
import json

import pytest
import sample
from kubeferry_events import hub as hub_module
from kubeferry_events.errors import MessageError, StoreError
from kubeferry_events.fanout import Viewer
from kubeferry_events.hub import Hub
from kubeferry_events.limits import Limits
from kubeferry_events.metrics import Metrics
from kubeferry_events.store import Draft
from kubeferry_events.store_sqlite import SqliteStore
from kubeferry_events.wire import dump


class Store(SqliteStore):
    """A real history; `full` while rows of the list have no room in it, and `slow` is a run that takes time to read."""

    full = False
    slow = ""

    def __init__(self, path) -> None:
        super().__init__(path)
        self.at_last = asyncio.Event()

    async def read(self, run, after_seq, page):
        if run == self.slow:
            await self.at_last.wait()
        return await super().read(run, after_seq, page)

    async def save_summaries(self, rows) -> None:
        if self.full:
            raise StoreError("The disk is full.")
        await super().save_summaries(rows)


@pytest.fixture
async def hub(tmp_path):
    hub = Hub(Store(tmp_path / "history.db"), Limits(), Metrics())
    await hub.open()
    yield hub
    await hub.close()


def draft(event) -> Draft:
    return Draft(event["runid"], dump(event), event, event["pubseq"])


async def kept(hub) -> dict[str, str]:
    return {row["run"]: row["status"] for row in await hub.store.summaries()}


async def test_a_row_that_could_not_be_kept_is_kept_later(hub):
    p, other = sample.Publisher(), sample.Publisher()
    await hub.append([draft(p.started())])
    await hub.run(p.run)
    await hub.save_rows()
    await hub.append([draft(p.finished())])
    hub.store.full = True
    with pytest.raises(StoreError):
        await hub.save_rows()
    assert await kept(hub) == {p.run: "running"}
    hub.store.full = False
    await hub.append([draft(other.started())])
    await hub.run(other.run)
    await hub.save_rows()
    assert await kept(hub) == {p.run: "ok", other.run: "running"}


async def test_a_run_that_is_known_only_to_the_history_is_known(hub):
    p = sample.Publisher()
    hub.store._deliver = lambda _events: None  # another replica's event, of which this one hasn't heard yet
    await hub.append([draft(p.started())])
    assert hub.rows == {}
    await hub.require_run(p.run)
    assert (await hub.run(p.run)).events == 1
    with pytest.raises(MessageError, match="no such run"):
        await hub.require_run(sample.Publisher().run)


async def test_who_waits_for_a_run_gets_that_of_the_new_history(hub, slow):
    slow, _other = slow
    waiting = asyncio.create_task(hub.run(slow.run))
    await asyncio.sleep(0)
    hub.store.slow = ""
    reading = hub._loading[slow.run]
    await hub.reset()
    assert (await waiting) is await hub.run(slow.run)
    assert reading.cancelled()
    assert hub._loading == {}


class Follower:
    """Who watches all runs; `seen` has the numbers of the events that came."""

    def __init__(self, hub) -> None:
        self.seen: list[int] = []
        self.viewer = Viewer(self._take, lambda: None, hub.limits, hub.metrics)
        hub.watch(self.viewer, None)

    async def _take(self, frame) -> None:
        self.seen += [event["seq"] for event in json.loads(frame)["events"]]


async def settled() -> None:
    """Whatever is on its way has come."""
    await asyncio.sleep(0.2)


@pytest.fixture
async def slow(hub):
    """A run that isn't in memory and takes time to read, and one that is in memory."""
    slow, other = sample.Publisher(), sample.Publisher()
    await hub.append([draft(slow.started()), draft(other.started())])
    await hub.run(slow.run)
    await hub.run(other.run)
    hub._runs.pop(slow.run)
    hub.store.slow = slow.run
    yield slow, other
    hub.store.at_last.set()
    await settled()


async def test_events_of_all_runs_are_told_in_their_order(hub, slow):
    slow, other = slow
    follower = Follower(hub)
    await hub.append([draft(other.result("t", "Task", "h", "ok"))])
    await hub.append([draft(slow.finished())])
    await hub.append([draft(other.finished())])
    await settled()
    assert follower.seen == [3]
    # Who comes now is told to go on from there, and nobody is given more than that.
    assert json.loads(hub.snapshot_of(None)(""))["seq"] == 3
    second = Follower(hub)
    await hub.replay(second.viewer, None, 0)
    assert second.seen == [1, 2, 3]
    hub.store.at_last.set()
    await settled()
    assert follower.seen == [3, 4, 5]
    assert second.seen == [1, 2, 3, 4, 5]


async def test_they_are_told_in_order_also_when_there_are_too_many_to_hold(hub, slow, monkeypatch):
    monkeypatch.setattr(hub_module, "HELD_EVENTS", 3)
    slow, other = slow
    follower = Follower(hub)
    await hub.append([draft(slow.finished())])
    for _attempt in range(2):
        await hub.append([draft(other.result("t", "Task", "h", "ok"))])
    await settled()
    assert follower.seen == []
    await hub.append([draft(other.finished())])
    await settled()
    assert follower.seen == [3, 4, 5, 6]
    hub.store.at_last.set()
    await settled()
    assert follower.seen == [3, 4, 5, 6]


@pytest.mark.parametrize("error", [StoreError("The disk is broken."), KeyError("CANARY")])
async def test_a_run_that_cannot_be_read_does_not_hold_up_the_others(hub, slow, monkeypatch, caplog, error):
    slow, other = slow
    follower = Follower(hub)
    await hub.append([draft(slow.finished()), draft(other.finished())])

    async def fail(*_arguments):
        raise error

    monkeypatch.setattr(SqliteStore, "read", fail)
    hub.store.at_last.set()
    await settled()
    assert follower.seen == [3, 4]
    assert "could not be read" in caplog.text
    assert "CANARY" not in caplog.text
