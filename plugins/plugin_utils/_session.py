# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The helper's connection to the event server.

A thread of the helper, because connecting, TLS and sending block; whatever state they are stuck in, the helper can end.
It uses websocket-client, which the Kubernetes client of the same playbook needs anyway; the standard library has no
WebSocket.
"""

from __future__ import annotations

import json
import os
import random
import select
import ssl
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from ._leftovers import Leftovers
from ._server_tls import context, why
from ._spool import Spool

try:
    import websocket

    HAS_WEBSOCKET = True
except ImportError:
    HAS_WEBSOCKET = False

CONNECT_SECONDS = 5.0
# An acknowledgement that takes longer means a frozen server: connect anew.
ACK_SECONDS = 10.0
PING_SECONDS = 20.0
BACKOFF_SECONDS = (0.25, 10.0)
BATCH_BYTES = 262_144
BATCH_EVENTS = 500
# Sent and not yet acknowledged, at most.
WINDOW_BYTES = 1_048_576


# Codes of an ERROR that trying again soon won't change.
_LASTING = ("unauthenticated", "forbidden", "too_many_connections")
_NONSENSE = "no event server answers there"
_CLOSED = "the server closed the connection"


class Refused(Exception):
    """The server does not take what we have; the message says why."""

    def __init__(self, message: str, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Server:
    """Where the events go, and with TLS the `ca` file and the `verify` of `_server_tls.context`."""

    url: str
    token: str
    ca: str | None = None
    verify: bool = True


class Session(threading.Thread):
    """Delivers spools and progress, connecting again whenever it has to."""

    def __init__(self, server: Server, own: Spool, leftovers: Leftovers) -> None:
        """Raises OSError."""
        super().__init__(name="kubeferry-events", daemon=True)
        self._server = server
        self._own = own
        self._leftovers = leftovers
        self._lock = threading.Lock()
        self._progress: dict[str, bytes] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._epoch: str | None = None
        self._ending = threading.Event()
        self.connected = False
        # Since when it is not.
        self.parted = time.monotonic()
        self.attempts = 0
        # Since when an attempt to connect is under way; None between attempts.
        self.trying: float | None = None
        self.moved = time.monotonic()
        self.problem: str | None = None
        # Why the server did not take an event that it was sent.
        self.refusal: str | None = None

    def wake(self) -> None:
        """There is something new to send."""
        try:
            os.write(self._wake_write, b".")
        except BlockingIOError:
            pass  # it has not woken up from the last time

    def progress(self, key: str, line: bytes) -> None:
        """Send this; of one key only the newest."""
        with self._lock:
            self._progress[key] = line
        self.wake()

    def end(self) -> None:
        """The run is over: try once more where there is no connection, and don't wait before it."""
        self._ending.set()
        self.wake()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to send."""
        own = self._own.delivered or self._own.disputed
        return own and self._leftovers.delivered and not self._progress

    def run(self) -> None:
        delay = BACKOFF_SECONDS[0]
        if not HAS_WEBSOCKET:
            self.problem = "the Python package websocket-client is not installed"
            self.attempts = 1_000_000
            return
        while True:
            self.trying = time.monotonic()
            try:
                connection = self._connect()
                try:
                    self._hello(connection)
                    delay = BACKOFF_SECONDS[0]
                    self._converse(connection)
                finally:
                    self._leftovers.let_go()
                    if self.connected:
                        self.connected, self.parted = False, time.monotonic()
                    connection.shutdown()  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001 (what a nonsensical answer leads websocket-client to may be any)
                self.problem = _reason(error)
                if isinstance(error, Refused) and error.lasting:
                    delay = BACKOFF_SECONDS[1]
            self.trying = None
            self.attempts += 1
            # At the end of a run its helper decides how long it is worth while.
            self._ending.wait(delay * random.uniform(0.75, 1.25))  # noqa: S311 (spreads load)
            if self._ending.is_set():
                time.sleep(0.1)
            delay = min(2 * delay, BACKOFF_SECONDS[1])

    def _connect(self) -> websocket.WebSocket:
        server = self._server
        with_tls = server.url.startswith("wss:")
        try:
            return websocket.create_connection(
                server.url,
                timeout=CONNECT_SECONDS,
                sslopt={"context": context(server.ca, server.verify)} if with_tls else None,
                suppress_origin=True,
                enable_multithread=False,
                # The token is for the server that the user has named, over the connection that he has chosen.
                redirect_limit=0,
            )
        except ssl.SSLError as error:
            raise Refused(why(error)) from error
        except (ConnectionResetError, websocket.WebSocketConnectionClosedException) as error:
            if with_tls:
                raise
            raise Refused(f"{_reason(error)}: if it wants TLS, try wss:// in the URL") from error
        except websocket.WebSocketBadStatusException as error:
            raise Refused(_no_websocket(error.status_code)) from error
        except websocket.WebSocketException as error:
            if "redirect" not in str(error).lower():
                raise
            raise Refused("the server there sends on to another address: give that one as the URL") from error

    def _hello(self, connection: websocket.WebSocket) -> None:
        connection.send(
            json.dumps({"type": "HELLO", "token": self._server.token, "client": "kubeferry.pvc.events"})
        )
        answer = connection.recv()
        if not answer:
            raise Refused(_CLOSED)
        welcome = _message(answer)
        if welcome.get("type") != "WELCOME":
            why = str(welcome.get("message") or _NONSENSE)
            raise Refused(why, lasting=welcome.get("code") in _LASTING)
        scopes, limits = welcome.get("scopes") or ["publish"], welcome.get("limits") or {}
        if not isinstance(scopes, list) or not isinstance(limits, dict):
            raise Refused(_NONSENSE, lasting=True)
        if "publish" not in scopes:
            raise Refused("the token may not publish", lasting=True)
        self._batch_bytes = max(1, _limit(limits, "message_bytes", BATCH_BYTES + 1_024) - 1_024)
        self._batch_events = _limit(limits, "events_per_message", BATCH_EVENTS)
        epoch = str(welcome.get("epoch"))
        self._own.reconnect(same_history=epoch == self._epoch)
        self._epoch = epoch
        self.connected = True
        self.problem = None
        self.moved = time.monotonic()

    def _converse(self, connection: websocket.WebSocket) -> None:
        heard = time.monotonic()
        while True:
            self._send(connection)
            heard_something, woken = self._wait(connection)
            now = time.monotonic()
            if woken:
                os.read(self._wake_read, 65_536)
            if heard_something:
                self._receive(connection)
                heard = now
            waiting = any(spool.outstanding for spool in (self._own, *self._leftovers.open))
            if waiting and now - max(self.moved, heard) > ACK_SECONDS:
                raise Refused(f"no acknowledgement for {ACK_SECONDS:.0f} seconds")
            if now - heard > 2 * PING_SECONDS:
                raise Refused("no answer to a ping")
            if now - heard > PING_SECONDS and int(now) % 5 == 0:
                connection.ping()

    def _wait(self, connection: websocket.WebSocket) -> tuple[bool, bool]:
        """Wait until the server says something or there is something to send, and return which."""
        wire = connection.sock
        if wire is None:
            raise Refused("the connection is closed")
        if isinstance(wire, ssl.SSLSocket) and wire.pending():
            return True, False  # TLS has read it off the socket already
        ready = select.select([wire.fileno(), self._wake_read], [], [], 1.0)[0]
        return wire.fileno() in ready, self._wake_read in ready

    def _send(self, connection: websocket.WebSocket) -> None:
        self._send_of(self._own, connection)
        with self._lock:
            latest, self._progress = list(self._progress.values()), {}
        if latest and not self._own.disputed:
            _publish(connection, [line.rstrip(b"\n") for line in latest])
        self._leftovers.proceed()
        for spool in self._leftovers.open:
            self._send_of(spool, connection)

    def _send_of(self, spool: Spool, connection: websocket.WebSocket) -> None:
        while spool.outstanding < WINDOW_BYTES and (
            lines := spool.batch(self._batch_bytes, self._batch_events)
        ):
            if not spool.outstanding - sum(map(len, lines)) - len(lines):
                self.moved = time.monotonic()  # the clock of an acknowledgement starts here
            _publish(connection, lines)

    def _receive(self, connection: websocket.WebSocket) -> None:
        opcode, frame = connection.recv_data_frame(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Refused(_CLOSED)
        if opcode not in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
            return
        message = _message(frame.data)
        if message.get("type") == "ACK":
            pubseq = message.get("pubseq")
            if not isinstance(pubseq, int) or pubseq < 0:
                raise Refused(_NONSENSE, lasting=True)
            for spool in (self._own, *self._leftovers.open):
                if spool.run == message.get("run"):
                    spool.acknowledge(pubseq)
            self.moved = time.monotonic()
        elif message.get("type") == "ERROR":
            refused = Refused(str(message.get("message")), lasting=message.get("code") in _LASTING)
            if not message.get("ids"):
                raise refused
            self.refusal = _reason(refused)


def _publish(connection: websocket.WebSocket, events: list[bytes]) -> None:
    # The events are JSON already, and taking them apart to put them together again would cost more than sending.
    message = b'{"type":"PUBLISH","events":[' + b",".join(events) + b"]}"
    connection.send(message, opcode=websocket.ABNF.OPCODE_TEXT)


def _message(text: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise Refused(_NONSENSE, lasting=True)
    return message


def _limit(limits: dict[str, Any], name: str, most: int) -> int:
    given = limits.get(name)
    return min(most, given) if isinstance(given, int) and given > 0 else most


def _no_websocket(status: int) -> str:
    """Return what an answer of HTTP means where a WebSocket was asked for."""
    try:
        said = f"HTTP {status} ({HTTPStatus(status).phrase})"
    except ValueError:
        said = f"HTTP {status}"
    if status == HTTPStatus.MISDIRECTED_REQUEST:
        return (
            f"{said}: the event server knows no such name of its own, give it one with KUBEFERRY_PUBLIC_URL"
        )
    if status >= 500:
        return (
            f"{said} in place of a WebSocket: see whether the event server runs, where a proxy is before it"
        )
    return f"{said} in place of a WebSocket: check the URL, whose path is /ws"


def _reason(error: Exception) -> str:
    """Return one line for the terminal, whatever a server has put into it, without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = (str(error) or type(error).__name__)[:300]
    return "".join(letter if letter.isprintable() else " " for letter in said).rstrip(". ")
