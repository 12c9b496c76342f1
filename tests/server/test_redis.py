# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Two servers with one history in a real redis-server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import redis
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, after_a_restart, running, snapshot_after_a_restart


class RedisServer:
    """redis-server on a unix socket, every write on disk before it is answered; or only what SAVE is told to."""

    def __init__(self, directory, *, durable=True):
        self.directory = directory
        self.keeping = (
            ["--appendonly", "yes", "--appendfsync", "always"]
            if durable
            else ["--appendonly", "no", "--save", ""]
        )
        self.socket = directory / "redis.sock"
        self.process = None

    def start(self):
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("there is no redis-server: apt-get install redis-server")
        options = [
            "--port",
            "0",
            "--unixsocket",
            self.socket,
            "--dir",
            self.directory,
            *self.keeping,
        ]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        for _attempt in range(100):
            with contextlib.suppress(redis.exceptions.ConnectionError):
                return self.client().ping()
            self.process.poll()
        raise AssertionError("redis-server did not start")

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def client(self):
        return redis.Redis(
            unix_socket_path=str(self.socket),
            retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 20),
        )

    @property
    def url(self):
        return f"unix://{self.socket}"


@pytest.fixture
def database(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def forgetful(tmp_path):
    server = RedisServer(tmp_path, durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def pair(database):
    async with running(KUBEFERRY_HISTORY=database.url) as one, running(KUBEFERRY_HISTORY=database.url) as two:
        yield one, two


async def test_what_one_takes_in_the_other_shows(pair):
    one, two = pair
    async with (
        await Client.connect(one.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(two.url, VIEW_TOKEN) as viewer,
    ):
        p = sample.Publisher()
        await viewer.ask({"type": "SUBSCRIBE", "after_seq": 0, "epoch": "x"})
        assert (await publisher.publish([p.started(), *p.task("t", "Task", {"a": "ok"})]))["pubseq"] == 4
        events = await viewer.events(4)
        assert [event["pubseq"] for event in events] == [1, 2, 3, 4]
        assert [event["seq"] for event in events] == [1, 2, 3, 4]
        snapshot = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
        assert snapshot["state"]["tasks"][0]["cells"] == "o"


async def test_a_publisher_may_go_on_at_the_other(pair):
    one, two = pair
    p = sample.Publisher()
    events = [p.started(), *p.task("t", "Task", {"a": "ok", "b": "failed"}), p.finished("failed")]
    async with await Client.connect(one.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish(events[:4])
    await one.stop()
    async with (
        await Client.connect(two.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(two.url, VIEW_TOKEN) as viewer,
    ):
        # It can't know what was acknowledged there, so it sends some again.
        assert (await publisher.publish(events[2:]))["pubseq"] == 6
        await asyncio.sleep(0.2)
        await viewer.send({"type": "SUBSCRIBE", "run": p.run, "after_seq": 0})
        assert [event["pubseq"] for event in await viewer.events(6)] == [1, 2, 3, 4, 5, 6]
        history = await viewer.ask({"type": "GET_HISTORY", "run": p.run, "task_id": "t", "host": "b"})
        assert [event["type"] for event in history["events"]] == ["kubeferry.v1.host.failed"]


async def test_both_at_once_store_an_event_once(pair):
    p = sample.Publisher()
    events = [p.started(), *(p.result("t", "Task", f"h{n}", "ok") for n in range(400)), p.finished()]
    clients = [await Client.connect(server.url, PUBLISH_TOKEN) for server in pair for _attempt in range(2)]
    acknowledged = await asyncio.gather(*(client.publish(events) for client in clients))
    assert {answer["pubseq"] for answer in acknowledged} == {402}
    async with await Client.connect(pair[0].url, VIEW_TOKEN) as viewer:
        await asyncio.sleep(0.3)
        state = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]
        assert (state["summary"]["counts"]["ok"], state["summary"]["events"]) == (400, 402)
    for client in clients:
        await client.close()


async def test_progress_keeps_the_newest(pair):
    one, two = pair
    p = sample.Publisher()
    async with (
        await Client.connect(one.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(two.url, VIEW_TOKEN) as viewer,
    ):
        await publisher.publish(
            [
                p.started(),
                *(p.event("progress", {"label": "copy", "phase": "move", "bytes": n}) for n in range(50)),
            ]
        )
        await asyncio.sleep(0.3)
        await viewer.send({"type": "SUBSCRIBE", "run": p.run, "after_seq": 0})
        assert [event["data"].get("bytes") for event in await viewer.events(2)] == [None, 49]


async def test_a_restart_of_redis_is_waited_for(database, pair):
    one, two = pair
    p = sample.Publisher()
    async with (
        await Client.connect(one.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(two.url, VIEW_TOKEN) as viewer,
    ):
        await publisher.publish([p.started()])
        before = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
        database.stop()
        await publisher.send({"type": "PUBLISH", "events": [p.finished()]})
        refused = await publisher.receive(20)
        assert (refused["type"], refused["code"]) == ("ERROR", "server_error")
        p.pubseq -= 1
        database.start()
        assert (await publisher.publish([p.finished()]))["pubseq"] == 2
        await asyncio.sleep(2.5)
        # Nothing was lost, so it is the same history.
        assert [event["pubseq"] for event in await viewer.events(1)] == [2]
        after = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
        assert (after["state"]["summary"]["status"], after["epoch"]) == ("ok", before["epoch"])


async def test_health_says_that_redis_is_away(database, pair):
    one, _two = pair
    async with aiohttp.ClientSession() as session:
        for status, spoil in ((200, database.stop), (503, None)):
            async with session.get(f"{one.url}/healthz") as answer:
                assert answer.status == status
            if spoil:
                spoil()


README = Path(__file__).resolve().parents[2] / "roles" / "event_server" / "README.md"
REFUSED = {
    "slash in the password": ("redis://:12/CANARY@127.0.0.1:1/0", "no usable Redis URL"),
    "slash after letters": ("redis://:CANARY/34@127.0.0.1:1/0", "no usable Redis URL"),
    "hash in the password": ("redis://:12#CANARY@127.0.0.1:1/0", "no usable Redis URL"),
    "port": ("redis://:CANARY@127.0.0.1:port/0", "no usable Redis URL"),
    "value of an option": ("redis://:CANARY@127.0.0.1:1/0?socket_timeout=abc", "no usable Redis URL"),
    "option": ("redis://:CANARY@127.0.0.1:1/0?sockets=2", "no usable Redis URL"),
    "kind": ("REDIS+sentinel://:CANARY@127.0.0.1:1/0", "redis://, rediss:// or unix://"),
    "nobody there": ("Redis://:CANARY@127.0.0.1:1/0", "See that it runs where KUBEFERRY_HISTORY says"),
}


async def refused(history):
    """What the server says that doesn't start with that history: one line."""
    with pytest.raises(AssertionError) as caught:
        async with running(KUBEFERRY_HISTORY=history):
            pass
    (line,) = str(caught.value).removeprefix("the server ended: ").splitlines()
    assert line.startswith("kubeferry_events: ")
    return line


@pytest.mark.parametrize(("history", "why"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_url_that_is_none_is_refused_without_being_repeated(history, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = await refused(history)
    assert why in said
    assert "CANARY" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
async def test_a_redis_that_drops_keys_to_make_room_is_refused(database, policy):
    database.client().config_set("maxmemory-policy", policy)
    said = await refused(database.url)
    assert f"maxmemory-policy {policy}" in said
    assert "set its maxmemory-policy to noeviction" in said


async def test_health_says_that_redis_has_begun_to_drop_keys(database):
    async with running(KUBEFERRY_HISTORY=database.url) as server, aiohttp.ClientSession() as session:
        # The history's keys have no time to live.
        for policy, status in (("volatile-lru", 200), ("allkeys-lfu", 503), ("noeviction", 200)):
            database.client().config_set("maxmemory-policy", policy)
            async with session.get(f"{server.url}/healthz") as answer:
                assert answer.status == status
        assert "maxmemory-policy allkeys-lfu" in server.log.read_text()


def url_of_user(database, rights):
    """The URL for a user of Redis with these rights and no others."""
    database.client().execute_command("ACL", "SETUSER", "kubeferry", "on", ">pw", *rights)
    return database.url.replace("unix://", "unix://kubeferry:pw@")


def documented_rights():
    return re.search(r"ACL SETUSER kubeferry on >PASSWORD (.*)", README.read_text())[1].split()


async def test_the_rights_that_are_documented_are_enough(database):
    url = url_of_user(database, documented_rights())
    async with running(KUBEFERRY_HISTORY=url, KUBEFERRY_RETENTION_BYTES="1") as server:
        runs = [await publish(server, [10]) for _each in range(2)]
        assert (await runs_after_a_restart(server))[1] == {runs[1]}
        said = server.log.read_text()
        assert "refused" not in said
        assert "maxmemory-policy" not in said


async def test_a_redis_that_keeps_its_policy_back_is_told_of_once(database):
    url = url_of_user(database, [*documented_rights(), "-info"])
    async with running(KUBEFERRY_HISTORY=url) as server, aiohttp.ClientSession() as session:
        for _attempt in range(2):
            async with session.get(f"{server.url}/healthz") as answer:
                assert answer.status == 200
        assert server.log.read_text().count("doesn't tell its maxmemory-policy") == 1


@pytest.mark.parametrize(("right", "named"), [("@transaction", "multi"), ("evalsha", "evalsha")])
async def test_a_user_who_may_not_is_told_at_the_start(database, right, named):
    said = await refused(url_of_user(database, [*documented_rights(), f"-{right}"]))
    assert named in said
    assert "The README of the role event_server has the rights" in said


async def test_a_wrong_password_is_called_so(database):
    said = await refused(database.url.replace("unix://", "unix://kubeferry:CANARY@"))
    assert "the user or the password of KUBEFERRY_HISTORY" in said
    assert "CANARY" not in said


async def test_a_full_redis_is_called_so(database):
    async with running(KUBEFERRY_HISTORY=database.url) as server:
        database.client().config_set("maxmemory", "1")
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            await publisher.send({"type": "PUBLISH", "events": [sample.Publisher().started()]})
            assert (await publisher.receive(20))["code"] == "server_error"
        assert "Give it more memory (maxmemory)" in server.log.read_text()


async def test_health_says_so_where_redis_gives_no_answer(database):
    timeout = aiohttp.ClientTimeout(total=8)
    async with (
        running(KUBEFERRY_HISTORY=database.url) as server,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        os.kill(database.process.pid, signal.SIGSTOP)
        try:
            for _attempt in range(2):
                async with session.get(f"{server.url}/healthz") as answer:
                    assert answer.status == 503
        finally:
            os.kill(database.process.pid, signal.SIGCONT)
        async with session.get(f"{server.url}/healthz") as answer:
            assert answer.status == 200
        assert "gave no answer" in server.log.read_text()


async def test_the_server_ends_where_redis_gives_no_answer(database):
    async with running(KUBEFERRY_HISTORY=database.url) as server:
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            await publisher.publish([sample.Publisher().started()])
        os.kill(database.process.pid, signal.SIGSTOP)
        try:
            assert await server.stop() == 0
        finally:
            os.kill(database.process.pid, signal.SIGCONT)
        assert "gave no answer" in server.log.read_text()


async def test_another_history_behind_their_backs_is_noticed(database, pair):
    one, two = pair
    p = sample.Publisher()
    async with (
        await Client.connect(one.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(two.url, VIEW_TOKEN) as viewer,
    ):
        await publisher.publish([p.started()])
        await asyncio.sleep(0.3)
        old = await viewer.ask({"type": "SUBSCRIBE", "run": p.run})
        database.client().flushall()
        new = await viewer.until("SNAPSHOT", 15)
        assert (new["resync"], new["epoch"] != old["epoch"]) == ("epoch_changed", True)
        assert new["state"]["summary"]["events"] == 0
        await asyncio.sleep(0.5)
        assert (await publisher.publish([p.started()]))["pubseq"] == 0  # the publisher's number 2: 1 is lost


async def test_a_row_that_is_behind_is_made_anew_at_the_start(database, pair):
    one, _two = pair
    old, young = sample.Publisher(), sample.Publisher()
    async with await Client.connect(one.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([old.started(), old.finished()])
        await publisher.publish([young.started()])
    for server in pair:
        await server.stop()
    row = {"run": old.run, "status": "running", "events": 1, "seq": 1}
    database.client().hset("kubeferry:runs", old.run, json.dumps(row))
    await one.start()
    async with await Client.connect(one.url, VIEW_TOKEN) as viewer:
        rows = (await viewer.ask({"type": "SUBSCRIBE", "summaries": True}))["state"]["runs"]
    assert {row["run"]: row["status"] for row in rows} == {old.run: "ok", young.run: "running"}


async def test_a_run_whose_publisher_s_clock_is_years_behind_is_kept(database):
    async with running(KUBEFERRY_HISTORY=database.url) as server:
        p = sample.Publisher(start=datetime(2001, 1, 1, tzinfo=UTC))
        async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
            await publisher.publish([p.started(), p.finished()])
        assert (await after_a_restart(server, p.run))["started"].startswith("2001")


async def runs_after_a_restart(server):
    snapshot = await snapshot_after_a_restart(server)
    return snapshot, {row["run"] for row in snapshot["state"]["runs"]}


async def publish(server, bytes_of_results=()):
    """A finished run, with a result of so many bytes for each host."""
    p = sample.Publisher()
    results = [
        p.result("t", "Task", f"h{n}", "ok", result={"msg": "x" * size})
        for n, size in enumerate(bytes_of_results)
    ]
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        for event in [p.started(), *results, p.finished()]:
            await publisher.publish([event])
    return p.run


BOUND = 1_000_000


async def test_what_others_have_in_redis_is_not_the_history_s(database):
    database.client().set("another application", b"x" * 3 * BOUND)
    async with running(KUBEFERRY_HISTORY=database.url, KUBEFERRY_RETENTION_BYTES=str(BOUND)) as server:
        kept = {await publish(server), await publish(server)}
        assert (await runs_after_a_restart(server))[1] == kept
        assert "dropped" not in server.log.read_text()


async def test_a_large_run_leaves_room_for_the_next_ones(database):
    # Small rows first: the average tells little of those behind them.
    sizes = [10] * 500 + [20_000] * 100
    async with running(KUBEFERRY_HISTORY=database.url, KUBEFERRY_RETENTION_BYTES=str(BOUND)) as server:
        large = await publish(server, sizes)
        # The newest run is kept whatever its size, and the common stream isn't.
        before, runs = await runs_after_a_restart(server)
        assert runs == {large}
        assert database.client().memory_usage("kubeferry:tail", samples=0) < BOUND / 10
        async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
            ask = {"type": "SUBSCRIBE", "epoch": before["epoch"]}
            # Of the stream's beginning nothing is there any more, and its end goes on.
            assert (await viewer.ask({**ask, "after_seq": 5}))["resync"] == "retention"
            await viewer.send({**ask, "after_seq": before["seq"] - 1})
            assert len(await viewer.events(1)) == 1
        small = {await publish(server), await publish(server)}
        assert (await runs_after_a_restart(server))[1] == small
        (line,) = [line for line in server.log.read_text().splitlines() if "dropped" in line]
        assert large in line
        assert "KUBEFERRY_RETENTION_DAYS, _RUNS, _BYTES" in line
        assert not list(database.client().scan_iter(f"kubeferry:run:{large}*"))


async def half_kept(forgetful, publisher, viewer, events):
    """Publish twenty of a run's events, of which Redis keeps ten; a viewer's snapshot of the run, who has seen all."""
    await publisher.publish(events[:10])
    forgetful.client().save()
    await publisher.publish(events[10:20])
    await asyncio.sleep(0.3)
    return await viewer.ask({"type": "SUBSCRIBE", "run": events[0]["runid"]})


async def test_an_older_state_of_the_same_history_is_another_one(forgetful):
    p = sample.Publisher()
    events = [p.started(), *(p.result("t", "Task", f"h{n}", "ok") for n in range(29))]
    async with (
        running(KUBEFERRY_HISTORY=forgetful.url) as one,
        running(KUBEFERRY_HISTORY=forgetful.url) as two,
        await Client.connect(one.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(two.url, VIEW_TOKEN) as viewer,
        await Client.connect(two.url, VIEW_TOKEN) as other,
    ):
        old = await half_kept(forgetful, publisher, viewer, events)
        assert (old["seq"], old["state"]["summary"]["events"]) == (20, 20)
        await asyncio.sleep(1.5)  # the rows of the list are kept
        forgetful.stop()
        forgetful.start()
        new = await viewer.until("SNAPSHOT", 20)
        assert (new["resync"], new["seq"], new["state"]["summary"]["events"]) == ("epoch_changed", 10, 10)
        assert new["epoch"] != old["epoch"]
        await asyncio.sleep(1)  # the other replica has noticed too
        # The publisher is told what was lost, and viewers get what it sends again.
        assert (await publisher.publish(events[20:]))["pubseq"] == 10
        assert (await publisher.publish(events[10:]))["pubseq"] == 30
        assert sorted(event["pubseq"] for event in await viewer.events(20)) == list(range(11, 31))
        resumed = {"type": "SUBSCRIBE", "run": p.run, "epoch": old["epoch"], "after_seq": old["seq"]}
        answer = await other.ask(resumed)
        assert (answer["resync"], answer["state"]["summary"]["events"]) == ("epoch_changed", 30)


async def test_an_older_state_is_noticed_also_where_it_has_grown_since(forgetful):
    p = sample.Publisher()
    events = [p.started(), *(p.result("t", "Task", f"h{n}", "ok") for n in range(29))]
    async with (
        running(KUBEFERRY_HISTORY=forgetful.url) as one,
        await Client.connect(one.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(one.url, VIEW_TOKEN) as viewer,
    ):
        old = await half_kept(forgetful, publisher, viewer, events)
        os.kill(one.pid, signal.SIGSTOP)
        forgetful.stop()
        forgetful.start()
        # The same events come again in another order, so that the newest one known has the number of before.
        async with running(KUBEFERRY_HISTORY=forgetful.url) as two:
            async with await Client.connect(two.url, PUBLISH_TOKEN) as again:
                assert (await again.publish([*reversed(events[10:19]), *events[19:30]]))["pubseq"] == 30
            os.kill(one.pid, signal.SIGCONT)
            new = await viewer.until("SNAPSHOT", 20)
            assert new["resync"] == "epoch_changed"
            assert new["state"]["summary"]["events"] == 30
            assert new["epoch"] != old["epoch"]
