# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Taking connections in. asyncio's own server knows of a connection only after TLS's handshake, and has no limit.

It also writes a line for each connection that it has no file left for, a thousand in a second (python/cpython#70094).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .callers import Caller, Callers, ProtocolFactory
from .limits import Limits

log = logging.getLogger(__name__)

BACKLOG = 1024
# After a failure, such as too many open files: others may end meanwhile.
PAUSE_SECONDS = 0.2
COMPLAIN_SECONDS = 60.0


class Listener:
    """Listens on all addresses of a host, and hands each socket over to a protocol."""

    def __init__(self, callers: Callers, limits: Limits, tls: ssl.SSLContext | None) -> None:
        self._callers, self._tls = callers, tls
        self._handshake_seconds = limits.stranger_seconds if tls else None
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._complained = float("-inf")
        self.port = 0

    async def open(self, host: str, port: int, make: ProtocolFactory) -> None:
        """Bind and listen. Raises OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.port = port
        failure: OSError | None = None
        for family, address in dict.fromkeys((family, address) for family, _t, _p, _n, address in found):
            try:
                # Where any port will do, all addresses get the same.
                listening = socket.create_server(
                    (address[0], self.port, *address[2:]), family=family, backlog=BACKLOG
                )
            except OSError as error:
                # "localhost" has an IPv6 address also where the machine has no IPv6.
                failure = error
                continue
            listening.setblocking(False)
            self._sockets.append(listening)
            self.port = listening.getsockname()[1]
        if failure is not None and (not self._sockets or failure.errno == errno.EADDRINUSE):
            self.close()
            raise failure
        self._accepting = [asyncio.create_task(self._accept(each, make)) for each in self._sockets]

    def close(self) -> None:
        """Take no more in; what is open stays open."""
        for task in self._accepting:
            task.cancel()
        for listening in self._sockets:
            listening.close()

    async def _accept(self, listening: socket.socket, make: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                taken, address = await loop.sock_accept(listening)
            except OSError as error:
                self._complain(error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            caller = self._callers.admit(str(address[0]), make)
            caller.taking = asyncio.create_task(self._take(caller, taken))
            caller.taking.add_done_callback(partial(self._taken, caller, taken))
            # A crowd at the door doesn't keep the house from its work.
            await asyncio.sleep(0)

    async def _take(self, caller: Caller, taken: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: caller, taken, ssl=self._tls, ssl_handshake_timeout=self._handshake_seconds
            )
        except OSError:
            pass  # it has gone, or speaks no TLS

    def _taken(self, caller: Caller, taken: socket.socket, _done: asyncio.Task[None]) -> None:
        if caller.transport is None:  # no connection came of it
            self._callers.left(caller)
            taken.close()

    def _complain(self, error: OSError) -> None:
        if time.monotonic() - self._complained > COMPLAIN_SECONDS:
            self._complained = time.monotonic()
            log.error("Connections can't be taken in now: %s", error.strerror)


def hearing(callers: Callers) -> Middleware:
    """The middleware that tells of each request."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        callers.heard(request.transport)
        return await handler(request)

    return middleware
