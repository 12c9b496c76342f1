# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Follow a run in a terminal, from the event server.

usage: python -m kubeferry_events.tail --url ws://127.0.0.1:9000/ws [--run UUID] [--json] [--ca FILE] [--patience S]

Without --run it follows the newest run that is going on, or the next one that begins. The view token comes from
KUBEFERRY_VIEW_TOKEN. With --json every event is one line of JSON. After a lost connection it goes on where it was, also
with a server that has lost its history: it waits for the run to come back there, tells what it hasn't told yet, and
names what is missing.

Exit status: 0 the run ended well, 1 it failed or was interrupted, 2 wrong usage, refused, no connection or nowhere to
write, 141 (as a shell says it of SIGPIPE) whoever read its output has gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from .ledger import Ledger
from .tail_output import Output, ReaderGone, Unwritable
from .tail_text import Text, plain
from .tail_tls import Unusable, context, reason, stay
from .wire import GAP, PROGRESS, is_run, kind_of

EXIT = {"ok": 0, "failed": 1, "interrupted": 1}
EXIT_REFUSED = 2
EXIT_READER_GONE = 128 + 13
HEARTBEAT_SECONDS = 20.0
RETRY_SECONDS = 0.5
# Who wasn't refused for so long was let in meanwhile.
LULL_SECONDS = 5.0
# What a server answers that will soon answer otherwise.
PASSING = ("server_error", "rate_limited")


class Refused(Exception):
    """It can't be shown, and trying again won't change that; the message says why."""


