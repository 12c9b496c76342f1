# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the server answers to clients that nobody here wrote: wrong, strange, hostile."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import jsonschema
import pytest
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, running
from kubeferry_events import wire

GUIDE = Path(__file__).resolve().parents[2] / "roles" / "event_server" / "README.md"
ANSWERS = jsonschema.Draft7Validator(
    {**json.loads(wire.SCHEMA_FILE.read_text()), "oneOf": [{"$ref": "#/definitions/serverMessage"}]}
)


@pytest.mark.parametrize("path", ["/ws", "/"])
async def test_the_socket_is_at_both_paths(server, path):
    async with aiohttp.ClientSession() as session, session.ws_connect(server.url + path) as ws:
        await ws.send_str("hello")
        answer = await ws.receive_json()
        assert (answer["type"], answer["message"]) == ("ERROR", "Wrong format")


async def test_what_is_no_message_is_answered_and_the_next_one_heard(server):
    async with await Client.connect(server.url) as client:
        for text in ("hello", "[]", '"x"', '{"a":1}', '{"type":"NOTHING"}', "{" * 9000):
            answer = await client.ask(text)
            assert (answer["type"], answer["message"], answer["code"]) == (
                "ERROR",
                "Wrong format",
                "wrong_format",
            )
        await client.ws.send_bytes(b'{"type":"HELLO"}')
        assert (await client.receive())["code"] == "wrong_format"
        await client.send({"type": "HELLO", "token": VIEW_TOKEN})
        assert (await client.receive())["type"] == "WELCOME"


async def test_nothing_without_a_token(server):
    run = sample.Publisher().run
    async with await Client.connect(server.url) as client:
        for message in (
            {"type": "SUBSCRIBE"},
            {"type": "PUBLISH", "events": []},
            {"type": "GET_HISTORY", "run": run},
        ):
            assert (await client.ask(message))["code"] == "unauthenticated"
        for token in ("wrong", "", VIEW_TOKEN + "x"):
            assert (await client.ask({"type": "HELLO", "token": token}))["code"] == "unauthenticated"
        assert (await client.ask({"type": "HELLO"}))["code"] == "unauthenticated"


async def test_each_token_opens_its_own_door(publisher, viewer):
    assert (await publisher.ask({"type": "SUBSCRIBE"}))["code"] == "forbidden"
    assert (await viewer.ask({"type": "PUBLISH", "events": []}))["code"] == "forbidden"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
        ("http://localhost.evil.example", 403),
        ("same", 101),
        ("https://friend.example", 101),
    ],
)
async def test_pages_of_other_origins_are_refused(origin, status):
    async with (
        running(KUBEFERRY_ALLOWED_ORIGINS="https://friend.example") as server,
        aiohttp.ClientSession() as session,
    ):
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        headers = {**upgrade, "Origin": server.url if origin == "same" else origin}
        async with session.get(f"{server.url}/ws", headers=headers) as answer:
            assert answer.status == status


async def test_a_name_that_was_rebound_to_loopback_is_refused(server):
    async with aiohttp.ClientSession() as session:
        for host, status in (("evil.example", 421), (f"localhost:{server.port}", 200), ("[::1]:9000", 200)):
            async with session.get(server.url, headers={"Host": host}) as answer:
                assert answer.status == status


async def test_every_answer_has_the_security_headers(server):
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/runs/x", "/js/main.js", "/healthz", "/metrics", "/login"):
            async with session.get(server.url + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_every_get_serves_the_page(server):
    async with aiohttp.ClientSession() as session:
        for path in (
            "/",
            "/runs/some-run",
            "/what/ever",
            "/../../etc/passwd",
            "/js/../../__main__.py",
            "/%2e%2e/__main__.py",
        ):
            async with session.get(server.url + path) as answer:
                assert answer.status == 200
                assert "<title>kubeferry</title>" in await answer.text()
        async with session.post(server.url) as answer:
            assert answer.status == 405


async def test_health_and_metrics(server, publisher):
    await publisher.publish(sample.copy_run())
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/healthz") as answer:
            assert (await answer.json())["status"] == "ok"
        async with session.get(f"{server.url}/metrics") as answer:
            text = await answer.text()
    assert "\nkubeferry_events_stored_total 0\n" not in text
    assert "kubeferry_connections 1\n" in text
    told = {tuple(words) for words in re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"^\| `(kubeferry_\w+)` \| (.+) \|$", GUIDE.read_text(), re.MULTILINE)) == told


async def test_too_large_a_message_closes_the_connection(server, viewer):
    async with await Client.connect(server.url) as stranger:
        assert (await stranger.ask('{"type":"' + "x" * 40_000))["code"] == "too_large"
        await stranger.send("x" * 2_000_000)
        with pytest.raises(ConnectionResetError) as closed:
            await stranger.receive()
        assert closed.value.args == (aiohttp.WSCloseCode.MESSAGE_TOO_BIG,)
    # Others don't notice.
    assert (await viewer.ask({"type": "SUBSCRIBE"}))["type"] == "SNAPSHOT"


