# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A small OpenID Connect issuer whose answers a test may spoil, and which keeps what it was asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey
from webkit import serving

ACCESS, REFRESH = "canary-access-token", "canary-refresh-token"


class FakeIssuer:
    """`tokens` and `claims` go into its answers; `asked` has each path with its Authorization and its form."""

    def __init__(self) -> None:
        self.url = ""
        self.client_id = "kubeferry"
        self.tokens: dict[str, Any] = {"access_token": ACCESS, "refresh_token": REFRESH}
        self.claims: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None, dict[str, str]]] = []
        self.id_token = ""
        self._nonce = ""
        self._key = RSAKey.generate_key(2048, {"kid": "k"})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeIssuer]:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/token", self._token)
        app.router.add_post("/revoke", self._revoke)
        async with serving(app) as self.url:
            yield self

    async def _discovery(self, _request: web.Request) -> web.Response:
        about = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "revocation_endpoint": f"{self.url}/revoke",
            "jwks_uri": f"{self.url}/keys",
        }
        return web.json_response({**about, **self.metadata})

    async def _authorize(self, request: web.Request) -> web.Response:
        self._nonce = request.query["nonce"]
        raise web.HTTPFound(f"{request.query['redirect_uri']}?code=code&state={request.query['state']}")

    async def _keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [self._key.as_dict(private=False)]})

    async def _token(self, request: web.Request) -> web.Response:
        await self._keep(request)
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.client_id, "sub": "ada", "iat": now, "exp": now + 600}
        header = {"alg": "RS256", "kid": "k"}
        self.id_token = jwt.encode(header, {**claims, "nonce": self._nonce, **self.claims}, self._key)
        return web.json_response({"token_type": "Bearer", "id_token": self.id_token, **self.tokens})

    async def _revoke(self, request: web.Request) -> web.Response:
        await self._keep(request)
        return web.Response()

    async def _keep(self, request: web.Request) -> None:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append((request.path, request.headers.get("Authorization"), form))
