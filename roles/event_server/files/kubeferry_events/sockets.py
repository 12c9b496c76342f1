# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The WebSocket behind /ws and /: the thin shell between aiohttp and a `connection.Connection`."""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from .connection import Connection
from .context import Context
from .guard import HEADERS, is_allowed_origin
from .login import session_key
from .wire import dump

log = logging.getLogger(__name__)

STRANGER = 4001


class Socket:
    """One open WebSocket as the rest of the server sees it."""

    def __init__(self, request: web.Request, response: web.WebSocketResponse) -> None:
        self._request, self._response = request, response

    async def send(self, frame: bytes) -> None:
        if self._response.closed:
            raise ConnectionResetError("the client has gone")
        await self._response.send_frame(frame, WSMsgType.TEXT)

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


class Sockets:
    """Accepts WebSockets within the limits, and closes all of them when the server stops."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limits = context.settings.limits
        self._open: set[web.WebSocketResponse] = set()
        context.metrics.gauge("connections", "Open WebSocket connections", lambda: len(self._open))

    async def close(self) -> None:
        await asyncio.gather(
            *(ws.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops") for ws in list(self._open)),
            return_exceptions=True,
        )

    def refusal(self, request: web.Request) -> web.Response | None:
        """Why this request gets no WebSocket, or None."""
        origin = request.headers.get(hdrs.ORIGIN)
        if not is_allowed_origin(origin, request.headers.get(hdrs.HOST, ""), self._context.settings):
            return self._refuse(
                403, "forbidden", "Pages of that origin are not allowed: see KUBEFERRY_ALLOWED_ORIGINS."
            )
        if len(self._open) >= self._limits.connections:
            return self._refuse(503, "too_many_connections", "Too many connections: try again later.")
        return None

    def _refuse(self, status: int, code: str, message: str) -> web.Response:
        self._context.metrics.add("connections_refused")
        body = dump({"type": "ERROR", "code": code, "message": message})
        headers = HEADERS | ({"Retry-After": "5"} if status == 503 else {})
        return web.Response(status=status, body=body, content_type="application/json", headers=headers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The whole life of one WebSocket."""
        if (refused := self.refusal(request)) is not None:
            return refused
        response = web.WebSocketResponse(
            heartbeat=self._limits.ping_seconds,
            max_msg_size=self._limits.message_bytes,
            compress=False,  # a hundred viewers would cost a hundred compressions of the same frame
        )
        session = self._context.sessions.get(session_key(request, self._context.settings), time.time())
        connection = Connection(self._context, Socket(request, response), session)
        self._open.add(response)
        stranger = asyncio.create_task(self._await_proof(connection, request, response))
        try:
            await response.prepare(request)
            self._context.callers.upgraded(request.transport)
            await self._read(response, connection)
        finally:
            stranger.cancel()
            self._open.discard(response)
            await connection.close()
        return response

    async def _await_proof(
        self, connection: Connection, request: web.Request, response: web.WebSocketResponse
    ) -> None:
        """Close a connection that proves nothing for too long; it is a stranger until then."""
        try:
            async with asyncio.timeout(self._limits.stranger_seconds):
                await connection.proved.wait()
        except TimeoutError:
            await response.close(code=STRANGER, message=b"no HELLO came")
        else:
            self._context.callers.known(request.transport)

    async def _read(self, response: web.WebSocketResponse, connection: Connection) -> None:
        async for message in response:
            # Anything but text is no JSON: it gets the same answer as a broken text.
            text = message.data if message.type is WSMsgType.TEXT else ""
            try:
                await connection.receive(text)
            except ConnectionError:
                break
