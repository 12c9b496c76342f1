# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Requests to the API server, as plain dictionaries.

The generated client of `kubernetes` isn't used for them: its calls change from release to release, and it
turns every answer into objects that nobody needs. Its connection pool is, for TLS and proxy settings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from ._api_errors import RETRIED, broken, capital, no_api_server, quoted, refused
from ._errors import ClusterError, ConnectionLost, KubeferryError, NotFound
from ._exec_protocol import parse_status

_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}
_DOING = {
    "get": "reading",
    "list": "listing",
    "create": "creating",
    "update": "changing",
    "patch": "changing",
    "delete": "deleting",
}
_NOUNS = {
    "pods": "pod",
    "persistentvolumeclaims": "claim",
    "persistentvolumes": "volume",
    "events": "event",
    "namespaces": "namespace",
    "nodes": "node",
    "storageclasses": "storage class",
    "resourcequotas": "quota",
}
_TRIES = 4
_LONGEST_PAUSE = 10.0


@dataclass(frozen=True)
class Request:
    """`verb` on `resource`, in RBAC's words. `group` is an API group with its version, empty for the core group."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    timeout: float = 30.0  # seconds for the answer to begin
    tries: int = _TRIES
    group: str = ""

    @property
    def path(self) -> str:
        parts = [f"/apis/{self.group}" if self.group else "/api/v1"]
        if self.namespace and self.resource != "namespaces":
            parts += ["namespaces", quote(self.namespace, safe="")]
        parts.append(self.resource)
        if self.name and self.verb != "create":
            parts.append(quote(self.name, safe=""))
        return "/".join(parts) + ("?" + urlencode(self.query) if self.query else "")

    @property
    def subject(self) -> str:
        """What the request is about, in words: `pod ns/name`, `the pods of namespace ns`."""
        if self.verb == "list":
            where = f"namespace {self.namespace}" if self.namespace else "all namespaces"
            return f"the {_plural(self._noun)} of {where}"
        prefix = f"{self.namespace}/" if self.namespace and self.resource != "namespaces" else ""
        return f"{self._noun} {prefix}{self.name}"

    @property
    def _noun(self) -> str:
        return _NOUNS.get(self.resource, self.resource.removesuffix("s"))

    @property
    def needs(self) -> str:
        """The permission it takes, in words."""
        # Who has no right in any case can't be told whether there is such a namespace.
        scope = (
            f"in namespace {self.namespace}, which must exist" if self.namespace else "in the whole cluster"
        )
        group = self.group.partition("/")[0]
        return f"the verb {self.verb} on {self.resource}{'.' if group else ''}{group} {scope}"


class Response(Protocol):
    """The part of urllib3's response that we use."""

    @property
    def status(self) -> int: ...

    @property
    def data(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


Headers = list[tuple[str, str]]  # a name may come twice (Impersonate-Group)


class Send(Protocol):
    """Sends one request. `timeout` is in seconds, for the answer to begin."""

    def __call__(
        self, method: str, url: str, headers: Headers, body: bytes | None, timeout: float
    ) -> Response: ...


class Rest:
    """Sends requests to the server at `base`. `headers` gives fresh ones, as pairs; they are secret.

    `proxy` is the one on the way, in a message's words.
    """

    def __init__(self, base: str, headers: Callable[[], Headers], send: Send, proxy: str = "") -> None:
        self._base = base
        self._headers = headers
        self._send = send
        self._proxy = proxy
        self.server = urlsplit(base).netloc.rpartition("@")[2]

    def call(self, request: Request) -> dict[str, Any]:
        """The answer's body. Raises ClusterError's children, NotFound for HTTP 404 among them."""
        pause = 0.5
        for left in range(request.tries - 1, -1, -1):
            try:
                response = self._once(request)
            except ConnectionLost:
                # Whether a lost request was carried out isn't known: only reading is safe to repeat.
                if not left or request.verb not in {"get", "list"}:
                    raise
            else:
                if response.status < 300:
                    return self._body(response)
                if not left or response.status not in RETRIED:
                    raise self._refusal(request, response)
                pause = _asked_pause(response) or pause
            time.sleep(min(pause, _LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("unreachable")

    def version(self) -> str:
        """The server's version, as in `v1.35.4`; anybody may ask for it."""
        response = self._exchange("GET", "/version", None, 15.0)
        body = self._body(response) if response.status < 300 else {}
        return str(body.get("gitVersion", ""))

    def _once(self, request: Request) -> Response:
        body = None if request.body is None else json.dumps(request.body).encode()
        return self._exchange(_METHODS[request.verb], request.path, body, request.timeout)

    def _exchange(self, method: str, path: str, body: bytes | None, timeout: float) -> Response:
        headers = [("Accept", "application/json"), *self._headers()]
        if body is not None:
            kind = "merge-patch+json" if method == "PATCH" else "json"
            headers.append(("Content-Type", f"application/{kind}"))
        try:
            return self._send(method, self._base + path, headers, body, timeout)
        except KubeferryError:
            raise
        except Exception as exc:  # noqa: BLE001 -- urllib3, ssl and socket raise what they like
            error = broken(exc, self.server, self._proxy, plain=self._base.startswith("http:"))
        raise error

    def _body(self, response: Response) -> dict[str, Any]:
        try:
            body = json.loads(response.data)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise no_api_server(self.server, f"HTTP status {response.status}")
        return body

    def _refusal(self, request: Request, response: Response) -> KubeferryError:
        if response.status < 400:
            return no_api_server(self.server, f"HTTP status {response.status}")
        status = parse_status(response.data)
        if response.status == 404:
            return self._missing(request, status)
        causes = (status.get("details") or {}).get("causes") or []
        if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
            return ClusterError(
                f"Namespace {request.namespace} is being deleted, and nothing can be made in it any more: choose "
                "another, or make it again when it is gone."
            )
        doing = f"{_DOING[request.verb]} {request.subject}"
        return refused(response.status, status, doing, request.needs)

    def _missing(self, request: Request, status: dict[str, Any]) -> NotFound:
        kind = (status.get("details") or {}).get("kind")
        if request.namespace and (kind == "namespaces" or request.resource == "namespaces"):
            return NotFound(f"Namespace {request.namespace} doesn't exist: check its name and the cluster.")
        subject = capital(request.subject)
        return NotFound(f"{subject} doesn't exist: check the namespace and the name{quoted(status)}.")


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _asked_pause(response: Response) -> float:
    """Seconds that the server asks to wait; 0 if it doesn't say."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0
