# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A small API server with OpenShift's OAuth server in it, for what a real one does only once in a while."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from webkit import serving

TOKEN = "sha256~canary-openshift-token"
CODE = "canary-authorization-code"


class FakeApi:
    """Keeps what it was asked, and answers as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.items: list[dict[str, Any]] = []
        self.version = 10
        self.lists = 0
        self.watches: list[str] = []
        self.gone_once = False
        self.deleted: list[str] = []
        self.challenge = ""
        self.expires_in = 600
        self.client_id = "kubeferry"
        self.authorization: str | None = None
        self.changes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeApi]:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._discovery)
        app.router.add_get("/oauth/authorize", self._authorize)
        app.router.add_post("/oauth/token", self._token)
        app.router.add_get("/apis/user.openshift.io/v1/users/~", self._user)
        app.router.add_delete("/apis/oauth.openshift.io/v1/useroauthaccesstokens/{name}", self._delete)
        app.router.add_get("/api/v1/namespaces/{namespace}/events", self._events)
        async with serving(app) as self.url:
            yield self

    async def _discovery(self, _request: web.Request) -> web.Response:
        endpoints = {
            f"{name}_endpoint": f"{self.url}/oauth/{path}"
            for name, path in (("authorization", "authorize"), ("token", "token"))
        }
        return web.json_response(
            {"issuer": self.url, "code_challenge_methods_supported": ["plain", "S256"], **endpoints}
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        assert request.query["response_type"] == "code"
        assert request.query["client_id"] == self.client_id
        assert request.query["code_challenge_method"] == "S256"
        self.challenge = request.query["code_challenge"]
        raise web.HTTPFound(f"{request.query['redirect_uri']}?code={CODE}&state={request.query['state']}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.authorization = request.headers.get("Authorization")
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        if form["code"] != CODE or base64.urlsafe_b64encode(digest).decode().rstrip("=") != self.challenge:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(
            {"access_token": TOKEN, "token_type": "Bearer", "expires_in": self.expires_in}
        )

    def _check(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized

    async def _user(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"metadata": {"name": "ada"}})

    async def _delete(self, request: web.Request) -> web.Response:
        self._check(request)
        self.deleted.append(request.match_info["name"])
        return web.json_response({})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        if request.query.get("watch"):
            return await self._watch(request)
        self.lists += 1
        limit = int(request.query["limit"])
        start = int(request.query.get("continue", "0"))
        meta: dict[str, Any] = {"resourceVersion": str(self.version)}
        if start + limit < len(self.items):
            meta["continue"] = str(start + limit)
        items = self.items[start : start + limit]
        return web.json_response({"kind": "EventList", "apiVersion": "v1", "metadata": meta, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watches.append(request.query["resourceVersion"])
        assert request.query["allowWatchBookmarks"] == "true"
        if self.gone_once:
            self.gone_once = False
            raise web.HTTPGone
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            change = await self.changes.get()
            if change.get("type") == "END":
                return response
            await response.write(json.dumps(change).encode() + b"\n")
            if change["type"] == "ERROR":
                return response


def event(name: str, version: int) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": name, "resourceVersion": str(version)},
        "reason": "Made",
        "message": name,
    }
