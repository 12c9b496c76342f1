# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Crowds of connections that say nothing, or never finish what they say."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, running

UNFINISHED = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websock"
SILENT = b""
NO_BODY = b"POST /logout HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.fixture(autouse=True)
def files():
    """As many open files as the machine lets this process have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.asynccontextmanager
async def crowd(server, says, address="127.0.0.1"):
    """A connection for each text, which is all that it ever says."""
    with contextlib.ExitStack() as stack:
        made = []
        for text in says:
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.bind((address, 0))
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", server.port))
            with contextlib.suppress(ConnectionError):
                one.send(text)
            made.append(one)
        yield made


def is_open(one: socket.socket) -> bool:
    try:
        while one.recv(65536):
            pass
        return False
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def still_open(made) -> int:
    return sum(map(is_open, made))


async def closed_by(made, seconds: float) -> bool:
    """Whether the server closes all of them in that time."""
    until = time.monotonic() + seconds
    while left := [one for one in made if is_open(one)]:
        if time.monotonic() > until:
            return False
        made = left
        await asyncio.sleep(0.1)
    return True


async def healthy(server) -> bool:
    timeout = aiohttp.ClientTimeout(total=5)
    url = f"{server.url}/healthz"
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        return answer.status == 200


def open_files(server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


async def test_three_thousand_half_open_connections_keep_nobody_out():
    p = sample.Publisher()
    async with (
        running(files=1024, KUBEFERRY_LIMIT_STRANGER_SECONDS="8") as server,
        await Client.connect(server.url, PUBLISH_TOKEN) as publisher,
        await Client.connect(server.url, VIEW_TOKEN) as viewer,
        crowd(server, [SILENT, UNFINISHED] * 1500) as made,
    ):
        for _attempt in range(5):
            assert await healthy(server)
        assert open_files(server) < 300
        # Those who are known are not touched, and a new one comes in.
        await viewer.ask({"type": "SUBSCRIBE"})
        await publisher.publish([p.started()])
        assert (await viewer.until("EVENTS"))["events"]
        async with await Client.connect(server.url, VIEW_TOKEN):
            pass
        assert await closed_by(made, 15)
        log = server.log.read_text()
        assert "Too many open files" not in log
        assert len(log) < 4000


@pytest.mark.parametrize("says", [SILENT, UNFINISHED, NO_BODY])
async def test_what_says_nothing_in_time_is_closed(says):
    async with (
        running(KUBEFERRY_LIMIT_STRANGER_SECONDS="0.5") as server,
        crowd(server, [says] * 3) as made,
    ):
        assert await closed_by(made, 5)


async def test_a_line_now_and_then_is_no_request():
    async with (
        running(KUBEFERRY_LIMIT_STRANGER_SECONDS="0.5") as server,
        crowd(server, [b"GET / HTTP/1.1\r\n"]) as (slow,),
    ):
        for _attempt in range(20):
            await asyncio.sleep(0.1)
            with contextlib.suppress(ConnectionError):
                slow.send(b"x: y\r\n")
        assert not is_open(slow)


async def test_a_connection_that_is_used_again_stays():
    async with running(KUBEFERRY_LIMIT_STRANGER_SECONDS="1") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _attempt in range(5):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.4)
        writer.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
async def test_idle_strangers_of_one_address_keep_nobody_out(server, address):
    """Also nobody of the same address, which may be a proxy's."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with (
        await Client.connect(server.url, VIEW_TOKEN) as known,
        crowd(server, [UPGRADE] * 700, "127.0.0.2") as made,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        for _attempt in range(3):
            async with session.ws_connect(f"{server.url}/ws") as ws:
                await ws.send_json({"type": "HELLO", "token": VIEW_TOKEN})
                assert (await ws.receive_json(timeout=5))["type"] == "WELCOME"
        assert (await known.ask({"type": "SUBSCRIBE"}))["type"] == "SNAPSHOT"
        assert still_open(made) <= 200


async def test_many_addresses_have_no_more_places_than_there_are():
    places = {"KUBEFERRY_LIMIT_STRANGERS": "40", "KUBEFERRY_LIMIT_STRANGERS_PER_ADDRESS": "15"}
    async with (
        running(**places) as server,
        crowd(server, [SILENT] * 5, "127.0.0.9") as few,
        crowd(server, [SILENT] * 20, "127.0.0.2") as one,
        crowd(server, [SILENT] * 20, "127.0.0.3") as two,
        crowd(server, [SILENT] * 20, "127.0.0.4") as three,
    ):
        await asyncio.sleep(0.3)
        assert still_open(few) == 5  # those with the fewest lose none
        assert still_open([*one, *two, *three]) == 35
        assert await healthy(server)


def certificate(directory) -> dict[str, str]:
    key, file = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", file,
         "-days", "1", "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return {"KUBEFERRY_TLS_CERT": str(file), "KUBEFERRY_TLS_KEY": str(key)}


async def test_a_handshake_of_tls_that_is_not_finished_counts(tmp_path):
    files = certificate(tmp_path)
    tls = ssl.create_default_context(cafile=files["KUBEFERRY_TLS_CERT"])
    tls.check_hostname = False
    limits = {"KUBEFERRY_LIMIT_STRANGERS": "40", "KUBEFERRY_LIMIT_STRANGER_SECONDS": "2"}
    async with (
        running(**files, **limits) as server,
        crowd(server, [SILENT, b"\x16\x03\x01"] * 100) as made,
        await Client.connect(server.url.replace("http", "https"), VIEW_TOKEN, ssl=tls) as viewer,
    ):
        assert open_files(server) < 100
        assert await closed_by(made, 6)
        assert (await viewer.ask({"type": "SUBSCRIBE"}))["type"] == "SNAPSHOT"
        assert "Traceback" not in server.log.read_text()


async def test_the_server_takes_as_many_files_as_it_may_have(server):
    assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == resource.getrlimit(resource.RLIMIT_NOFILE)
