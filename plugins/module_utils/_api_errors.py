# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What the API server's refusals and the network's failures mean, as errors of our tree.

Both ways to the server need this: plain requests (`_cluster`) and exec handshakes (`_exec`).
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._errors import (
    ClusterError,
    Conflict,
    ConnectionLost,
    Forbidden,
    KubeferryError,
    NotFound,
    Throttled,
    Unauthorized,
    Unreachable,
)

# Worth another try: the server is busy, restarting, or has lost sight of etcd or a node.
RETRIED = frozenset({429, 500, 502, 503, 504})

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_OTHER_NAME = frozenset({62, 64})

WANTS_TLS = "Client sent an HTTP request to an HTTPS server"
"""What servers in Go answer, with HTTP 400 and no headers at all, to who comes without TLS."""

_SHOWN = 300
# How http.client and websocket-client tell a proxy's answer.
_STATUS = re.compile(r"(?:Tunnel connection failed:|via proxy status:) (\d{3})\b")
_ASKS = (
    "asks for a user and a password (HTTP 407) and has got none, or wrong ones: give them in proxy, as in "
    "http://user:password@host:port, or in proxy_headers.proxy_basic_auth"
)
_NOISE = "Internal error occurred: "


def server_says(status: dict[str, Any]) -> str:
    """The message of a `v1.Status` on one line."""
    text = " ".join(str(status.get("message") or status.get("reason") or "").split())
    while text.startswith(_NOISE):
        text = text.removeprefix(_NOISE)
    return text


def capital(text: str) -> str:
    """`text` as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def quoted(status: dict[str, Any]) -> str:
    """` (the server says: …)`, or nothing if it says nothing."""
    text = server_says(status).rstrip(".")
    if len(text) > _SHOWN:  # the cause comes last: each layer puts its own words before it
        text = f"{text[:60]} … {text[60 - _SHOWN :]}"
    return f" (the server says: {text})" if text else ""


def last_warning(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The newest of the events, which are oldest first, that is a warning; empty if none is."""
    return dict(next((each for each in reversed(events) if each.get("type") == "Warning"), {}))


def refused(code: int, status: dict[str, Any], doing: str, needs: str) -> ClusterError:
    """The error for a request that the API server answered with HTTP `code`.

    `doing` is what was tried, as in "reading pod a/b"; `needs` the permission it takes, as in "verb
    get on pods in namespace a".
    """
    error = _by_code(code, status, doing, needs)
    error.said = server_says(status)
    return error


def _by_code(code: int, status: dict[str, Any], doing: str, needs: str) -> ClusterError:
    if code == 401:
        return Unauthorized(
            f"{capital(doing)} failed: the API server doesn't accept the credentials; "
            "renew the token or certificate, or name another context."
        )
    if code == 407:
        return Unreachable(f"{capital(doing)} failed: the proxy {_ASKS}.")
    if code == 403:
        return Forbidden(f"{capital(doing)} is forbidden: the user needs {needs}{quoted(status)}.")
    if code == 404:
        return NotFound(f"{capital(doing)} failed: it doesn't exist; check the names{quoted(status)}.")
    if code in RETRIED:
        return Throttled(
            f"{capital(doing)} failed: the API server is overloaded or failing (HTTP {code}); "
            f"try again later{quoted(status)}."
        )
    if WANTS_TLS in server_says(status):
        return Unreachable(
            f"{capital(doing)} failed: the API server speaks TLS alone; write https:// in host, or in the kubeconfig's "
            "server."
        )
    kind = Conflict if code == 409 else ClusterError
    return kind(f"{capital(doing)} failed: the API server refused it with HTTP {code}{quoted(status)}.")


def broken(exc: BaseException, server: str, proxy: str = "", *, plain: bool = False) -> KubeferryError:
    """The error for a connection to `server` that could not be made, or broke before its answer.

    `proxy` is the one on the way and where it was named, in words; `plain` says that it was to go without TLS.
    """
    remedy = "try again; if the server speaks TLS, write https:// in host" if plain else "try again"
    way = f"{server} over the proxy {proxy}" if proxy else server
    chain = list(_causes(exc))
    for cause in chain:
        if isinstance(cause, ssl.SSLError):
            found = _tls(cause, server, remedy)
        else:
            found = (proxy and _by_proxy(cause, server, proxy)) or _network(cause, way, remedy)
        if found:
            return found
    return Unreachable(
        f"The API server {way} can't be reached: {_words(chain[0])}; check host, proxy and network."
    )