async def test_too_large_an_event_becomes_a_gap(publisher, viewer):
    p = sample.Publisher()
    events = [
        p.started(),
        p.result("t", "Task", "h", "ok", msg="x" * 60_000, stdout="x" * 60_000),
        p.finished(),
    ]
    await publisher.send({"type": "PUBLISH", "events": events})
    assert (await publisher.until("ACK"))["pubseq"] == 3
    refused = await publisher.until("ERROR")
    assert (refused["code"], refused["ids"]) == ("invalid_event", [events[1]["id"]])
    state = (await viewer.ask({"type": "SUBSCRIBE", "run": p.run}))["state"]
    assert [gap["reason"] for gap in state["gaps"]] == ["invalid_event"]


async def test_too_many_questions_are_answered_with_patience(viewer):
    run = sample.Publisher().run
    for _attempt in range(60):
        await viewer.send({"type": "GET_HISTORY", "run": run})
    codes = [(await viewer.receive())["code"] for _attempt in range(60)]
    assert codes[:30] == ["unknown_run"] * 30
    assert "rate_limited" in codes
    await asyncio.sleep(0.5)
    assert (await viewer.ask({"type": "SUBSCRIBE"}))["type"] == "SNAPSHOT"


async def test_connections_are_limited():
    async with running(KUBEFERRY_LIMIT_CONNECTIONS="3") as server:
        clients = [await Client.connect(server.url, VIEW_TOKEN) for _attempt in range(3)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await Client.connect(server.url)
        assert refused.value.status == 503
        await clients[0].close()
        await asyncio.sleep(0.2)
        async with await Client.connect(server.url, VIEW_TOKEN):
            pass
        for client in clients:
            await client.close()


async def test_a_broken_handshake_takes_nobodys_place():
    async with running(KUBEFERRY_LIMIT_STRANGERS="3") as server:
        async with aiohttp.ClientSession() as session:
            upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}  # and no Sec-WebSocket-Key
            for _attempt in range(5):
                async with session.get(f"{server.url}/ws", headers=upgrade) as answer:
                    assert answer.status == 400
        async with await Client.connect(server.url, VIEW_TOKEN):
            pass


async def test_strangers_who_say_nothing_are_sent_away():
    async with (
        running(KUBEFERRY_LIMIT_STRANGER_SECONDS="3") as server,
        await Client.connect(server.url) as stranger,
        await Client.connect(server.url, VIEW_TOKEN) as known,
    ):
        with pytest.raises(ConnectionResetError) as closed:
            await stranger.receive(30)
        assert closed.value.args == (4001,)
        assert (await known.ask({"type": "SUBSCRIBE"}))["type"] == "SNAPSHOT"


async def test_every_answer_is_of_the_schema(server, publisher, viewer):
    events = sample.copy_run()
    run = events[0]["runid"]
    await publisher.publish(events)
    await publisher.ask({"type": "PUBLISH", "events": [{"type": "nothing"}]})
    for message in (
        {"type": "SUBSCRIBE", "run": run},
        {"type": "SUBSCRIBE", "after_seq": 0},
        {"type": "SUBSCRIBE", "summaries": True},
        {"type": "GET_HISTORY", "run": run, "task_id": "t3", "host": "localhost"},
        {"type": "GET_EVENTS"},
        {"type": "UNWATCH_EVENTS"},
        {"type": "SUBSCRIBE", "run": sample.Publisher().run},
        {"type": "PUBLISH"},
    ):
        await viewer.send(message)
    await asyncio.sleep(0.5)
    while True:
        try:
            await viewer.receive(0.3)
        except TimeoutError:
            break
    assert {json.loads(frame)["type"] for frame in viewer.frames} == {
        "WELCOME",
        "SNAPSHOT",
        "EVENTS",
        "HISTORY",
        "ERROR",
    }
    for frame in [*viewer.frames, *publisher.frames]:
        ANSWERS.validate(json.loads(frame))


async def test_no_token_is_in_a_log_or_a_file(server, publisher, viewer):
    canary = "canary-kubernetes-token"
    await viewer.ask({"type": "GET_EVENTS", "token": {"access_token": canary}})
    await viewer.ask({"type": "WATCH_EVENTS", "token": {"access_token": canary}, "namespace": "x"})
    await viewer.ask({"type": "HELLO", "token": canary})
    await viewer.ask({"type": "GET_EVENTS", "token": canary})
    await publisher.publish(sample.copy_run())
    await server.stop()
    for path in server.directory.iterdir():
        for secret in (canary, PUBLISH_TOKEN, VIEW_TOKEN):
            assert secret.encode() not in path.read_bytes(), path
    for frame in [*viewer.frames, *publisher.frames]:
        assert canary not in frame


async def test_the_command_refuses_an_open_door(tmp_path):
    server = None
    for environment in (
        {"KUBEFERRY_HOST": "0.0.0.0"},
        {"KUBEFERRY_HISTORY": "/proc/none/history.db"},
        {"KUBECONFIG": "/no/such"},
    ):
        with pytest.raises(AssertionError) as caught:
            async with running(**environment) as server:
                pass
        assert "kubeferry_events: " in str(caught.value)
        assert "Traceback" not in str(caught.value)
    assert server is None
