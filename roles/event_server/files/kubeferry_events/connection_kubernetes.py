# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""GET_EVENTS, WATCH_EVENTS and UNWATCH_EVENTS of one connection.

A token in a message lives as long as the request or the watch that it came for, in that task's own variables. Nothing
stores it, and closing the socket ends the tasks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from .context import Context
from .errors import MessageError
from .kubernetes import KubernetesEvents, change_event
from .sessions import Session
from .wire import dump

Send = Callable[[bytes], Awaitable[None]]


class KubernetesDesk:
    """Answers one connection's questions about Kubernetes events, several at once."""

    def __init__(self, context: Context, send: Send, session: Session | None, proved: asyncio.Event) -> None:
        self._context, self._send, self._session = context, send, session
        # Set once the API server has accepted a token of this connection: it is no stranger any more.
        self._proved = proved
        self._requests: set[asyncio.Task[None]] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}
        # Those whose token is the session's: they end with it.
        self._of_session: set[str] = set()

    def about(self) -> dict[str, Any]:
        """What WELCOME says of Kubernetes and of signing in."""
        settings, session = self._context.settings, self._session
        user = expires = None
        if session is not None and session.expires > time.time():
            user = session.user
            expires = datetime.fromtimestamp(session.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kubernetes": {
                "configured": self._context.kubernetes is not None,
                "namespace": settings.namespace,
            },
            "login": {"configured": bool(settings.login.kind), "user": user, "expires": expires},
        }

    async def close(self) -> None:
        tasks = [*self._requests, *self._watches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def sign_out(self) -> None:
        for namespace in list(self._of_session):
            self._stop(namespace)
        self._session = None

    async def get(self, message: dict[str, Any]) -> None:
        """Answer with the EventList, without holding up this connection's other messages."""
        client, token, namespace, _own = self._ask(message)
        if len(self._requests) >= self._context.settings.limits.kubernetes_requests:
            raise MessageError(
                "rate_limited", "Too many questions at once: wait for an answer first.", namespace=namespace
            )
        self._start(self._requests, self._get(client, token, namespace), "GET_EVENTS", namespace)

    async def _get(self, client: KubernetesEvents, token: str, namespace: str) -> None:
        data = await client.list(namespace, token)
        self._proved.set()
        await self._send(dump({"type": "GET_EVENTS", "namespace": namespace, "data": data}))

    async def watch(self, message: dict[str, Any]) -> None:
        """List, then push changes; a second one for a namespace takes the first one's place (a fresh token)."""
        client, token, namespace, of_session = self._ask(message)
        self._stop(namespace)
        if len(self._watches) >= self._context.settings.limits.kubernetes_watches:
            raise MessageError(
                "rate_limited", "Too many namespaces watched: send UNWATCH_EVENTS first.", namespace=namespace
            )

        async def on_list(data: dict[str, Any]) -> None:
            self._proved.set()
            answer = {"type": "GET_EVENTS", "namespace": namespace, "watching": True, "data": data}
            await self._send(dump(answer))

        async def on_change(change: str, item: dict[str, Any]) -> None:
            await self._send(dump({"type": "EVENTS", "events": [change_event(namespace, change, item)]}))

        task = asyncio.create_task(
            self._told("WATCH_EVENTS", namespace, client.watch(namespace, token, on_list, on_change))
        )
        self._watches[namespace] = task
        if of_session:
            self._of_session.add(namespace)

        def ended(done: asyncio.Task[None]) -> None:
            if self._watches.get(namespace) is done:
                del self._watches[namespace]
                self._of_session.discard(namespace)

        task.add_done_callback(ended)

    async def unwatch(self, message: dict[str, Any]) -> None:
        names = list(self._watches) if message.get("all") else [message.get("namespace") or self._default]
        for namespace in names:
            self._stop(namespace)

    @property
    def _default(self) -> str:
        return self._context.settings.namespace

    def _stop(self, namespace: str) -> None:
        self._of_session.discard(namespace)
        if (task := self._watches.pop(namespace, None)) is not None:
            task.cancel()

    def _ask(self, message: dict[str, Any]) -> tuple[KubernetesEvents, str, str, bool]:
        namespace = message.get("namespace") or self._default
        client = self._context.kubernetes
        if client is None:
            raise MessageError(
                "k8s_not_configured",
                "This server knows no Kubernetes API server: set KUBECONFIG or KUBEFERRY_KUBE_API where it runs.",
                namespace=namespace,
            )
        if not self._proved.is_set() and not self._context.stranger_questions.try_take(time.monotonic()):
            # Or everybody could try tokens on the API server through this one.
            raise MessageError(
                "rate_limited", "Too many questions by strangers: try again later.", namespace=namespace
            )
        if "token" in message:
            return client, str(message["token"]["access_token"]), namespace, False
        if self._session is None:
            raise MessageError(
                "k8s_token_missing",
                "Sign in at /login, or send a token of yours in the message.",
                namespace=namespace,
            )
        if self._session.expires <= time.time():
            raise MessageError("signed_out", "You are signed out. Sign in again.", namespace=namespace)
        return client, self._session.token, namespace, True

    def _start(
        self, tasks: set[asyncio.Task[None]], work: Awaitable[None], request: str, namespace: str
    ) -> None:
        task = asyncio.create_task(self._told(request, namespace, work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _told(self, request: str, namespace: str, work: Awaitable[None]) -> None:
        """Do it, and tell the client when it fails."""
        try:
            try:
                await work
            except MessageError as error:
                answer = {"type": "ERROR", "message": error.message, "code": error.code}
                await self._send(dump({**answer, "request": request, "namespace": namespace}))
        except ConnectionError:
            pass  # it has gone; its own handler cleans up
