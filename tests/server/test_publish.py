# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Publishing, watching and resuming, with servers that are stopped and killed in between."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from datetime import UTC, datetime

import pytest
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, after_a_restart, running


async def test_snapshot_then_tail(publisher, viewer):
    p = sample.Publisher()
    await publisher.publish([p.started(), *p.task("t", "Task", {"a": "ok", "b": "changed"})])
    snapshot = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
    assert snapshot["type"] == "SNAPSHOT"
    assert snapshot["state"]["tasks"][0]["cells"] == "oc"
    await publisher.publish([p.finished()])
    (event,) = await viewer.events(1)
    assert (event["type"], event["epoch"]) == ("kubeferry.v1.run.finished", snapshot["epoch"])
    assert event["seq"] > snapshot["seq"]


async def test_the_list_of_runs_changes_by_itself(publisher, viewer):
    assert (await viewer.ask({"type": "SUBSCRIBE", "summaries": True}))["state"] == {"runs": []}
    p = sample.Publisher()
    await publisher.publish([p.started("site.yml"), *p.task("t", "Task", {"a": "ok"})])
    (row,) = (await viewer.until("RUNS"))["runs"]
    assert (row["playbook"], row["status"], row["counts"]["ok"]) == ("site.yml", "running", 1)


async def test_a_tail_of_everything_begins_where_it_is_told(publisher, viewer):
    first, second = sample.Publisher(), sample.Publisher()
    await publisher.publish([first.started(), first.finished(), second.started()])
    await viewer.send({"type": "SUBSCRIBE", "after_seq": 0})
    assert [event["runid"] for event in await viewer.events(3)] == [first.run, first.run, second.run]
    await publisher.publish([second.finished()])
    (event,) = await viewer.events(1)
    await viewer.send({"type": "SUBSCRIBE", "epoch": event["epoch"], "after_seq": event["seq"] - 2})
    assert [again["seq"] for again in await viewer.events(2)] == [event["seq"] - 1, event["seq"]]


async def test_an_event_that_comes_twice_is_there_once(server, publisher, viewer):
    events = sample.copy_run()
    run = events[0]["runid"]
    first = await publisher.publish(events)
    async with await Client.connect(server.url, PUBLISH_TOKEN) as other:
        assert await other.publish(events) == first
        assert await other.publish(list(reversed(events))) == first
    await viewer.send({"type": "SUBSCRIBE", "run": run, "after_seq": 0})
    lifecycle = [event for event in events if not event["type"].endswith("progress")]
    await asyncio.sleep(0.3)
    got = [event for event in await viewer.events(len(lifecycle)) if not event["type"].endswith("progress")]
    assert [event["id"] for event in got] == [event["id"] for event in lifecycle]


async def test_the_acknowledgement_stops_before_a_hole(publisher, viewer):
    p = sample.Publisher()
    events = [p.started(), *p.task("t", "Task", {"a": "ok"}), p.finished()]
    assert (await publisher.publish([events[0], *events[2:]]))["pubseq"] == 1
    state = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]
    assert state["missing"] == [[2, 2]]
    assert (await publisher.publish([events[1]]))["pubseq"] == 5


async def test_a_gap_is_explicit_and_closes_the_hole(publisher, viewer):
    p = sample.Publisher()
    first = p.started()
    p.pubseq = 40
    gap = {
        "reason": "spool_full",
        "message": "The spool was full.",
        "first_pubseq": 2,
        "last_pubseq": 41,
        "count": 40,
    }
    assert (await publisher.publish([first, p.event("gap", gap)]))["pubseq"] == 41
    state = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]
    assert state["missing"] == []
    assert state["gaps"][0]["message"] == "The spool was full."


async def test_of_progress_the_newest_is_kept(publisher, viewer):
    p = sample.Publisher()
    progress = [p.event("progress", {"label": "copy", "phase": "move", "bytes": n}) for n in range(100)]
    await publisher.publish([p.started(), *progress])
    await viewer.send({"type": "SUBSCRIBE", "run": p.run, "after_seq": 0})
    assert [event["data"].get("bytes") for event in await viewer.events(2)] == [None, 99]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_resume_after_a_restart_misses_nothing(server, how):
    p = sample.Publisher()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([p.started(), *p.task("t", "Task", {"a": "ok"})])
    async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
        snapshot = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
        await server.stop(how)
        with pytest.raises(ConnectionResetError):
            await viewer.receive()
    await server.start()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        assert (await publisher.publish([p.finished()]))["pubseq"] == 5
    async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
        await viewer.send(
            {"type": "SUBSCRIBE", "run": p.run, "epoch": snapshot["epoch"], "after_seq": snapshot["seq"]}
        )
        message = await viewer.receive()
        assert [event["type"] for event in message["events"]] == ["kubeferry.v1.run.finished"]
        state = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]
        assert state["tasks"][0]["cells"] == "o"
        assert state["summary"]["status"] == "ok"
        runs = (await viewer.ask({"type": "SUBSCRIBE", "summaries": True}))["state"]["runs"]
        assert [row["status"] for row in runs] == ["ok"]


