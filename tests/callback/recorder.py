# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""An event server that only records, and that fails in the ways that a test asks for.

It speaks the publisher's side of the protocol and nothing else; the real server refuses to be frozen or slow.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web


@dataclass
class Faults:
    """What goes wrong. All of it may be changed while the server runs."""

    # Take the connection and never answer.
    silent: bool = False
    # Answer the HELLO, read everything and acknowledge nothing.
    no_acks: bool = False
    # Wait so long before each message is read.
    slow_seconds: float = 0.0
    # Close the connection after so many events, every time.
    close_after: int | None = None
    # Refuse every token.
    refuse: bool = False
    # Answer events with what no server says.
    nonsense: bool = False
    # A new history with each connection, and nothing of the old one known.
    forgets: bool = False


@dataclass
class Recorder:
    token: str = "publish-token"
    port: int = 0
    tls: ssl.SSLContext | None = None
    faults: Faults = field(default_factory=Faults)
    # Every event in order of arrival, and the raw text of every message.
    events: list[dict[str, Any]] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    connections: int = 0
    _acked: dict[str, int] = field(default_factory=dict)
    _epoch: int = 0

    def start(self) -> Recorder:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=[started], daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the recorder did not start")
        return self

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _listen(self) -> None:
        app = web.Application()
        app.router.add_get("/ws", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def stop(self) -> None:
        """Close every connection and the port."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/ws"

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=8 * 1_048_576)
        await socket.prepare(request)
        self.connections += 1
        taken = 0
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            while self.faults.silent:  # noqa: ASYNC110 (set from another thread)
                await asyncio.sleep(0.05)
            await asyncio.sleep(self.faults.slow_seconds)
            self.frames.append(message.data)
            said = json.loads(message.data)
            if said["type"] == "HELLO":
                await socket.send_json(self._welcome(said))
            elif said["type"] == "PUBLISH":
                acknowledged = self._take(said["events"])
                taken += len(said["events"])
                if self.faults.close_after is not None and taken >= self.faults.close_after:
                    await socket.close()
                    break
                if self.faults.nonsense:
                    await socket.send_str('{"type": "ACK", "run": [], "pubseq": 1e999}')
                elif not self.faults.no_acks:
                    for run, pubseq in acknowledged.items():
                        await socket.send_json({"type": "ACK", "run": run, "pubseq": pubseq})
        return socket

    def _welcome(self, hello: dict[str, Any]) -> dict[str, Any]:
        if self.faults.refuse or hello.get("token") != self.token:
            return {"type": "ERROR", "code": "unauthenticated", "message": "the token is not known"}
        if self.faults.forgets:
            self._epoch += 1
            self._acked.clear()
        limits = {"message_bytes": 1_048_576, "events_per_message": 500}
        return {"type": "WELCOME", "epoch": f"e{self._epoch}", "scopes": ["publish"], "limits": limits}

    def _take(self, events: list[dict[str, Any]]) -> dict[str, int]:
        touched: dict[str, int] = {}
        for event in events:
            self.events.append(event)
            self.arrived.append(time.time())
            run, last = event["runid"], self._acked.get(event["runid"], 0)
            first = event["data"].get("first_pubseq", event["pubseq"])
            if first == last + 1 and event["type"] != "kubeferry.v1.progress":
                self._acked[run] = event["pubseq"]
            touched[run] = self._acked.get(run, 0)
        return touched

    def distinct(self) -> list[dict[str, Any]]:
        """Return the events without what was sent again."""
        return list({event["id"]: event for event in self.events}.values())

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        wanted = {f"kubeferry.v1.{kind}" for kind in kinds}
        return [event for event in self.distinct() if event["type"] in wanted]

    def wait_for(self, kind: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.of(kind):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {kind} within {seconds} seconds")
            time.sleep(0.02)