class Tail:
    """One run as it goes on. `show` is given each event once, `note` what is to be said beside them."""

    def __init__(
        self,
        token: str,
        run: str | None,
        show: Callable[[dict[str, Any]], None],
        note: Callable[[str], None],
        patience: float,
    ) -> None:
        self._token, self._patience = token, patience
        self._run = run
        self._show, self._note = show, note
        # Whether a server has had the run; since when one refuses it, and when it last did.
        self._known = False
        self._refused = self._refused_last = -LULL_SECONDS
        # Those that were there when it first saw the list.
        self._over: set[str] | None = None
        self._epoch: str | None = None
        self._seq: int | None = None
        # The publisher's numbers, which mean the same in every history: those told, and with them those that gaps stand
        # for. Progress has a count of its own.
        self._told, self._accounted = Ledger(), Ledger()
        self._progress = 0
        self.status: str | None = None

    async def converse(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Follow until the run has ended or the connection is lost. Raises Refused."""
        await socket.send_json({"type": "HELLO", "token": self._token, "client": "kubeferry tail"})
        async for frame in socket:
            if frame.type != aiohttp.WSMsgType.TEXT:
                continue
            message = json.loads(frame.data)
            kind = message.get("type")
            if kind == "ERROR":
                if message.get("code") in ("shutting_down", "slow_viewer"):
                    return
                await self._wait(message)
                await socket.send_json(self._subscription())
            elif kind == "WELCOME":
                await socket.send_json(self._subscription())
            elif self._run is None:
                await self._choose(socket, message)
            elif kind == "SNAPSHOT" and message.get("run") == self._run:
                await self._resync(socket, message)
            elif kind == "EVENTS":
                for event in message["events"]:
                    self._take(event)
            if self.status is not None:
                return

    def _subscription(self) -> dict[str, Any]:
        if self._run is None:
            # The list alone: events of all runs that are on their way while one is chosen would be taken for its first.
            return {"type": "SUBSCRIBE", "summaries": True}
        if self._seq is None:
            return {"type": "SUBSCRIBE", "run": self._run, "after_seq": 0}
        return {"type": "SUBSCRIBE", "run": self._run, "after_seq": self._seq, "epoch": self._epoch}

    async def _wait(self, refusal: dict[str, Any]) -> None:
        """Wait before asking again. Raises Refused where that won't help, or hasn't helped for too long."""
        code, why = refusal.get("code"), str(refusal.get("message"))
        if code == "unknown_run" and self._known:
            why = "The server has no such run now: its history is another one, or has dropped the run for its age."
        elif code not in PASSING:
            raise Refused(why)
        # Whatever the history then is, what was told already is left out.
        self._seq = None
        now = time.monotonic()
        if now > self._refused_last + LULL_SECONDS:
            self._refused = now
            self._note(f"{why} Asking again for {self._patience:g} s.")
        self._refused_last = now
        if now + RETRY_SECONDS >= self._refused + self._patience:
            raise Refused(f"{why} It stayed so for {self._patience:g} s.")
        await asyncio.sleep(RETRY_SECONDS)

    async def _choose(self, socket: aiohttp.ClientWebSocketResponse, message: dict[str, Any]) -> None:
        """Ask for the newest run that goes on, from its beginning, where a message has the list or changes of it."""
        rows = message.get("runs") or message.get("state", {}).get("runs", [])
        if self._over is None and message["type"] == "SNAPSHOT":
            self._over = {row["run"] for row in rows}
        # One that has begun since then may be over by now.
        wanted = [
            row for row in rows if row.get("status") == "running" or row["run"] not in (self._over or ())
        ]
        newest = max(wanted, key=lambda row: str(row.get("started", "")), default=None)
        if newest is not None:
            self._run = str(newest["run"])
            self._known = True
            await socket.send_json(self._subscription())

    def _take(self, event: dict[str, Any]) -> None:
        self._known = True
        self._seq, self._epoch = event["seq"], event["epoch"]
        if self._is_told(event):
            return
        self._show(event)
        if kind_of(event) == "run.finished":
            self.status = str(event["data"].get("status"))
            for first, last in self._accounted.missing():
                self._note(f"of this run's events, number {first} to {last} did not arrive")

    def _is_told(self, event: dict[str, Any]) -> bool:
        """Whether it was told before, perhaps from another history; from now on it is."""
        number, kind = event["pubseq"], kind_of(event)
        if kind == PROGRESS:
            count = int(str(event["id"]).rpartition(".")[2])
            told = count <= self._progress
            self._progress = max(self._progress, count)
            return told
        self._accounted.cover(event["data"].get("first_pubseq", number) if kind == GAP else number, number)
        return not self._told.add(number)

    async def _resync(self, socket: aiohttp.ClientWebSocketResponse, message: dict[str, Any]) -> None:
        """The events since then can't be had as they were asked for."""
        if message.get("resync") == "epoch_changed":
            self._note("the server's history is another one: what it had before may be missing here")
            self._seq = None
            await socket.send_json(self._subscription())
            return
        self._note(f"events are missing here ({message.get('resync', 'the server sent a summary')})")
        self._epoch, self._seq = str(message["epoch"]), int(message["seq"])
        status = message["state"].get("summary", {}).get("status")
        if status in EXIT:
            self.status = status


def check_address(url: str) -> None:
    """Raises Refused for what no connection can come of."""
    try:
        parts = urlsplit(url)
        usable = url.startswith(("ws://", "wss://")) and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that nothing closes, or a port that is none
        usable = False
    if not usable:
        raise Refused(
            f"--url {url} is no address of a WebSocket: give it as ws://HOST:PORT/ws or wss://HOST:PORT/ws, where "
            "the port is a number from 1 to 65535"
        )


def check_run(run: str | None) -> None:
    """Raises Refused for what is no run's id."""
    if run is not None and not is_run(run):
        raise Refused(
            f"--run {run} is no run's id: give all of the UUID, in small letters, as the page's address has it"
        )


async def follow(tail: Tail, url: str, tls: ssl.SSLContext | None, patience: float) -> None:
    """Follow a run to its end over as many connections as it takes.

    Raises Refused, Unwritable, and ConnectionError when there is no connection for `patience` seconds.
    """
    last = time.monotonic()
    problem = ""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(stay)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        while tail.status is None:
            try:
                async with asyncio.timeout(last + patience - time.monotonic()):
                    socket = await session.ws_connect(
                        url, ssl=tls or True, heartbeat=HEARTBEAT_SECONDS, max_msg_size=0
                    )
                async with socket:
                    await tail.converse(socket)
                last = time.monotonic()
                problem = "the connection was closed"
            except TimeoutError:
                # The last attempt may have had little time, and say less than the one before it.
                before = f" (before that: {problem})" if problem else ""
                problem = f"there was no answer within {patience:g} s{before}"
            except (aiohttp.ClientError, OSError) as error:
                problem = reason(error, url)
            if tail.status is None:
                if time.monotonic() + RETRY_SECONDS >= last + patience:
                    raise ConnectionError(problem)
                await asyncio.sleep(RETRY_SECONDS)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kubeferry_events.tail",
        description="Follow a run in a terminal. The view token comes from KUBEFERRY_VIEW_TOKEN.",
        epilog="Exit status: 0 the run ended well, 1 it failed or was interrupted, 2 refused, no connection or nowhere "
        "to write, 141 whoever read the output has gone.",
    )
    parser.add_argument("--url", required=True, help="the server's WebSocket, as ws://127.0.0.1:9000/ws")
    parser.add_argument("--run", help="which run; without it the newest that is going on, or the next")
    parser.add_argument("--json", action="store_true", help="one event a line, as JSON")
    parser.add_argument("--ca", help="certificate authorities to trust, a file")
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        help="give up after so many seconds without a connection, or without the run once there was one (30)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        beside = Output(sys.stderr, "standard error")
    except Unwritable:
        return EXIT_REFUSED
    try:
        out = Output(sys.stdout, "standard output")
    except Unwritable as error:
        with contextlib.suppress(Unwritable):
            beside.write(f"tail: {error}\n")
        return EXIT_REFUSED
    return _show(options, out, beside)


def _show(options: argparse.Namespace, out: Output, beside: Output) -> int:
    """Follow as was asked for, and return the exit status."""
    text = Text(out)

    def write_json(event: dict[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")

    def note(said: str) -> None:
        text.clear()
        beside.write(f"tail: {plain(said)}\n")

    try:
        check_address(options.url)
        check_run(options.run)
        tls = context(options.url, options.ca)
        token = os.environ.get("KUBEFERRY_VIEW_TOKEN", "")
        tail = Tail(token, options.run, write_json if options.json else text.show, note, options.patience)
        asyncio.run(follow(tail, options.url, tls, options.patience))
        text.clear()
    except ReaderGone:
        return EXIT_READER_GONE
    except (Refused, Unusable, Unwritable, OSError) as error:
        with contextlib.suppress(Unwritable):
            note(str(error))
        return EXIT_REFUSED
    except KeyboardInterrupt:
        with contextlib.suppress(Unwritable):
            text.clear()
        return 130
    return EXIT.get(tail.status or "", 1)


if __name__ == "__main__":
    sys.exit(main())
