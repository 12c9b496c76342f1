# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the event server takes: events in, viewers, and the time from a hook to a browser; each beside a peer.

usage: tests/bench/events.py [--seconds N] [throughput|latency|idle ...]

throughput  5,000 events/s published with 100 viewers of the run; the peer sends each event to each viewer by itself
latency     1,000 events/s, from the event's time stamp to a script in Chromium that also shows the run's page; the peer
            is a page that polls, every four seconds as mig-ui does
idle        1,000 viewers of a run in which nothing happens; the peer is a bare aiohttp server with as many sockets

Prints one JSON object. Times and sizes are of this machine; the ratios are what to compare. Run by the Python of
.cache/venv. Loopback alone, and every loop is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import sample
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, running
from events_peers import LATENCY, peer

BATCH = 50
VIEWERS = 100


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident(pid: int) -> float:
    """MiB of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


async def count_events(client: Client, total: int) -> float:
    """Read until so many events came; returns when the last one did."""
    seen = 0
    while seen < total:
        message = await client.ws.receive(timeout=60)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionResetError("a viewer was closed")
        seen += message.data.count('"specversion"')
    return time.monotonic()


async def viewers_of(stack: AsyncExitStack, url: str, run: str, count: int) -> list[Client]:
    viewers = []
    for _attempt in range(count):
        viewer = await stack.enter_async_context(await Client.connect(url, VIEW_TOKEN))
        await viewer.ask({"type": "SUBSCRIBE", "run": run})
        viewers.append(viewer)
    return viewers


async def feed(publisher: Client, p: sample.Publisher, rate: int, seconds: float) -> int:
    """Publish results at a rate; returns how many were acknowledged."""
    total = int(rate * seconds)
    began = time.monotonic()
    for at in range(0, total, BATCH):
        p.at = datetime.now(UTC)
        events = [
            p.event("host.ok", {"task_id": "t", "host": f"h{(at + number) % 200}", "msg": "done"})
            for number in range(BATCH)
        ]
        await publisher.send({"type": "PUBLISH", "events": events})
        await asyncio.sleep(max(0.0, began + (at + BATCH) / rate - time.monotonic()))
    while (await publisher.until("ACK", 60))["pubseq"] < p.pubseq:
        pass
    return total


async def throughput(seconds: float) -> dict[str, object]:
    figures: dict[str, dict[str, float]] = {}
    for name, server_of in (("ours", running), ("unbatched", peer)):
        async with server_of() as server, AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(await Client.connect(server.url, PUBLISH_TOKEN))
            p = sample.Publisher()
            await publisher.publish([p.started()])
            viewers = await viewers_of(stack, server.url, p.run, VIEWERS)
            total = int(5000 * seconds)
            reading = [asyncio.create_task(count_events(viewer, total)) for viewer in viewers]
            used, began = cpu_seconds(server.pid), time.monotonic()
            await feed(publisher, p, 5000, seconds)
            taken_in = time.monotonic() - began
            shown = max(await asyncio.gather(*reading)) - began
            figures[name] = {
                "events_per_second_taken_in": round(total / taken_in),
                "events_per_second_shown_to_every_viewer": round(total / shown),
                "server_cpu_microseconds_per_delivery": round(
                    1e6 * (cpu_seconds(server.pid) - used) / (total * VIEWERS), 2
                ),
            }
    cost = [figures[name]["server_cpu_microseconds_per_delivery"] for name in ("unbatched", "ours")]
    speed = [figures[name]["events_per_second_shown_to_every_viewer"] for name in ("ours", "unbatched")]
    return {
        **figures,
        "times_as_fast": round(speed[0] / speed[1], 1),
        "times_as_cheap": round(cost[0] / cost[1], 1),
    }


async def latency(seconds: float) -> dict[str, object]:
    from browserkit import ARGUMENTS  # noqa: PLC0415 -- the others need no browser
    from playwright.async_api import async_playwright  # noqa: PLC0415

    chromium = shutil.which("chromium")
    if chromium is None:
        return {"not measured": "there is no Chromium"}
    async with running() as server, async_playwright() as playwright, AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(await Client.connect(server.url, PUBLISH_TOKEN))
        p = sample.Publisher()
        await publisher.publish([p.started()])
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = await browser.new_page()
        await page.goto(f"{server.url}/runs/{p.run}")
        await page.fill("#token", VIEW_TOKEN)
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".facts span")
        await page.evaluate(LATENCY, {"token": VIEW_TOKEN, "run": p.run, "poll": 4000})
        await asyncio.sleep(0.5)
        await feed(publisher, p, 1000, seconds)
        await asyncio.sleep(4.5)  # the peer's last question
        pushed, polled = await page.evaluate("[window.pushed, window.polled]")
        await browser.close()
    ours, theirs = percentile(pushed), percentile(polled)
    return {"ours": ours, "polling": theirs, "p99_ratio": round(theirs["p99"] / ours["p99"], 1)}


def percentile(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {
        "events": len(values),
        "p50": round(cuts[49], 1),
        "p99": round(cuts[98], 1),
        "max": round(max(values), 1),
    }


async def idle(_seconds: float) -> dict[str, object]:
    figures: dict[str, float] = {}
    for name, server_of in (("ours", running), ("bare", peer)):
        async with server_of() as server, AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(await Client.connect(server.url, PUBLISH_TOKEN))
            p = sample.Publisher()
            await publisher.publish([p.started()])
            before = resident(server.pid)
            await viewers_of(stack, server.url, p.run, 1000)
            figures[f"{name}_mib_for_1000"] = round(resident(server.pid) - before, 1)
            figures[f"{name}_mib_in_all"] = round(resident(server.pid), 1)
    return {**figures, "ratio": round(figures["ours_mib_for_1000"] / figures["bare_mib_for_1000"], 2)}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("what", nargs="*", choices=["throughput", "latency", "idle", []])
    options = parser.parse_args()
    benches = {"throughput": throughput, "latency": latency, "idle": idle}
    report = {}
    for name in options.what or benches:
        async with asyncio.timeout(180):
            report[name] = await benches[name](options.seconds)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
