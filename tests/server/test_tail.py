# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The tail in a terminal, a pipe and a file, as a command of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys

import pytest
import sample
from aiohttp import web
from eventkit import FILES, PUBLISH_TOKEN, VIEW_TOKEN, Client, metric, running
from tlskit import make_keys
from webkit import serving

MODES = pytest.mark.parametrize("mode", [[], ["--json"]], ids=["text", "json"])


async def tail(*arguments: str, stdout: int = asyncio.subprocess.PIPE, **environment: str):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubeferry_events.tail", *arguments),
        env=os.environ | {"PYTHONPATH": str(FILES), "KUBEFERRY_VIEW_TOKEN": VIEW_TOKEN} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """What it wrote, once it has ended of its own accord."""
    try:
        async with asyncio.timeout(15):
            return await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
async def long_run(server, publisher):
    """The arguments for a run that is over, and fills every pipe."""
    events = sample.wide_run(300, 30)
    await publisher.publish(events)
    return ["--url", f"ws://127.0.0.1:{server.port}/ws", "--run", events[0]["runid"]]


async def test_a_server_that_takes_connections_and_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"ws://127.0.0.1:{frozen.getsockname()[1]}/ws"
        process = await tail("--url", url, "--patience", "1")
        _none, said = await ended(process)
    assert (process.returncode, said) == (2, b"tail: there was no answer within 1 s\n")


@MODES
async def test_whoever_reads_has_enough(long_run, mode):
    reading, writing = os.pipe()
    process = await tail(*long_run, *mode, stdout=writing)
    os.close(writing)
    assert await asyncio.to_thread(os.read, reading, 100)
    os.close(reading)
    _none, said = await ended(process)
    assert (process.returncode, said) == (141, b"")


@MODES
async def test_the_disk_is_full(long_run, mode):
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230 -- a device that takes nothing
        process = await tail(*long_run, *mode, stdout=full.fileno())
    _none, said = await ended(process)
    assert process.returncode == 2
    assert said.decode().splitlines() == [
        "tail: the output can't be written (No space left on device): make room for it, or write it elsewhere"
    ]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
async def test_an_output_that_is_closed_is_nowhere_to_write(long_run, closed):
    """Never the exit status of a run that failed."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "kubeferry_events.tail", *long_run),
        env=os.environ | {"PYTHONPATH": str(FILES), "KUBEFERRY_VIEW_TOKEN": VIEW_TOKEN},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, said = await ended(process)
    assert (process.returncode, told) == (2, b"")
    assert said == (
        b""
        if "2>" in closed
        else b"tail: standard output is closed: let it be a file, a pipe or a terminal\n"
    )


async def test_what_is_no_run_is_refused_at_once():
    process = await tail("--url", "ws://127.0.0.1:9/ws", "--run", "nonsense")
    _none, said = await ended(process)
    assert process.returncode == 2
    assert said.startswith(b"tail: --run nonsense is no run's id: give all of the UUID")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Files for TLS: a certificate for 127.0.0.1 that signs itself, and its key, plain and with a passphrase."""
    return make_keys(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def secure(keys):
    async with running(
        KUBEFERRY_TLS_CERT=str(keys / "cert.pem"), KUBEFERRY_TLS_KEY=str(keys / "key.pem")
    ) as server:
        yield server


async def told_of(server, scheme: str, *arguments: str, host: str = "127.0.0.1") -> str:
    process = await tail("--url", f"{scheme}://{host}:{server.port}/ws", "--patience", "2", *arguments)
    _none, said = await ended(process)
    assert process.returncode == 2
    (line,) = said.decode().splitlines()
    return line


async def test_tls_where_the_tail_has_none_and_the_other_way_around(secure, server):
    assert "try wss:// in --url" in await told_of(secure, "ws")
    assert "the server answers without TLS there: try ws:// in --url" in await told_of(server, "wss")


async def test_an_answer_that_is_no_websocket_says_what_to_do_and_gets_no_token():
    asked = []

    async def answer(request):
        asked.append(request.path)
        status = int(request.path[1:])
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})

    app = web.Application()
    app.router.add_get("/{status}", answer)
    async with serving(app) as url:
        for status, expected in (
            (302, "the server there sends on to another address: give that one as --url"),
            (404, "HTTP 404 in place of a WebSocket: check --url, whose path is /ws"),
            (502, "HTTP 502 in place of a WebSocket: see whether the event server runs"),
        ):
            process = await tail("--url", f"{url.replace('http', 'ws')}/{status}", "--patience", "1")
            _none, said = await ended(process)
            assert process.returncode == 2
            assert said.decode().startswith(f"tail: {expected}")
    assert set(asked) == {"/302", "/404", "/502"}


async def test_a_certificate_that_is_refused_says_what_to_do(secure, keys):
    assert "self-signed certificate; name the file of its authority with --ca" in await told_of(secure, "wss")
    own = str(keys / "cert.pem")
    assert "write a name into --url that it is for" in await told_of(
        secure, "wss", "--ca", own, host="localhost"
    )


