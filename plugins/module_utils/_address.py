# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The addresses of the API server and of the proxy before it, read once for both clients.

The messages name where an address came from and don't quote it: it may hold a password.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ._errors import UsageError
from ._headers import basic, text

# That of `http_proxy` counts too with older releases of `kubernetes`.
_VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_PORTS = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_HOST = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")


@dataclass(frozen=True)
class Proxy:
    """A proxy on the way to the API server, and what is told it. `named` says where its address came from."""

    scheme: str
    host: str
    port: int
    named: str
    user: str = ""
    password: str = field(default="", repr=False)
    further: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self._place} (from {self.named})"

    @property
    def _place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Its address without user and password."""
        return f"{self.scheme}://{self._place}"

    @property
    def headers(self) -> dict[str, str]:
        """What an HTTP proxy is told with each connection."""
        known = {"Proxy-Authorization": basic(self.user, self.password)} if self.user else {}
        return {**known, **self.further}

    def options(self) -> dict[str, Any]:
        """The arguments of `WebSocket.connect`."""
        given = {
            "http_proxy_host": self.host,
            "http_proxy_port": self.port,
            "proxy_type": self.scheme,
            "http_no_proxy": ["-"],  # what needs no proxy has been decided before
        }
        return {**given, "http_proxy_auth": (self.user, self.password)} if self.user else given


def server_address(url: str, named: str) -> str:
    """The API server's URL without slashes at its end. Raises UsageError for one that is none."""
    what = f"{named} isn't the URL of an API server"
    parts = _parts(url, what, "https")
    if parts.scheme not in {"http", "https"}:
        raise UsageError(f"{what}, for it begins with {parts.scheme}://: write https:// there.")
    if "@" in parts.netloc:
        raise UsageError(
            f"{what} alone, for it has a user in it: leave that out, and give username and password."
        )
    if parts.query or parts.fragment:
        raise UsageError(f"{what} alone, for it has a ? or # in it: end it before that.")
    return parts.geturl().rstrip("/")


def in_the_clear(base: str) -> bool:
    """Whether others than this machine can read what goes to the API server at `base`."""
    parts = urlsplit(base)
    if parts.scheme != "http" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(str(parts.hostname)).is_loopback
    except ValueError:
        return True


def proxy_address(url: str, named: str, headers: Mapping[str, str | None]) -> Proxy:
    """The proxy with this URL, to which the options `proxy_headers` apply. Raises UsageError for one that is none."""
    what = f"{named} isn't the URL of a proxy"
    parts = _parts(url, what, "http")
    if parts.scheme not in _PORTS:
        raise UsageError(
            f"{named} begins with {parts.scheme}://, and WebSockets can't go that way: give a proxy with http:// or "
            "socks5://."
        )
    if parts.scheme != "http" and not all(map(importlib.util.find_spec, ("socks", "python_socks"))):
        raise UsageError(
            f"{named} is a SOCKS proxy, and the Python libraries PySocks and python-socks aren't both on the host "
            "that runs the task: install them for its Python, or name an HTTP proxy."
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if headers.get("proxy_basic_auth"):
        user, _colon, password = str(headers["proxy_basic_auth"]).partition(":")
    further = {}
    if headers.get("user_agent"):
        further["User-Agent"] = text(headers["user_agent"], "proxy_headers.user_agent")
    if headers.get("basic_auth"):
        user_there, _colon, password_there = str(headers["basic_auth"]).partition(":")
        further["Authorization"] = basic(user_there, password_there)
    return Proxy(
        parts.scheme, str(parts.hostname), parts.port or _PORTS[parts.scheme], named, user, password, further
    )


def variable_of(url: str) -> str:
    """The variable that gives this address of a proxy; empty if none does."""
    return next((name for name in _VARIABLES if os.environ.get(name) == url), "")


def passwords(params: Mapping[str, Any]) -> Iterator[str]:
    """Those in the addresses among a module's options, as they are written there."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from passwords(value)
        elif name in {"host", "proxy"} and isinstance(value, str):
            user = value.rpartition("@")[0].rpartition("/")[2]
            yield from {user.partition(":")[2], unquote(user.partition(":")[2])} - {""}


def _parts(url: str, what: str, scheme: str) -> SplitResult:
    """The parts of a URL; `what` begins the sentence about one that is none, and `scheme` is the usual one."""
    if not url:
        raise UsageError(f"{what}, for it is empty: give it, or leave it out.")
    # Python's own parser takes some of these out in silence.
    if not re.fullmatch(r"[!-~]+", url):
        raise UsageError(f"{what}, for it has a blank or another character that no URL has: correct it.")
    if "://" not in url:
        raise UsageError(f"{what}, for it has no scheme: write {scheme}:// in front of it.")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise UsageError(
            f"{what}, for its host or port is none: check its brackets, and that the port is a number up to 65535."
        ) from None
    if port == 0 or parts.netloc.endswith(":"):
        raise UsageError(f"{what}, for it names no port after the colon: give one, or leave the colon out.")
    if not _is_host(host):
        raise UsageError(f"{what}, for {'its host is no name' if host else 'it names no host'}: correct it.")
    return parts


def _is_host(host: str) -> bool:
    if ":" not in host:
        return bool(_HOST.fullmatch(host))
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
