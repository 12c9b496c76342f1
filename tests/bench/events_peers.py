# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the event server is measured beside: a server that sends every event by itself, and a page that polls.

usage: tests/bench/events_peers.py      (the server, on a free port of loopback)
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import WSMsgType, web

# Runs in Chromium, in the page that shows the run: notes for each event how long it took from its time stamp, pushed by
# the server, and as a page would see it that asks for the newest every few seconds.
LATENCY = """({token, run, poll}) => {
  window.pushed = [];
  window.polled = [];
  let newest = 0;
  const open = (ready, receive) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
    socket.onopen = () => socket.send(JSON.stringify({type: "HELLO", token}));
    socket.onmessage = ({data}) => {
      const message = JSON.parse(data);
      if (message.type === "WELCOME") ready(socket, message);
      else receive(message);
    };
  };
  const note = (list) => (message) => {
    const now = Date.now();
    for (const event of message.events ?? []) {
      if (event.seq <= (list === window.polled ? newest : 0)) continue;
      list.push(now - Date.parse(event.time));
    }
    if (list === window.polled) for (const event of message.events ?? []) newest = Math.max(newest, event.seq);
  };
  open((socket) => socket.send(JSON.stringify({type: "SUBSCRIBE", run})), note(window.pushed));
  const ask = JSON.stringify({type: "GET_HISTORY", run, limit: 1000});
  open((socket) => setInterval(() => socket.send(ask), poll), note(window.polled));
}"""


async def socket(request: web.Request) -> web.WebSocketResponse:
    """As much of the protocol as a viewer and a publisher need; one frame for each event and viewer."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    viewers: set[web.WebSocketResponse] = request.app["viewers"]
    try:
        async for message in ws:
            if message.type is not WSMsgType.TEXT:
                break
            data = json.loads(message.data)
            if data["type"] == "HELLO":
                await ws.send_json({"type": "WELCOME"})
            elif data["type"] == "SUBSCRIBE":
                viewers.add(ws)
                await ws.send_json({"type": "SNAPSHOT"})
            elif data["type"] == "PUBLISH":
                for event in data["events"]:
                    frame = json.dumps({"type": "EVENTS", "events": [event]})
                    for viewer in list(viewers):
                        await viewer.send_str(frame)
                last = data["events"][-1]
                await ws.send_json({"type": "ACK", "run": last["runid"], "pubseq": last["pubseq"]})
    finally:
        viewers.discard(ws)
    return ws


@dataclass
class Peer:
    url: str
    pid: int


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    """Run this file as a process."""
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        found = re.search(r"\d+$", line.strip())
        assert found is not None
        yield Peer(f"http://127.0.0.1:{found[0]}", process.pid)
    finally:
        process.kill()
        await process.wait()


async def main() -> None:
    app = web.Application()
    app["viewers"] = set()
    app.router.add_get("/ws", socket)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
