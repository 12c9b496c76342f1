# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Which requests are answered at all, and the headers that every answer carries."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from .settings import Settings, is_loopback

HEADERS = {
    # Everything that the page loads is its own; nothing inline, nothing from elsewhere, in nobody's frame.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Server": "kubeferry-events",
}


def host_of(authority: str) -> str:
    """The host of a Host header, without its port; empty when it can't be read."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_known_host(authority: str, settings: Settings) -> bool:
    """Whether a request is for this server.

    On loopback only loopback's names are: else a page of some site whose name was rebound to 127.0.0.1 would be of
    the same origin as ours.
    """
    if not settings.is_loopback:
        return True
    host = host_of(authority)
    return is_loopback(host) or (bool(settings.public_url) and host == urlsplit(settings.public_url).hostname)


def is_allowed_origin(origin: str | None, authority: str, settings: Settings) -> bool:
    """Whether a browser's page of that origin may open a WebSocket. What sends no Origin is no browser."""
    if origin is None:
        return True
    if origin in settings.allowed_origins or (settings.public_url and origin == _origin(settings.public_url)):
        return True
    try:
        parts = urlsplit(origin)
        # Only the authority is compared: a proxy that ends TLS makes the scheme differ.
        return parts.scheme in ("http", "https") and parts.netloc.lower() == authority.lower() != ""
    except ValueError:
        return False


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def guard(settings: Settings) -> Middleware:
    """The middleware that every request passes."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_known_host(request.headers.get(hdrs.HOST, ""), settings):
            text = (
                "This server doesn't answer to that name. Set KUBEFERRY_PUBLIC_URL to the address in use.\n"
            )
            return web.Response(status=421, text=text, headers=HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        if not response.prepared:
            response.headers.update(HEADERS)
            response.headers.setdefault("Cache-Control", "no-store")
            if settings.tls_cert:
                response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    return middleware
