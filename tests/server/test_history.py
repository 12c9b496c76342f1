# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A history that breaks, is taken away or has no room left, while the server runs."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3

import aiohttp
import pytest
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, running


async def health(server, path="/healthz"):
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}{path}") as answer:
        return answer.status, (await answer.json())["status"]


def overwrite(server):
    for path in server.directory.glob("history.db*"):
        if path.suffix != ".db-shm":
            path.write_bytes(b"\xff" * path.stat().st_size)


def remove(server):
    server.history.unlink()


def replace(server):
    for path in server.directory.glob("history.db*"):
        path.unlink()
    server.history.write_bytes(b"")


@pytest.mark.parametrize("spoil", [overwrite, remove, replace])
async def test_health_says_that_the_history_cannot_be_read(server, publisher, spoil):
    assert await health(server) == (200, "ok")
    await publisher.publish(sample.copy_run())
    assert await health(server) == (200, "ok")
    spoil(server)
    for path in ("/healthz", "/healthz/"):
        assert await health(server, path) == (503, "failing")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("spoil", [remove, replace])
async def test_what_a_removed_history_would_take_is_not_acknowledged(server, spoil):
    p = sample.Publisher()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([p.started()])
        spoil(server)
        answer = await publisher.ask({"type": "PUBLISH", "events": [p.finished()]})
        assert (answer["type"], answer["code"]) == ("ERROR", "server_error")
    assert "was removed or replaced" in server.log.read_text()


async def test_a_history_without_room_is_named_as_such(server):
    p = sample.Publisher()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([p.started()])
        # As large as it is now, and no larger: to the server it is a disk that takes no more.
        size = max(path.stat().st_size for path in server.directory.glob("history.db*"))
        limit = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, limit[1]))
        events = [p.result("t", "Task", "h", "ok", msg="x" * 20_000) for _attempt in range(40)]
        answer = await publisher.ask({"type": "PUBLISH", "events": events})
        assert (answer["type"], answer["code"]) == ("ERROR", "server_error")
        log = server.log.read_text()
        assert "disk" in log
        assert "rollback" not in log
        # Once there is room again, it goes on as if nothing had been.
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limit)
        assert (await publisher.publish(events))["pubseq"] == 41
    async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
        summary = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]["summary"]
        assert summary["counts"]["ok"] == 40
    assert await health(server) == (200, "ok")


async def test_a_row_that_is_behind_is_made_anew_at_the_start():
    old, young = sample.Publisher(), sample.Publisher()
    async with running() as server:
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            await publisher.publish([old.started(), old.finished()])
            await publisher.publish([young.started()])
        await server.stop()
        # As a crash can leave them: the younger run has a newer row.
        row = {"run": old.run, "status": "running", "events": 1, "seq": 1}
        with contextlib.closing(sqlite3.connect(server.history)) as database:
            database.execute("REPLACE INTO runs VALUES (?, '', 0, ?)", [old.run, json.dumps(row)])
            database.commit()
        await server.start()
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            rows = (await viewer.ask({"type": "SUBSCRIBE", "summaries": True}))["state"]["runs"]
        assert {row["run"]: (row["status"], row["events"]) for row in rows} == {
            old.run: ("ok", 2),
            young.run: ("running", 1),
        }


@contextlib.asynccontextmanager
async def spoiled(*statements):
    """A server whose history has a run that is whole and one of three events, and the damage that is done to it."""
    good, bad = sample.Publisher(), sample.Publisher()
    async with running() as server:
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            await publisher.publish([good.started(), good.finished()])
            await publisher.publish([bad.started(), bad.result("t", "Task", "h", "ok"), bad.finished()])
        await server.stop()
        with contextlib.closing(sqlite3.connect(server.history)) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()
        yield server, good, bad


@pytest.mark.parametrize("body", ["'{garbage'", "x'ff00ff'", "x'7b7d'", "x'5b315d'", "body || 'x'"])
async def test_a_damaged_run_is_told_as_damaged_and_the_others_go_on(body):
    async with spoiled(f"UPDATE events SET body = {body} WHERE seq = 4") as (server, good, bad):
        await server.start()
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            rows = (await viewer.ask({"type": "SUBSCRIBE", "summaries": True}))["state"]["runs"]
            assert {row["run"] for row in rows} == {good.run, bad.run}
            for request in ("GET_HISTORY", "SUBSCRIBE"):
                answer = await viewer.ask({"type": request, "run": bad.run})
                assert (answer["type"], answer["code"], answer["run"]) == ("ERROR", "damaged_run", bad.run)
                answer = await viewer.ask({"type": request, "run": good.run})
                assert answer["type"] in ("HISTORY", "SNAPSHOT")
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            answer = await publisher.ask({"type": "PUBLISH", "events": [bad.result("t2", "Task", "h", "ok")]})
            assert (answer["type"], answer["code"]) == ("ERROR", "damaged_run")
        assert await health(server) == (200, "ok")
        log = server.log.read_text()
        assert f"The history {server.history} is damaged: event 4 of run {bad.run} can't be read." in log
        assert "Traceback" not in log


async def test_an_event_that_has_lost_its_fields_is_damaged():
    empty = "json_set(CAST(body AS TEXT), '$.data', json('{}'))"
    damage = f"UPDATE events SET body = CAST({empty} AS BLOB) WHERE seq = 4"
    async with spoiled(damage) as (server, _good, bad):
        await server.start()
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            assert (await viewer.ask({"type": "SUBSCRIBE", "run": bad.run}))["code"] == "damaged_run"


@pytest.mark.parametrize("summary", ["'nope'", "'[]'", "json_object('run', run, 'seq', 5)", "x'ff'"])
async def test_a_damaged_row_is_made_anew(summary):
    async with spoiled(f"UPDATE runs SET summary = {summary}") as (server, good, bad):
        await server.start()
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            rows = (await viewer.ask({"type": "SUBSCRIBE", "summaries": True}))["state"]["runs"]
        assert {row["run"]: row["status"] for row in rows} == {good.run: "ok", bad.run: "ok"}
        assert f"damaged row of run {bad.run}" in server.log.read_text()


async def test_a_damaged_run_that_has_no_row_is_left_out():
    damage = ("UPDATE events SET body = x'5b315d' WHERE seq = 4", "DELETE FROM runs")
    async with spoiled(*damage) as (server, good, bad):
        await server.start()
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            rows = (await viewer.ask({"type": "SUBSCRIBE", "summaries": True}))["state"]["runs"]
        assert [row["run"] for row in rows] == [good.run]
        assert f"event 4 of run {bad.run} can't be read" in server.log.read_text()


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM meta", "UPDATE meta SET value = x'00'", "INSERT INTO meta VALUES ('pruned_seq', 'abc')"],
)
async def test_a_history_without_its_name_is_refused_in_a_sentence(damage):
    async with spoiled(damage) as (server, _good, _bad):
        with pytest.raises(
            AssertionError, match="is damaged in its table meta: put a copy of it back"
        ) as refused:
            await server.start()
        assert "Traceback" not in str(refused.value)
