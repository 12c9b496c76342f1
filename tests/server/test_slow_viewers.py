# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Viewers who ask for much and read nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, metric, running

MIB = 1024 * 1024


def resident(server) -> int:
    """Bytes of memory that the server has."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


async def large_run(server, events: int = 900) -> sample.Publisher:
    """A run of some 20 KB for each event."""
    p = sample.Publisher()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([p.started()])
        for _attempt in range(events // 30):
            await publisher.publish(
                [p.result("t", "Task", "h", "ok", msg="x" * 20_000) for _each in range(30)]
            )
    return p


async def test_an_answer_has_an_end_and_the_rest_is_asked_for(server, viewer):
    p = await large_run(server, 300)
    seen: list[int] = []
    before: dict[str, int] = {}
    while True:
        answer = await viewer.ask({"type": "GET_HISTORY", "run": p.run, "limit": 200, **before})
        assert len(viewer.frames[-1]) < 1.1 * MIB
        seen += [event["pubseq"] for event in answer["events"]]
        if not answer["more"]:
            break
        assert answer["events"]
        before = {"before_seq": answer["events"][-1]["seq"]}
    assert seen == list(range(301, 0, -1))


async def test_one_event_is_an_answer_however_large_it_is():
    async with (
        running(KUBEFERRY_LIMIT_HISTORY_BYTES="1") as server,
        await Client.connect(server.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(server.url, VIEW_TOKEN) as viewer,
    ):
        p = sample.Publisher()
        await publisher.publish([p.started(), p.finished()])
        answer = await viewer.ask({"type": "GET_HISTORY", "run": p.run})
        assert ([event["pubseq"] for event in answer["events"]], answer["more"]) == ([2], True)
        last = await viewer.ask(
            {"type": "GET_HISTORY", "run": p.run, "before_seq": answer["events"][0]["seq"]}
        )
        assert ([event["pubseq"] for event in last["events"]], last["more"]) == ([1], False)


@pytest.mark.parametrize("watching", [False, True])
async def test_those_who_ask_and_read_nothing_cost_little_and_are_closed(watching):
    async with running(KUBEFERRY_LIMIT_STALL_SECONDS="2") as server:
        p = await large_run(server)
        viewers = [await Client.connect(server.url, VIEW_TOKEN) for _attempt in range(30)]
        before = resident(server)
        for viewer in viewers:
            if watching:
                assert (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["type"] == "SNAPSHOT"
            viewer.ws._response.connection.transport.pause_reading()
        ask = json.dumps({"type": "GET_HISTORY", "run": p.run, "limit": 1000})
        most = 0
        for _attempt in range(30):
            for viewer in viewers:
                if not viewer.ws._response.connection.transport.is_closing():
                    await viewer.send(ask)
            await asyncio.sleep(0.05)
            most = max(most, resident(server))
        async with asyncio.timeout(60):
            while await metric(server, "viewers_closed_slow_total") < len(viewers):
                most = max(most, resident(server))
                await asyncio.sleep(0.1)
        assert most - before < 200 * MIB
        await asyncio.sleep(0.5)
        assert await metric(server, "connections") == 0
        # Others are served as before.
        async with await Client.connect(server.url, VIEW_TOKEN) as other:
            assert (await other.ask(ask))["type"] == "HISTORY"
        for viewer in viewers:
            await viewer.session.close()