async def test_acknowledged_means_stored_even_when_it_is_killed(server):
    p = sample.Publisher()
    sent = [p.started(), *(p.result("t", "Task", f"h{n}", "ok") for n in range(3000)), p.finished()]
    acknowledged = 0
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        for at in range(0, len(sent), 50):
            await publisher.send({"type": "PUBLISH", "events": sent[at : at + 50]})
        while acknowledged < 1000:
            acknowledged = (await publisher.until("ACK"))["pubseq"]
        await server.stop(signal.SIGKILL)
    await server.start()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        # The publisher sends again what wasn't acknowledged, and the server says what it has.
        assert (await publisher.publish(sent[acknowledged:]))["pubseq"] == len(sent)
    async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
        state = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]
        assert (state["summary"]["counts"]["ok"], state["missing"]) == (3000, [])


async def test_a_run_of_the_last_second_is_in_the_list_after_a_crash(server):
    p = sample.Publisher()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([p.started("last.yml")])
        await server.stop(signal.SIGKILL)
    await server.start()
    async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
        runs = (await viewer.ask({"type": "SUBSCRIBE"}))["state"]["runs"]
        assert [row["playbook"] for row in runs] == ["last.yml"]


async def test_another_history_has_another_epoch(server):
    p = sample.Publisher()
    events = [p.started(), *p.task("t", "Task", {"a": "ok"})]
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish(events)
    async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
        old = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
    await server.stop()
    for path in server.directory.glob("history.db*"):
        path.unlink()
    await server.start()
    async with (
        await Client.connect(server.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(server.url, VIEW_TOKEN) as viewer,
    ):
        # It holds less than what was acknowledged before: the publisher learns that here.
        assert (await publisher.publish([p.finished()]))["pubseq"] == 0
        new = await viewer.ask(
            {"type": "SUBSCRIBE", "run": p.run, "epoch": old["epoch"], "after_seq": old["seq"]}
        )
        assert (new["type"], new["resync"]) == ("SNAPSHOT", "epoch_changed")
        assert new["epoch"] != old["epoch"]


async def test_a_slow_viewer_is_resynced_and_holds_up_nobody():
    async with (
        running(KUBEFERRY_LIMIT_VIEWER_BYTES="1000000") as server,
        await Client.connect(server.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(server.url, VIEW_TOKEN) as quick,
        await Client.connect(server.url, VIEW_TOKEN) as slow,
    ):
        p = sample.Publisher()
        await publisher.publish([p.started()])
        for viewer in (quick, slow):
            assert (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["type"] == "SNAPSHOT"
        # Its receive buffer and the kernel's take some megabytes; then it is behind.
        slow.ws._response.connection.transport.pause_reading()
        count = 0

        async def read() -> None:
            nonlocal count
            while count < 6000:
                count += len((await quick.until("EVENTS"))["events"])

        reading = asyncio.create_task(read())
        padding = {"pad": "x" * 2000}
        for _attempt in range(30):
            await publisher.publish(
                [p.result("t", "Task", "h", "ok", result=padding) for _attempt in range(200)]
            )
        await asyncio.wait_for(reading, 20)
        slow.ws._response.connection.transport.resume_reading()
        resync = await slow.until("SNAPSHOT")
        assert resync["resync"] == "slow_viewer"
        assert resync["state"]["summary"]["counts"]["ok"] == 6000
        await publisher.publish([p.finished()])
        assert (await slow.events(1))[-1]["type"] == "kubeferry.v1.run.finished"


async def test_a_run_has_no_more_events_than_the_limit():
    async with (
        running(KUBEFERRY_LIMIT_EVENTS_PER_RUN="100") as server,
        await Client.connect(server.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(server.url, VIEW_TOKEN) as viewer,
    ):
        p = sample.Publisher()
        events = [
            p.started(),
            *(p.result("t", "Task", f"h{n}", "ok") for n in range(300)),
            p.finished("failed"),
        ]
        assert (await publisher.publish(events))["pubseq"] == 302
        summary = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]["summary"]
        assert (summary["status"], summary["events"], summary["gaps"]) == ("failed", 102, 1)


async def test_old_runs_are_dropped():
    async with running(KUBEFERRY_RETENTION_RUNS="2") as server:
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            for number in range(4):
                p = sample.Publisher()
                await publisher.publish([p.started(f"{number}.yml"), p.finished()])
        await server.stop()
        await server.start()
        await asyncio.sleep(1.5)  # the first round of housekeeping
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            snapshot = await viewer.ask({"type": "SUBSCRIBE"})
            assert [row["playbook"] for row in snapshot["state"]["runs"]] == ["3.yml", "2.yml"]
            resumed = await viewer.ask({"type": "SUBSCRIBE", "after_seq": 1, "epoch": snapshot["epoch"]})
            assert resumed["resync"] == "retention"


async def test_the_newest_run_is_kept_whatever_its_size():
    async with running(KUBEFERRY_RETENTION_BYTES="1") as server:
        runs = [sample.Publisher(), sample.Publisher()]
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            for p in runs:
                await publisher.publish([p.started(), p.finished()])
        assert (await after_a_restart(server, runs[1].run))["status"] == "ok"
        assert f"(KUBEFERRY_RETENTION_DAYS, _RUNS, _BYTES): {runs[0].run}\n" in server.log.read_text()


async def test_a_run_whose_publisher_s_clock_is_years_behind_is_kept():
    async with running() as server:
        p = sample.Publisher(start=datetime(2001, 1, 1, tzinfo=UTC))
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            await publisher.publish([p.started(), p.finished()])
        for _restart in range(2):
            assert (await after_a_restart(server, p.run))["started"].startswith("2001")


async def test_history_of_one_result(publisher, viewer):
    await publisher.publish(sample.copy_run(p := sample.Publisher()))
    ask = {"type": "GET_HISTORY", "run": p.run, "task_id": "t6", "host": "localhost"}
    answer = await viewer.ask(ask)
    assert [event["type"] for event in answer["events"]] == ["kubeferry.v1.host.failed"]
    newest = await viewer.ask({"type": "GET_HISTORY", "run": p.run, "limit": 2})
    assert newest["more"] is True
    older = await viewer.ask(
        {"type": "GET_HISTORY", "run": p.run, "limit": 2, "before_seq": newest["events"][-1]["seq"]}
    )
    assert older["events"][0]["pubseq"] == newest["events"][-1]["pubseq"] - 1


async def test_a_canary_marked_by_the_publisher_stays_out_of_other_places(server, publisher, viewer):
    """Data goes to the history and to those who may view, and to no log, metric or error."""
    canary = "canary-in-a-result"
    p = sample.Publisher()
    await publisher.publish([p.started(), p.result("t", "Task", "h", "failed", msg=canary)])
    await publisher.ask(
        {"type": "PUBLISH", "events": [p.event("host.ok", {"task_id": "t", "host": [canary]})]}
    )
    async with await Client.connect(server.url) as stranger:
        await stranger.ask({"type": "SUBSCRIBE"})
        assert all(canary not in frame for frame in stranger.frames)
    assert all(canary not in frame for frame in publisher.frames)
    assert canary not in server.log.read_text()
    assert server.history.stat().st_mode & 0o077 == 0
    state = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
    assert canary in json.dumps(state)


async def test_two_servers_never_share_a_file(server):
    with pytest.raises(AssertionError) as caught:
        async with running(KUBEFERRY_HISTORY=str(server.history)):
            pass
    assert "is another running server's" in str(caught.value)
    assert "Traceback" not in str(caught.value)


async def test_tokens_that_nobody_set_are_the_same_after_a_restart():
    async with running(KUBEFERRY_PUBLISH_TOKEN="", KUBEFERRY_VIEW_TOKEN="") as server:
        (view,) = re.findall(r"view token: +(\S+)", server.log.read_text())
        file = server.directory / "history.db.tokens"
        assert file.stat().st_mode & 0o077 == 0
        await server.stop(signal.SIGKILL)
        await server.start()
        async with await Client.connect(server.url, view):
            pass
        assert view.encode() not in server.history.read_bytes()