def _words(exc: BaseException) -> str:
    """What an exception is about. Never its own text, which may hold a header, and with it the token."""
    number = exc.errno if isinstance(exc, OSError) else None
    return os.strerror(number) if number and number > 0 else type(exc).__name__


def no_api_server(server: str, what: str) -> Unreachable:
    """The error for an answer that no API server gives."""
    return Unreachable(
        f"What answers at {server} isn't a Kubernetes API server ({what}): check host, and whether a login page or a "
        "proxy is in front of it."
    )


def _tls(exc: ssl.SSLError, server: str, remedy: str) -> KubeferryError | None:
    if isinstance(exc, ssl.SSLCertVerificationError) and exc.verify_code in _OTHER_NAME:
        return Unreachable(
            f"The certificate of the API server {server} can't be verified: {exc.verify_message.rstrip('.')}; "
            "check host and, in a kubeconfig, tls-server-name."
        )
    if isinstance(exc, ssl.SSLCertVerificationError):
        return Unreachable(
            f"The certificate of the API server {server} can't be verified: {exc.verify_message}; "
            "give its authority with ca_cert, or set validate_certs to false knowing the risk."
        )
    if isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConnectionLost(f"The API server {server} closed the connection before it answered; {remedy}.")
    reason = (getattr(exc, "reason", "") or str(exc)).replace("_", " ").lower()
    if "alert" in reason:
        return Unauthorized(
            f"The API server {server} refused the TLS handshake ({reason}): check client_cert and client_key."
        )
    return Unreachable(
        f"No TLS connection to the API server {server}: {reason}; check that host begins with the right scheme."
    )


def _network(exc: BaseException, server: str, remedy: str) -> KubeferryError | None:
    if isinstance(exc, socket.gaierror):
        return Unreachable(f"The name of the API server {server} can't be resolved; check host and DNS.")
    if isinstance(exc, ConnectionRefusedError):
        return Unreachable(
            f"The API server {server} refuses connections; check host and port, and that it runs."
        )
    if isinstance(exc, TimeoutError) or type(exc).__name__ in {
        "WebSocketTimeoutException",
        "ReadTimeoutError",
    }:
        return Unreachable(f"The API server {server} did not answer in time; check host, proxy and firewall.")
    if isinstance(exc, ConnectionError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        return ConnectionLost(f"The connection to the API server {server} broke before its answer; {remedy}.")
    if type(exc).__name__ == "WebSocketConnectionClosedException":
        return ConnectionLost(f"The API server {server} closed the connection before it answered; {remedy}.")
    if type(exc).__name__ == "CertificateError":
        return Unreachable(
            f"The certificate of the API server {server} can't be verified: it is for another name; check host."
        )
    return None


def _by_proxy(exc: BaseException, server: str, proxy: str) -> KubeferryError | None:
    """What is about the proxy: no more than the way to it is ours, the rest is its own."""
    if isinstance(exc, socket.gaierror):
        return Unreachable(f"The name of the proxy {proxy} can't be resolved; check it and DNS.")
    if isinstance(exc, ConnectionRefusedError):
        return Unreachable(
            f"The proxy {proxy} refuses connections; check its host and port, and that it runs."
        )
    if "Proxy" not in type(exc).__name__:
        return None
    code = _STATUS.search(str(exc))
    if code and code[1] == "407":
        return Unreachable(f"The proxy {proxy} {_ASKS}.")
    why = f"doesn't connect (HTTP {code[1]})" if code else f"failed ({_words(next(_causes(exc)))})"
    return Unreachable(
        f"The proxy {proxy} on the way to the API server {server} {why}; check that it is one and may reach "
        "the server."
    )


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The deepest cause first: libraries wrap what the system said into errors of their own."""
    chain: list[BaseException] = []
    current: BaseException | None = exc
    while current is not None and current not in chain:
        chain.append(current)
        inner = getattr(current, "reason", None) or next(
            (argument for argument in current.args if isinstance(argument, BaseException)), None
        )
        current = inner if isinstance(inner, BaseException) else current.__cause__ or current.__context__
    return reversed(chain)
