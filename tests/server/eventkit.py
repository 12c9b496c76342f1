# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A real server in a process of its own, and real WebSocket clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp

FILES = Path(__file__).resolve().parents[2] / "roles" / "event_server" / "files"
PUBLISH_TOKEN = "publish-token-for-the-tests"
VIEW_TOKEN = "view-token-for-the-tests"
PATIENCE = 10.0


class ServerProcess:
    """`python -m kubeferry_events` on a free port of loopback; `log` has what it printed."""

    def __init__(self, directory: Path, port: int = 0, files: int | None = None, **environment: str) -> None:
        self.directory = directory
        self.history = directory / "history.db"
        self.log = directory / "server.log"
        self.port = port
        # How many files it may have open.
        self._limited = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"] if files else []
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("KUBEFERRY_", "KUBE"))
            },
            "PYTHONPATH": str(FILES),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(directory),
            "KUBEFERRY_PUBLISH_TOKEN": PUBLISH_TOKEN,
            "KUBEFERRY_VIEW_TOKEN": VIEW_TOKEN,
            "KUBEFERRY_HISTORY": str(self.history),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> ServerProcess:
        with self.log.open("ab") as log:
            at = log.tell()
            self._process = subprocess.Popen(  # noqa: ASYNC220 -- starting it takes no time
                [*self._limited, sys.executable, "-m", "kubeferry_events", "--port", str(self.port)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(60):
            while not (found := re.search(rb"listens on \w+://[^\s]*:(\d+)", self.log.read_bytes()[at:])):
                if self._process.poll() is not None:
                    raise AssertionError(f"the server ended: {self.log.read_text()}")
                await asyncio.sleep(0.05)
        self.port = int(found[1])
        return self

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self._process is None or self._process.poll() is not None:
            return 0
        self._process.send_signal(how)
        try:
            return await asyncio.to_thread(self._process.wait, PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


@contextlib.asynccontextmanager
async def running(
    port: int = 0, files: int | None = None, **environment: str
) -> AsyncIterator[ServerProcess]:
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(Path(directory), port, files, **environment)
        try:
            yield await server.start()
        finally:
            await server.stop()


class Client:
    """One WebSocket, with every frame that it ever got in `frames`."""

    def __init__(self, session: aiohttp.ClientSession, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.session, self.ws = session, ws
        self.frames: list[str] = []

    @classmethod
    async def connect(cls, url: str, token: str | None = None, **options: Any) -> Client:
        session = aiohttp.ClientSession()
        try:
            client = cls(session, await session.ws_connect(f"{url}/ws", max_msg_size=0, **options))
        except BaseException:
            await session.close()
            raise
        if token is not None:
            await client.send({"type": "HELLO", "token": token})
            assert (await client.receive())["type"] == "WELCOME"
        return client

    async def close(self) -> None:
        await self.ws.close()
        await self.session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, message: dict[str, Any] | str) -> None:
        await self.ws.send_str(message if isinstance(message, str) else json.dumps(message))

    async def receive(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next message. Raises ConnectionResetError with the close code when there is none any more."""
        message = await self.ws.receive(timeout=seconds)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionResetError(self.ws.close_code)
        self.frames.append(message.data)
        return json.loads(message.data)

    async def until(self, kind: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next message of a type; others are passed over."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.receive()
                if message["type"] == kind:
                    return message

    async def ask(self, message: dict[str, Any] | str) -> dict[str, Any]:
        await self.send(message)
        return await self.receive()

    async def publish(self, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Publish and return the (last) acknowledgement."""
        answer: dict[str, Any] = {}
        for at in range(0, len(events), 500):
            await self.send({"type": "PUBLISH", "events": list(events[at : at + 500])})
            answer = await self.until("ACK")
        return answer

    async def events(self, count: int) -> list[dict[str, Any]]:
        """So many events, from as many EVENTS messages as it takes."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += (await self.until("EVENTS"))["events"]
        return found


async def metric(server: ServerProcess, name: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"kubeferry_{name} "))


async def snapshot_after_a_restart(server: ServerProcess, **wanted: str) -> dict[str, Any]:
    """Start a server again, and return what it tells a viewer after its first round of housekeeping."""
    await server.stop()
    await server.start()
    await asyncio.sleep(1.5)
    async with await Client.connect(server.url, VIEW_TOKEN) as viewer:
        return await viewer.ask({"type": "SUBSCRIBE", **wanted})


async def after_a_restart(server: ServerProcess, run: str) -> dict[str, Any]:
    """What it tells of a run then."""
    summary: dict[str, Any] = (await snapshot_after_a_restart(server, run=run))["state"]["summary"]
    return summary
