# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server in memory: as much of it as the collection asks for."""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Object = dict[str, Any]
Answer = tuple[int, Object]

_VERBS = {"POST": "create", "DELETE": "delete", "PATCH": "patch", "PUT": "update"}
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}


def status(code: int, message: str, kind: str = "") -> Object:
    """A `v1.Status` of failure."""
    body: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "code": code,
        "reason": _REASONS.get(code, "InternalError"),
    }
    if kind:
        body["details"] = {"kind": kind}
    return body


def pod(name: str = "pod", namespace: str = "ns", container: str = "main", claim: str = "") -> Object:
    """A running pod."""
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": container}], "nodeName": "node-1", "volumes": volumes},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def claim(name: str = "pvc-0", namespace: str = "ns", **spec: Any) -> Object:
    """A bound claim."""
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "volumeName": f"pv-{name}",
            **spec,
        },
        "status": {"phase": "Bound"},
    }


@dataclass
class FakeApi:
    """Objects by resource. `refuse` holds answers for requests that are to fail: (verb, resource) to answer."""

    namespaces: list[str] = field(default_factory=lambda: ["ns"])
    refuse: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, str, Object | None, Mapping[str, str]]] = field(default_factory=list)
    created: Callable[[Object], None] | None = None  # is shown each new pod, and may change it
    changed: Callable[[Object], None] | None = None  # is shown each object that was patched or updated
    _version: int = 0
    _objects: dict[str, list[Object]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.add("pods", pod())

    def add(self, resource: str, item: Object) -> Object:
        item["metadata"].setdefault("uid", str(uuid.uuid4()))
        self._touch(item)
        with self._lock:
            self._objects.setdefault(resource, []).append(item)
        return item

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        return next(
            (each for each in self.all(resource, namespace) if each["metadata"]["name"] == name), None
        )

    def all(self, resource: str, namespace: str = "") -> list[Object]:
        """The objects of a namespace, or of all."""
        with self._lock:
            items = list(self._objects.get(resource, []))
        return [each for each in items if not namespace or each["metadata"].get("namespace") == namespace]

    def remove(self, resource: str, item: Object) -> None:
        with self._lock:
            self._objects[resource].remove(item)

    def handle(self, method: str, target: str, body: Object | None, headers: Mapping[str, str]) -> Answer:
        """The answer to a request, as HTTP status and body."""
        url = urlsplit(target)
        self.requests.append((method, target, copy.deepcopy(body), dict(headers)))
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/version":
            return 200, {"gitVersion": "v1.35.0"}
        # A server may sit below a path of its proxy's.
        below = re.sub(r".*?/(api/v1|apis/[^/]+/[^/]+)/", "", url.path, count=1)
        parts = [unquote(part) for part in below.split("/")]
        if parts[0] == "namespaces" and len(parts) == 2:
            return self._refused("get", "namespaces") or self._namespace(parts[1])
        if parts[0] != "namespaces":
            parts = ["namespaces", "", *parts]
        namespace, resource, name = parts[1], parts[2], parts[3] if len(parts) > 3 else ""
        verb = _VERBS.get(method) or ("get" if name else "list")
        refused = self._refused(verb, resource)
        if refused:
            return refused
        if resource == "selfsubjectaccessreviews":
            return 201, {"status": {"allowed": True}}
        if namespace not in self.namespaces and verb == "create":
            return self._namespace(namespace)
        if verb == "create":
            assert body is not None
            return self._create(resource, namespace, body, dry_run="dryRun" in query)
        if verb == "list":
            return 200, {"items": self._select(resource, namespace, query)}
        if "dryRun" in query:
            verb = "get"
        return self._one(verb, resource, namespace, name, body or {})

    def _refused(self, verb: str, resource: str) -> Answer | None:
        answers = self.refuse.get((verb, resource))
        return answers.pop(0) if answers else None

    def _namespace(self, name: str) -> Answer:
        if name in self.namespaces:
            made = next((each for each in self.all("namespaces") if each["metadata"]["name"] == name), None)
            return 200, made or {"metadata": {"name": name}}
        return 404, status(404, f'namespaces "{name}" not found', "namespaces")

    def _create(self, resource: str, namespace: str, body: Object, *, dry_run: bool) -> Answer:
        name = body["metadata"]["name"]
        if self.find(resource, namespace, name):
            return 409, status(409, f'{resource} "{name}" already exists', resource)
        item = copy.deepcopy(body)
        item["metadata"]["namespace"] = namespace
        if not dry_run:
            self.add(resource, item)
            if self.created:
                self.created(item)
        return 201, item

    def _one(self, verb: str, resource: str, namespace: str, name: str, body: Object) -> Answer:
        item = self.find(resource, namespace, name)
        if item is None:
            return 404, status(404, f'{resource} "{name}" not found', resource)
        if verb == "delete":
            for key, wanted in (body.get("preconditions") or {}).items():
                if wanted != item["metadata"][key]:
                    return 409, status(409, f"the {key} in the precondition does not match", resource)
            self.remove(resource, item)
        elif verb in {"patch", "update"}:
            version = (body.get("metadata") or {}).get("resourceVersion")
            if version and version != item["metadata"]["resourceVersion"]:
                return 409, status(409, "the object has been modified", resource)
            with self._lock:
                uid = item["metadata"]["uid"]
                merged = _merged(item, body) if verb == "patch" else copy.deepcopy(body)
                merged["metadata"]["uid"] = uid
                item.clear()
                item.update(merged)
                self._touch(item)
            if self.changed:
                self.changed(item)
        return 200, copy.deepcopy(item)

    def _touch(self, item: Object) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)

    def _select(self, resource: str, namespace: str, query: dict[str, str]) -> list[Object]:
        wanted = dict(part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part)
        fields = dict(part.split("=", 1) for part in query.get("fieldSelector", "").split(",") if part)
        return [
            each
            for each in self.all(resource, namespace)
            if wanted.items() <= (each["metadata"].get("labels") or {}).items()
            and all(str(_dig(each, path)) == value for path, value in fields.items())
        ]


def _merged(item: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(item) if isinstance(item, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _dig(item: Object, path: str) -> Any:
    for key in path.split("."):
        item = (item or {}).get(key)  # type: ignore[assignment]
    return item


@dataclass
class Response:
    """What `_rest.Rest` expects of a response."""

    status: int
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def sender(api: FakeApi) -> Callable[..., Response]:
    """A `_rest.Send` that asks `api` without any socket."""

    def send(
        method: str, url: str, headers: list[tuple[str, str]], body: bytes | None, timeout: float
    ) -> Response:
        target = url[url.index("/", url.index("//") + 2) :]
        code, answer = api.handle(method, target, json.loads(body) if body else None, dict(headers))
        return Response(code, json.dumps(answer).encode())

    return send