async def test_a_file_of_authorities_that_is_none_is_named(secure, keys):
    missing, key = str(keys / "none.pem"), str(keys / "key.pem")
    said = await told_of(secure, "wss", "--ca", missing)
    assert said == f"tail: --ca {missing} can't be read (No such file or directory)"
    said = await told_of(secure, "wss", "--ca", key)
    assert said == f"tail: --ca {key} has no certificate: name a file of them in PEM"


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:abc/ws", "ws://", "ws://[::1", "ws://127.0.0.1:99999/ws", "http://127.0.0.1/ws"]
)
async def test_no_address_is_refused_at_once(url):
    process = await tail("--url", url)
    told, said = await ended(process)
    assert (process.returncode, told) == (2, b"")
    (line,) = said.decode().splitlines()
    assert line.startswith(f"tail: --url {url} is no address of a WebSocket: give it as ws://HOST:PORT/ws")


async def test_a_run_is_told_from_its_beginning(server, publisher):
    """Also where several messages have come before the tail reads the first one that names it."""
    process = await tail("--url", f"ws://127.0.0.1:{server.port}/ws", "--json")
    watching = asyncio.create_task(ended(process))
    async with asyncio.timeout(10):
        while await metric(server, "frames_sent_total") < 2:  # noqa: ASYNC110 (WELCOME and SNAPSHOT)
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    p = sample.Publisher()
    await publisher.publish([p.started()])
    for number in range(5):
        await publisher.publish(p.task(f"t{number}", "Talk", {"h1": "ok"}))
        await asyncio.sleep(0.3)
    process.send_signal(signal.SIGCONT)
    await publisher.publish([p.finished()])
    told, said = await watching
    assert (process.returncode, said) == (0, b"")
    assert [json.loads(line)["pubseq"] for line in told.splitlines()] == list(range(1, p.pubseq + 1))


async def test_the_next_run_is_told(server, publisher):
    """Of those that begin after the tail, also one that is over at once; never one that was over before."""
    old = sample.Publisher()
    await publisher.publish([old.started(), old.finished()])
    process = await tail("--url", f"ws://127.0.0.1:{server.port}/ws", "--json")
    watching = asyncio.create_task(ended(process))
    begun = []
    while not watching.done():
        p = sample.Publisher()
        await publisher.publish([p.started(), p.finished()])
        begun.append(p.run)
        await asyncio.sleep(0.2)
    told, said = await watching
    assert (process.returncode, said) == (0, b"")
    first, second = (json.loads(line) for line in told.splitlines())
    assert first["runid"] == second["runid"]
    assert first["runid"] in begun


async def followed(server, p):
    """A tail that has told a run's first event, and what it tells from then on."""
    process = await tail("--url", f"ws://127.0.0.1:{server.port}/ws", "--run", p.run, "--json")
    assert json.loads(await asyncio.wait_for(process.stdout.readline(), 15))["pubseq"] == 1
    return process, asyncio.create_task(ended(process))


async def forgets(server):
    """The server is killed, and comes back with nothing."""
    await server.stop(signal.SIGKILL)
    for path in server.directory.glob("history.db*"):
        path.unlink()
    await server.start()


async def test_the_server_forgot_a_run_that_goes_on(server):
    """What the publisher sends again isn't told again, and what nobody has any more is named."""
    p = sample.Publisher()
    events = [p.started(), *p.task("t1", "Talk", {"a": "ok"})]
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish(events)
    process, watching = await followed(server, p)
    await forgets(server)
    await asyncio.sleep(2)
    assert process.returncode is None
    p.pubseq += 3
    rest = [*p.task("t2", "Talk", {"a": "ok"}), p.finished()]
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([*events[2:], *rest])
    told, said = await watching
    assert process.returncode == 0
    assert [json.loads(line)["pubseq"] for line in told.splitlines()] == [2, 3, 4, *range(8, 12)]
    waits, lacks = said.decode().splitlines()
    assert waits.startswith("tail: The server has no such run now: its history is another one")
    assert waits.endswith("Asking again for 30 s.")
    assert lacks == "tail: of this run's events, number 5 to 7 did not arrive"


async def test_a_run_that_never_was_is_refused_at_once(server):
    process = await tail("--url", f"ws://127.0.0.1:{server.port}/ws", "--run", sample.Publisher().run)
    _none, said = await ended(process)
    assert (process.returncode, said) == (
        2,
        b"tail: The history has no such run: it may have been dropped for its age.\n",
    )


async def test_letters_that_the_terminal_lacks(server, publisher):
    p = sample.Publisher()
    name = "\u00dcberpr\u00fcfen \u2192 \u2603 \udcff"
    await publisher.publish([p.started(), *p.task("t", name, {"h\u00f6st": "ok"}), p.finished()])
    about = ["--url", f"ws://127.0.0.1:{server.port}/ws", "--run", p.run]
    for encoding, shown in (
        ("ascii", rb"TASK [\xdcberpr\xfcfen \u2192 \u2603 \udcff]"),
        ("utf-8", name[:-1].encode() + rb"\udcff]"),
    ):
        process = await tail(*about, LC_ALL="C", PYTHONIOENCODING=encoding)
        told, said = await ended(process)
        assert (process.returncode, said) == (0, b"")
        assert shown in told
