# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Commands in a pod, over the API server's exec WebSocket: our own client on `websocket-client`.

`kubernetes.stream` isn't used: it swaps a method of a shared client (kubernetes-client/python#928), can't
tell a lost connection from success, and didn't move 1 GiB in 200 s where this takes 15.

The file makes connections; `_exec_stream` drives them, `_exec_protocol` knows the bytes.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_NODELAY
from urllib.parse import quote, urlsplit

from ._address import Proxy
from ._api_errors import WANTS_TLS, broken, no_api_server
from ._errors import ExecError, Forbidden, KubeferryError, Unauthorized, Unreachable
from ._exec_errors import Target, handshake_refused
from ._exec_protocol import V4, V5, bounded, parse_status, query
from ._exec_stream import ExecProcess, Input, Limits
from ._runner import Stdin

with contextlib.suppress(ImportError):  # `_cluster.connect` says what is missing
    from websocket import (
        WebSocket,
        WebSocketAddressException,
        WebSocketBadStatusException,
        WebSocketConnectionClosedException,
        WebSocketException,
        WebSocketProxyException,
        WebSocketTimeoutException,
    )

_EITHER = (V5, V4)
_SWITCHING = 101  # RFC 6455, section 4.1


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Access:
    """How to reach the API server now: asked for at each exec, since tokens expire during a long run."""

    base: str  # scheme, host, port and path prefix, without a slash at the end
    headers: Sequence[str] = ()  # "name: value"; secret
    tls: ssl.SSLContext | None = None
    server_name: str | None = None  # that the certificate must have, if it isn't the host
    proxy: Proxy | None = None
    renew: Callable[[], None] = _nothing  # after a refusal: the next access may have another token

    @property
    def server(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.base).netloc.rpartition("@")[2]

    @property
    def plain(self) -> bool:
        """Whether it is to go without TLS."""
        return self.base.startswith("http:")


@dataclass
class Negotiated:
    """What this API server has done so far; shared by the runners of one cluster.

    `version` is the subprotocol that it chose among both, `allowed` whether it has ever let a command run.
    """

    version: str = ""
    v5_only: bool = False
    allowed: bool = False


class _NoProtocol(ExecError):
    """The server accepts none of the offered subprotocols."""


