# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""TLS for the tail, no redirects, and what to do where there is no connection."""

from __future__ import annotations

import ssl

import aiohttp

# OpenSSL's numbers of what is wrong with a certificate, as `openssl verify` has them.
_REMEDIES = {
    9: "compare the two machines' clocks",
    10: "renew it at the server",
    **dict.fromkeys((18, 19, 20, 21), "name the file of its authority with --ca"),
    **dict.fromkeys((62, 64), "write a name into --url that it is for"),
}


class ElsewhereError(aiohttp.ClientError):
    """The server sends on to another address, which isn't the one that the token is for."""

    def __str__(self) -> str:
        return "the server there sends on to another address: give that one as --url"


async def stay(*_about: object) -> None:
    """Follow no redirect: for aiohttp's traces. Raises ElsewhereError."""
    raise ElsewhereError


class Unusable(Exception):
    """The file of authorities can't be used; the message says why."""


def context(url: str, authorities: str | None) -> ssl.SSLContext | None:
    """The TLS context for a URL, or None for one without TLS. Raises Unusable."""
    if not url.startswith("wss:"):
        return None
    try:
        return ssl.create_default_context(cafile=authorities)
    except ssl.SSLError:
        raise Unusable(f"--ca {authorities} has no certificate: name a file of them in PEM") from None
    except OSError as error:
        raise Unusable(f"--ca {authorities} can't be read ({error.strerror})") from None


def reason(error: Exception, url: str) -> str:
    """Why there is no connection, and what to do where TLS is the cause."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = _REMEDIES.get(cause.verify_code)
        said = f"the server's certificate is refused: {cause.verify_message.rstrip('.')}"
        return f"{said}; {remedy}" if remedy else said
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return "the server answers without TLS there: try ws:// in --url, or another port"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        remedy = (
            "see whether the event server runs, where a proxy is before it"
            if error.status >= 500
            else "check --url, whose path is /ws"
        )
        return f"HTTP {error.status} in place of a WebSocket: {remedy}"
    said = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ServerDisconnectedError) and url.startswith("ws:"):
        return f"{said}: if it wants TLS, try wss:// in --url"
    return said
