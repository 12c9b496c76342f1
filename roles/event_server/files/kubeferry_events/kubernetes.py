# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Reading and watching the Kubernetes events of a namespace, with the token of the person who asks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp

from .cluster import Cluster
from .errors import MessageError
from .limits import Limits
from .metrics import Metrics
from .wire import PREFIX

PAGE = 500
# The API server ends a watch by itself before that; a connection that is silent for longer is dead.
WATCH_SECONDS = 240
RETRY_SECONDS = (0.5, 1, 2, 5, 10, 20)
# What an Authorization header may hold (RFC 6750); anything else could smuggle a second header in.
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
MAX_LINE = 2 * 1024 * 1024

# list: the whole EventList; change: ADDED, MODIFIED or DELETED with the Event.
OnList = Callable[[dict[str, Any]], Awaitable[None]]
OnChange = Callable[[str, dict[str, Any]], Awaitable[None]]


class Gone(Exception):
    """The API server has forgotten the resource version (410): list again."""


class KubernetesEvents:
    """A client of one API server. It holds no credentials and keeps no cookies."""

    def __init__(self, cluster: Cluster, limits: Limits, metrics: Metrics) -> None:
        self._cluster, self._limits, self._metrics = cluster, limits, metrics
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._cluster.tls or False, limit=200),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            read_bufsize=MAX_LINE,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def list(self, namespace: str, token: str) -> dict[str, Any]:
        """All events of a namespace as one EventList. Raises MessageError with a k8s_ code."""
        whole: dict[str, Any] = {}
        going_on: dict[str, str] = {}
        while True:
            page = await self._get_list(namespace, token, {"limit": str(PAGE), **going_on})
            items = page.get("items") or []
            if whole:
                whole["items"] += items
                whole["metadata"] = page.get("metadata", {})
            else:
                whole = {**page, "items": items}
            more = (page.get("metadata") or {}).get("continue")
            if not more or len(whole["items"]) >= self._limits.kubernetes_events:
                return whole
            going_on = {"continue": str(more)}

    async def watch(self, namespace: str, token: str, on_list: OnList, on_change: OnChange) -> None:
        """List, then tell every change until cancelled. Raises MessageError when the token is no longer good for it."""
        version = ""
        failures = 0
        while True:
            try:
                if not version:
                    whole = await self.list(namespace, token)
                    version = str((whole.get("metadata") or {}).get("resourceVersion", ""))
                    await on_list(whole)
                async for kind, item in self._changes(namespace, token, version):
                    failures = 0
                    version = str((item.get("metadata") or {}).get("resourceVersion", version))
                    if kind != "BOOKMARK":
                        await on_change(kind, item)
            except Gone:
                version = ""
                continue
            except MessageError as error:
                if error.code not in ("k8s_unreachable", "k8s_error"):
                    raise
                if not version and not failures:
                    raise  # not even the first list: the caller hears it at once
            # A watch that ends by itself is renewed at once, one that fails after a pause.
            failures += 1
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])

    async def _get_list(self, namespace: str, token: str, query: dict[str, str]) -> dict[str, Any]:
        async with self._request(namespace, token, query, self._limits.kubernetes_seconds) as response:
            try:
                document = await response.json(content_type=None)
            except (ValueError, aiohttp.ClientError, TimeoutError):
                raise self._failure("k8s_error", "The Kubernetes API server's answer is no JSON.") from None
        if not isinstance(document, dict):
            raise self._failure("k8s_error", "The Kubernetes API server's answer is no EventList.")
        return document

    async def _changes(
        self, namespace: str, token: str, version: str
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with self._request(namespace, token, query, WATCH_SECONDS + 30) as response:
            try:
                async for line in response.content:
                    change = json.loads(line)
                    kind, item = change["type"], change["object"]
                    if kind == "ERROR":
                        if item.get("code") == 410:
                            raise Gone
                        raise self._failure(
                            "k8s_error", "The Kubernetes API server ended the watch with an error."
                        )
                    yield kind, item
            except (ValueError, KeyError, TypeError, aiohttp.ClientError, TimeoutError):
                raise self._failure(
                    "k8s_unreachable", "The watch on the Kubernetes API server broke."
                ) from None

    @asynccontextmanager
    async def _request(
        self, namespace: str, token: str, query: dict[str, str], seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One response, closed however its reader ends."""
        response = await self._send(namespace, token, query, seconds)
        try:
            yield response
        finally:
            response.close()

    async def _send(
        self, namespace: str, token: str, query: dict[str, str], seconds: float
    ) -> aiohttp.ClientResponse:
        """One GET with this token. Raises MessageError, or Gone."""
        if not TOKEN.fullmatch(token):
            raise MessageError("k8s_unauthorized", "The token has characters that no bearer token has.")
        if self._session is None:
            raise MessageError("shutting_down", "The server is stopping.")
        self._metrics.add("kubernetes_requests")
        try:
            response = await self._session.get(
                f"{self._cluster.url}/api/v1/namespaces/{namespace}/events",
                params=query,
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
                allow_redirects=False,  # a token goes to this API server and nowhere else
                server_hostname=self._cluster.server_name,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=10),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = "it did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            raise self._failure(
                "k8s_unreachable", f"The Kubernetes API server can't be reached ({reason}); nothing was read."
            ) from None
        if response.status == 200:
            return response
        async with response:
            said = await _said(response)
        raise self._refusal(response.status, said, namespace)

    def _refusal(self, status: int, said: str, namespace: str) -> Exception:
        if status == 410:
            return Gone()
        if status == 401:
            code = "k8s_unauthorized"
            message = (
                "The Kubernetes API server doesn't accept the token: it is wrong or expired. Sign in again."
            )
        elif status == 403:
            code = "k8s_forbidden"
            message = (
                f"This user may not read events in the namespace {namespace}. "
                "Ask for a role with the verbs get, list and watch on events."
            )
        elif status == 404:
            code = "k8s_not_found"
            message = f"The Kubernetes API server knows no events in the namespace {namespace}."
        else:
            code, message = "k8s_error", f"The Kubernetes API server answered with HTTP {status}."
        return self._failure(code, f"{message} It said: {said}" if said else message)

    def _failure(self, code: str, message: str) -> MessageError:
        self._metrics.add("kubernetes_errors")
        return MessageError(code, message)


async def _said(response: aiohttp.ClientResponse) -> str:
    """The message of a Status object, cut; the API server doesn't repeat tokens in it."""
    try:
        status = json.loads(await response.content.read(16_384))
        return str(status["message"])[:300]
    except (ValueError, KeyError, TypeError, aiohttp.ClientError, TimeoutError):
        return ""


def change_event(namespace: str, change: str, item: dict[str, Any]) -> dict[str, Any]:
    """A watched change in the envelope of all events. It is no part of the history and has no seq."""
    meta = item.get("metadata") or {}
    return {
        "specversion": "1.0",
        "id": f"{namespace}/{meta.get('uid', '')}:{meta.get('resourceVersion', '')}",
        "source": f"/namespaces/{namespace}",
        "type": f"{PREFIX}k8s.event",
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "data": {"namespace": namespace, "change": change, "object": item},
    }
