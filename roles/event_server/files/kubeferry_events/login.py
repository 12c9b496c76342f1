# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""/login, /login/callback and /logout.

The token that signing in yields never reaches the browser: it stays in `sessions.Sessions`, and the browser holds a
cookie that scripts can't read and other sites' pages can't send. GET_EVENTS over a WebSocket that was opened with that
cookie needs no token in the message.
"""

from __future__ import annotations

import hmac
import html
import logging
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from authlib.common.security import generate_token
from authlib.oauth2.rfc6749.errors import OAuth2Error
from authlib.oauth2.rfc6749.parameters import parse_authorization_code_response

from .cluster import Cluster
from .context import Context
from .errors import LoginError
from .guard import is_allowed_origin
from .oauth import OAuthClient
from .settings import Settings

log = logging.getLogger(__name__)

PENDING_SECONDS = 600.0
MAX_PENDING = 1_000
# It has to come along when the issuer sends the browser back (a navigation from another site): Lax, not Strict.
PENDING_COOKIE = "kubeferry_login"
SESSION_COOKIE = "kubeferry_session"
# Why an issuer may refuse (RFC 6749 4.1.2.1, OpenID Connect Core 3.1.2.6). Anybody can send another word.
REFUSALS = frozenset(
    (
        "invalid_request",
        "unauthorized_client",
        "access_denied",
        "unsupported_response_type",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "interaction_required",
        "login_required",
        "account_selection_required",
        "consent_required",
    )
)


@dataclass(frozen=True)
class Pending:
    """A sign-in under way. `browser` is the secret in the cookie of the browser that began it.

    `replaced` is the session that this browser had: its cookie doesn't come along when the issuer sends it back.
    """

    browser: str
    replaced: str | None
    nonce: str
    verifier: str
    redirect_uri: str
    until: float


def is_https(settings: Settings) -> bool:
    return settings.public_url.startswith("https:") or (bool(settings.tls_cert) and not settings.public_url)


def cookie_name(settings: Settings) -> str:
    # With the __Host- prefix no other host of the domain can plant one (RFC 6265bis); it asks for https.
    return f"__Host-{SESSION_COOKIE}" if is_https(settings) else SESSION_COOKIE


def session_key(request: web.Request, settings: Settings) -> str | None:
    return request.cookies.get(cookie_name(settings))


class Login:
    """The handlers, with what they remember between two requests of a browser."""

    def __init__(self, context: Context, cluster: Cluster | None) -> None:
        self._context = context
        self._settings = context.settings
        self._client = OAuthClient(context.settings.login, cluster) if context.settings.login.kind else None
        self._pending: dict[str, Pending] = {}

    async def open(self) -> None:
        if self._client is not None:
            await self._client.open()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """GET /login: to the issuer."""
        if self._client is None:
            return _page(
                404, "Nobody can sign in here", "Set KUBEFERRY_LOGIN where the server runs, see its README."
            )
        pending = Pending(
            browser=generate_token(43),
            replaced=session_key(request, self._settings),
            nonce=generate_token(32),
            verifier=generate_token(64),
            redirect_uri=f"{self._origin(request)}/login/callback",
            until=time.monotonic() + PENDING_SECONDS,
        )
        state = generate_token(32)
        try:
            url = await self._client.authorization_url(
                pending.redirect_uri, state, pending.nonce, pending.verifier
            )
        except LoginError as error:
            return self._failed(error)
        self._remember(state, pending)
        answer = web.HTTPSeeOther(url)
        answer.headers["Cache-Control"] = "no-store"
        answer.set_cookie(
            PENDING_COOKIE,
            pending.browser,
            max_age=int(PENDING_SECONDS),
            path="/login",
            httponly=True,
            samesite="Lax",
            secure=is_https(self._settings),
        )
        raise answer

    async def finish(self, request: web.Request) -> web.StreamResponse:
        """GET /login/callback: back from the issuer with a code."""
        try:
            identity_key = await self._exchange(request)
        except LoginError as error:
            return self._failed(error)
        answer = web.HTTPSeeOther("/")
        answer.headers["Cache-Control"] = "no-store"
        answer.set_cookie(
            cookie_name(self._settings),
            identity_key,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=is_https(self._settings),
        )
        answer.del_cookie(PENDING_COOKIE, path="/login")
        self._context.metrics.add("logins")
        raise answer

    async def end(self, request: web.Request) -> web.StreamResponse:
        """POST /logout, from our own page alone."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not is_allowed_origin(
            origin, request.headers.get(hdrs.HOST, ""), self._settings
        ):
            return _page(403, "Not signed out", "Sign out from the page itself.")
        await self._end(session_key(request, self._settings))
        answer = web.HTTPSeeOther("/")
        answer.del_cookie(
            cookie_name(self._settings), path="/", secure=is_https(self._settings), samesite="Strict"
        )
        raise answer

    async def _end(self, key: str | None, in_use: str = "") -> None:
        """End a session; what is `in_use` by another one isn't revoked."""
        session = self._context.sessions.end(key)
        if session is not None and self._client is not None:
            if session.revocable and session.revocable != in_use:
                await self._client.forget(session.revocable)
            session.token = session.revocable = ""

    async def _exchange(self, request: web.Request) -> str:
        if self._client is None:
            raise LoginError("nobody can sign in here")
        state = request.query.get("state", "")
        pending = self._pending.pop(state, None)  # good for one answer
        browser = request.cookies.get(PENDING_COOKIE, "")
        if pending is None or pending.until < time.monotonic():
            raise LoginError("it took too long, or was begun by another server")
        if not hmac.compare_digest(pending.browser.encode(), browser.encode("utf-8", "backslashreplace")):
            raise LoginError("it was begun in another browser")
        await self._client.check_issuer(request.query.get("iss"))
        if "error" in request.query:
            code = request.query["error"]
            raise LoginError(f"the issuer refused{f' ({code})' if code in REFUSALS else ''}")
        try:
            answer = parse_authorization_code_response(str(request.url), state)
        except OAuth2Error as error:
            raise LoginError(f"the issuer's answer is no good ({error.error})") from None
        identity = await self._client.exchange(
            answer["code"], pending.redirect_uri, pending.verifier, pending.nonce
        )
        # Signing out would end the one of the cookie alone.
        await self._end(pending.replaced, in_use=identity.revocable)
        return self._context.sessions.add(
            identity.user, identity.token, identity.expires, identity.revocable, time.time()
        )

    def _remember(self, state: str, pending: Pending) -> None:
        now = time.monotonic()
        for old in [key for key, value in self._pending.items() if value.until < now]:
            del self._pending[old]
        while len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[state] = pending

    def _origin(self, request: web.Request) -> str:
        if self._settings.public_url:
            parts = urlsplit(self._settings.public_url)
            return f"{parts.scheme}://{parts.netloc}"
        return f"{self._settings.scheme}://{request.host}"

    def _failed(self, error: LoginError) -> web.Response:
        self._context.metrics.add("logins_failed")
        log.warning("signing in failed: %s", error)
        return _page(400, "Signing in failed", f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _page(status: int, title: str, text: str) -> web.Response:
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{html.escape(title)}</title><link rel="stylesheet" href="/style.css">'
        f'<main class="notice-page"><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>'
        '<p><a href="/">Back to the page</a></p></main></html>'
    )
    return web.Response(status=status, text=body, content_type="text/html")