class ExecRunner:
    """Implements `_runner.Runner` for one container."""

    def __init__(
        self,
        target: Target,
        access: Callable[[], Access],
        negotiated: Negotiated | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._target = target
        self._access = access
        self._negotiated = negotiated or Negotiated()
        self._limits = limits or Limits()

    @property
    def where(self) -> str:
        return self._target.where

    def start(
        self, argv: Sequence[str], stdin: Stdin | None = None, stdin_size: int | None = None
    ) -> ExecProcess:
        source = None if stdin is None else Input(stdin, stdin_size)
        if source is None or stdin_size is None:
            return self._start_endless(argv, source)
        if self._negotiated.version == V5:
            # Only v5 is offered, so the server can't choose one in which this command would wait for ever.
            try:
                return self._open(argv, argv, (V5,), source)
            except _NoProtocol:
                self._negotiated.version = ""
        # Which version the server will choose isn't known yet, so the input is bounded for the worse.
        return self._open(argv, bounded(argv, stdin_size), _EITHER, source)

    def _start_endless(self, argv: Sequence[str], source: Input | None) -> ExecProcess:
        """Start a command that needs no end of input. v5 has no advantage for it, and moves a quarter less per second.

        The server translates v5 to SPDY for the node, frame by frame, but passes v4 on as it is. It does so
        for v4 only where v5 isn't offered.
        """
        if self._negotiated.version and not self._negotiated.v5_only:
            try:
                return self._open(argv, argv, (V4,), source)
            except _NoProtocol:
                self._negotiated.v5_only = True
        return self._open(argv, argv, _EITHER, source)

    def _open(
        self, argv: Sequence[str], sent: Sequence[str], offer: Sequence[str], stdin: Input | None
    ) -> ExecProcess:
        access = self._access()
        try:
            connection = self._connected(access, sent, offer, stdin=stdin is not None)
        except Unauthorized:
            access.renew()
            renewed = self._access()
            if renewed.headers == access.headers:
                raise
            connection = self._connected(renewed, sent, offer, stdin=stdin is not None)
        if len(offer) > 1:
            self._negotiated.version = connection.subprotocol or V4
        if stdin is not None:
            stdin.closes = connection.subprotocol == V5
        if connection.sock is None:
            raise broken(ConnectionResetError(), access.server, plain=access.plain)
        self._negotiated.allowed = True
        return ExecProcess(connection.sock, self._target, argv, stdin, self._limits)

    def _connected(
        self, access: Access, argv: Sequence[str], offer: Sequence[str], *, stdin: bool
    ) -> WebSocket:
        """A connection on which the command runs."""
        url = _url(access.base, self._target, query(argv, self._target.container, stdin=stdin))
        connection = WebSocket(
            sslopt={"context": access.tls, "server_hostname": access.server_name},
            sockopt=[(IPPROTO_TCP, TCP_NODELAY, 1), (SOL_SOCKET, SO_KEEPALIVE, 1)],
            skip_utf8_validation=True,
        )
        try:
            connection.connect(  # type: ignore[no-untyped-call]
                url,
                header=list(access.headers),
                subprotocols=list(offer),
                timeout=self._limits.connect,
                suppress_origin=True,
                redirect_limit=0,  # a redirect would carry the token to whoever it names
                **(access.proxy.options() if access.proxy else {"http_no_proxy": ["*"]}),
            )
        except KubeferryError:
            raise  # a signal's, which may come at any time
        except Exception as exc:  # noqa: BLE001 -- websocket-client, ssl, socket and python-socks raise what they like
            if not connection.getstatus():  # a redirection has one
                raise self._refusal(exc, access, argv, offer) from None
        if connection.getstatus() != _SWITCHING:
            connection.shutdown()  # type: ignore[no-untyped-call]
            raise no_api_server(access.server, f"HTTP status {connection.getstatus()}")
        return connection

    def _refusal(
        self, exc: Exception, access: Access, argv: Sequence[str], offer: Sequence[str]
    ) -> KubeferryError:
        if isinstance(exc, WebSocketBadStatusException):
            if exc.status_code < 400:
                return no_api_server(access.server, f"HTTP status {exc.status_code}")
            body = exc.resp_body or b""
            # golang.org/x/net/websocket answers 403 without a body to a subprotocol it doesn't have.
            if exc.status_code in {400, 403} and not body.lstrip().startswith(b"{") and len(offer) == 1:
                return _NoProtocol(f"{access.server} doesn't have {offer[0]}.")
            # websocket-client reads no body without a header that tells its length.
            bare = exc.status_code == 400 and access.plain and not exc.resp_headers
            status = {"message": WANTS_TLS} if bare else parse_status(body)
            refusal = handshake_refused(exc.status_code, status, self._target, argv)
            if isinstance(refusal, Forbidden) and self._negotiated.allowed:
                # An API server that has just started doesn't know its roles for a second or two.
                return Unreachable(f"{refusal} It was allowed just now.")
            return refusal
        network = (
            OSError,
            WebSocketAddressException,
            WebSocketConnectionClosedException,
            WebSocketProxyException,
            WebSocketTimeoutException,
        )
        if isinstance(exc, network) or not isinstance(exc, WebSocketException):
            return broken(exc, access.server, str(access.proxy or ""), plain=access.plain)
        if len(offer) == 1:
            return _NoProtocol(f"{access.server} doesn't have {offer[0]}.")
        # Not its text: that may hold what was sent.
        return ExecError(
            f"The server {access.server} didn't answer the exec request for {self.where} as an API server does "
            f"({type(exc).__name__}): check host, and that a proxy in between lets WebSocket connections through."
        )


def _url(base: str, target: Target, arguments: str) -> str:
    scheme, rest = base.split("://", 1)
    secure = {"https": "wss", "http": "ws"}.get(scheme, scheme)
    path = f"/api/v1/namespaces/{quote(target.namespace, safe='')}/pods/{quote(target.pod, safe='')}/exec"
    return f"{secure}://{rest}{path}?{arguments}"
