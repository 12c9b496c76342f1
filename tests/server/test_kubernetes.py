# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""GET_EVENTS and WATCH_EVENTS against a real API server."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from clusterkit import NOBODY, READER, cluster_for_tests
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, running


@pytest.fixture(scope="module")
def cluster():
    with cluster_for_tests() as made:
        yield made


@pytest.fixture
async def server(cluster):
    async with running(KUBECONFIG=cluster.kubeconfig, KUBEFERRY_NAMESPACE=cluster.namespace) as process:
        yield process


def asking(cluster, account, kind="GET_EVENTS", **more):
    return {"type": kind, "token": {"access_token": cluster.token(account)}, **more}


async def test_a_user_who_may_sees_the_events(cluster, server):
    cluster.event("Scheduled", "canary-event")
    async with await Client.connect(server.url) as client:  # no HELLO: the token is authentication enough
        answer = await client.ask(asking(cluster, READER))
        assert (answer["type"], answer["namespace"]) == ("GET_EVENTS", cluster.namespace)
        assert answer["data"]["kind"] == "EventList"
        assert "canary-event" in [item["message"] for item in answer["data"]["items"]]


async def test_a_user_who_may_not_is_told_so(cluster, server):
    async with await Client.connect(server.url) as client:
        answer = await client.ask(asking(cluster, NOBODY))
        assert (answer["type"], answer["code"], answer["request"]) == ("ERROR", "k8s_forbidden", "GET_EVENTS")
        assert cluster.namespace in answer["message"]
        # Nor elsewhere: the server has no rights of its own to lend, although its kubeconfig holds an administrator's.
        answer = await client.ask(asking(cluster, READER, namespace="kube-system"))
        assert answer["code"] == "k8s_forbidden"


@pytest.mark.parametrize("token", ["nonsense", "x.y.z", "a\nX-Injected: 1", "ä", "Bearer x"])
async def test_a_token_that_is_none_is_refused(server, token):
    async with await Client.connect(server.url) as client:
        answer = await client.ask({"type": "GET_EVENTS", "token": {"access_token": token}})
        assert answer["code"] == "k8s_unauthorized"
        assert token not in json.dumps(answer)


async def test_without_a_token_it_is_asked_for(server):
    async with await Client.connect(server.url, VIEW_TOKEN) as client:
        assert (await client.ask({"type": "GET_EVENTS"}))["code"] == "k8s_token_missing"


async def test_a_watch_lists_and_then_tells_changes(cluster, server):
    cluster.event("Before", "before the watch")
    async with await Client.connect(server.url) as client:
        first = await client.ask(asking(cluster, READER, "WATCH_EVENTS", namespace=cluster.namespace))
        assert first["watching"] is True
        assert "Before" in [item["reason"] for item in first["data"]["items"]]
        made = await asyncio.to_thread(cluster.event, "During", "canary-watched", "Warning")
        (event,) = (await client.until("EVENTS"))["events"]
        assert event["type"] == "kubeferry.v1.k8s.event"
        assert event["data"]["change"] == "ADDED"
        assert event["data"]["object"]["message"] == "canary-watched"
        cluster.core.delete_namespaced_event(made.metadata.name, cluster.namespace)
        (event,) = (await client.until("EVENTS"))["events"]
        assert event["data"]["change"] == "DELETED"
        await client.send({"type": "UNWATCH_EVENTS"})
        await asyncio.sleep(0.2)
        await asyncio.to_thread(cluster.event, "After", "not seen")
        with pytest.raises(TimeoutError):
            await client.receive(1)


async def test_a_watch_by_a_user_who_may_not_is_told_so(cluster, server):
    async with await Client.connect(server.url) as client:
        answer = await client.ask(asking(cluster, NOBODY, "WATCH_EVENTS"))
        assert (answer["code"], answer["request"]) == ("k8s_forbidden", "WATCH_EVENTS")


async def test_closing_the_socket_ends_the_watch(cluster, server):
    client = await Client.connect(server.url)
    await client.ask(asking(cluster, READER, "WATCH_EVENTS"))
    await client.close()
    await asyncio.sleep(0.3)
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as answer:
        assert "kubeferry_connections 0\n" in await answer.text()


async def test_the_token_is_nowhere_afterwards(cluster, server):
    token = cluster.token(READER)
    async with await Client.connect(server.url, PUBLISH_TOKEN) as client:
        for kind in ("GET_EVENTS", "WATCH_EVENTS"):
            await client.ask({"type": kind, "token": {"access_token": token}})
        assert all(token not in frame for frame in client.frames)
    await server.stop()
    for path in server.directory.iterdir():
        assert token.encode() not in path.read_bytes()


async def test_an_api_server_that_is_away_is_an_answer(tmp_path):
    async with (
        running(KUBEFERRY_KUBE_API="https://127.0.0.1:1") as server,
        await Client.connect(server.url) as client,
    ):
        answer = await client.ask({"type": "GET_EVENTS", "token": {"access_token": "x"}})
        assert answer["code"] == "k8s_unreachable"
        answer = await client.ask({"type": "WATCH_EVENTS", "token": {"access_token": "x"}})
        assert answer["code"] == "k8s_unreachable"
