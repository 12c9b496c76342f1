# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Events that a publisher with a good token makes up: each is refused by itself, and does no harm to its run."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, running


def nested(levels):
    value = {}
    for _level in range(levels):
        value = {"a": value}
    return value


def result(p, **more):
    return p.result("t", "Task", "h", "ok", **more)


FORGED = {
    "a type that the server makes": lambda p: p.event(
        "k8s.event", {"namespace": "n", "object": {"kind": "Event"}}
    ),
    "nested too deep": lambda p: result(p, result=nested(100)),
    "no time": lambda p: {**result(p), "time": "9999-99-99T99:99:99Z"},
    "a time far ahead": lambda p: {
        **result(p),
        "time": (datetime.now(UTC) + timedelta(days=300)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    },
    "a gap before its beginning": lambda p: p.event(
        "gap", {"reason": "other", "first_pubseq": 1, "last_pubseq": 10**15}
    ),
}


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_event_is_refused_and_a_gap_stands_for_it(server, publisher, viewer, make):
    p = sample.Publisher()
    events = [p.started(), make(p), p.finished()]
    # In one message with good ones, which are taken. All are acknowledged: nobody sends the bad one for ever.
    for _attempt in range(2):
        await publisher.send({"type": "PUBLISH", "events": events})
        assert (await publisher.until("ACK"))["pubseq"] == 3
        refused = await publisher.until("ERROR")
        assert (refused["code"], refused["ids"]) == ("invalid_event", [events[1]["id"][:80]])
    state = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]
    assert [gap["reason"] for gap in state["gaps"]] == ["invalid_event"]
    why = refused["message"].removeprefix("Refused: ")
    assert state["gaps"][0]["message"] == f"The server refused what breaks a rule: {why}"
    assert f"1 events of a publisher were refused, the first for this: {why[:-1]}\n" in server.log.read_text()
    assert state["summary"]["updated"] <= (datetime.now(UTC) + timedelta(minutes=1)).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    history = await viewer.ask({"type": "GET_HISTORY", "run": p.run})
    assert [event["pubseq"] for event in history["events"]] == [3, 2, 1]
    await viewer.send({"type": "SUBSCRIBE", "run": p.run, "after_seq": 0})
    assert len(await viewer.events(3)) == 3
    assert "Traceback" not in server.log.read_text()


async def test_no_depth_makes_a_run_unreadable(server, publisher, viewer):
    """What Python just manages to read when it comes in may be too deep when it is read again."""
    p = sample.Publisher()
    await publisher.publish([p.started()])
    for levels in (940, 955, 960, 965, 968, 970, 975, 985):
        text = json.dumps({"type": "PUBLISH", "events": [result(p, result={"a": "deep"})]})
        deep = '{"a":' * levels + "{}" + "}" * levels
        assert (await publisher.ask(text.replace('"deep"', deep)))["type"] in ("ACK", "ERROR")
    answer = await viewer.ask({"type": "GET_HISTORY", "run": p.run})
    assert {event["type"] for event in answer["events"]} == {"kubeferry.v1.gap", "kubeferry.v1.run.started"}
    await viewer.send({"type": "SUBSCRIBE", "run": p.run, "after_seq": 0})
    assert len(await viewer.events(2)) >= 2
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("run", "number"),
    [("-" * 36, 1), ("f" * 36, 1), ("run", 1), (None, 0), (None, -1), (None, True), (None, 10**15)],
)
async def test_what_has_no_run_or_number_is_refused_without_a_trace(publisher, viewer, run, number):
    p = sample.Publisher(run)
    event = {**p.started(), "pubseq": number, "id": f"{p.run}:{number}"}
    refused = await publisher.ask({"type": "PUBLISH", "events": [event]})
    assert (refused["code"], len(refused["ids"])) == ("invalid_event", 1)
    await asyncio.sleep(0.2)
    assert (await viewer.ask({"type": "SUBSCRIBE"}))["state"] == {"runs": []}


async def test_progress_before_the_first_event_has_the_number_0(publisher, viewer):
    p = sample.Publisher()
    await publisher.publish([p.event("progress", {"label": "copy", "phase": "move"}), p.started()])
    await viewer.send({"type": "SUBSCRIBE", "run": p.run, "after_seq": 0})
    assert [event["pubseq"] for event in await viewer.events(2)] == [0, 1]


@pytest.mark.parametrize("restart", [False, True])
async def test_a_gap_keeps_no_event_out(server, restart):
    """Whoever declares numbers lost that are under way takes nothing from the run."""
    p = sample.Publisher()
    events = [p.started(), *(result(p) for _attempt in range(7)), p.finished()]
    forged = sample.Publisher(p.run)
    forged.pubseq = 49
    gap = forged.event("gap", {"reason": "other", "first_pubseq": 1, "last_pubseq": 50, "count": 50})
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        assert (await publisher.publish([events[0], gap]))["pubseq"] == 50
    if restart:
        await server.stop()
        await server.start()
    async with (
        await Client.connect(server.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(server.url, VIEW_TOKEN) as viewer,
    ):
        assert (await publisher.publish(events))["pubseq"] == 50
        await publisher.publish(events)
        summary = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]["summary"]
        assert (summary["status"], summary["counts"]["ok"], summary["events"]) == ("ok", 7, 10)


async def test_a_gap_that_is_refused_for_its_time_still_closes_the_hole(publisher):
    p = sample.Publisher()
    first = p.started()
    p.pubseq = 40
    about = {"reason": "spool_full", "first_pubseq": 2, "last_pubseq": 41, "count": 40}
    gap = {**p.event("gap", about), "time": "2999-01-01T00:00:00Z"}
    await publisher.send({"type": "PUBLISH", "events": [first, gap]})
    assert (await publisher.until("ACK"))["pubseq"] == 41


async def test_a_run_of_a_wrong_time_is_dropped_for_its_age():
    async with running(KUBEFERRY_RETENTION_DAYS="0.000001") as server:
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            p = sample.Publisher()
            event = {**p.started(), "time": "9999-99-99T99:99:99Z"}
            assert (await publisher.publish([event]))["pubseq"] == 1
        await asyncio.sleep(1.5)
        await server.stop()
        await server.start()
        await asyncio.sleep(1.5)  # the first round of housekeeping
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            assert (await viewer.ask({"type": "SUBSCRIBE"}))["state"] == {"runs": []}
