# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""As much of AWX's API as the modules of awx.awx ask for: lists with filters, objects, associations and surveys.

Objects are kept in memory. Secret inputs of a credential are never given back, as AWX never does.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LISTS = (
    "organizations", "execution_environments", "credential_types", "credentials", "projects", "inventories", "hosts",
    "job_templates", "inventory_sources",
)  # fmt: skip
SECRETS = ("bearer_token", "token")
ENCRYPTED = "$encrypted$"
TOKEN = "token-of-the-stub"


class Awx:
    """A running stub; `objects` and `surveys` are what was made, `requests` every method and path it was asked."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LISTS}
        self.secrets: dict[str, dict[str, str]] = {}
        self.associations: dict[str, list[int]] = {}
        self.surveys: dict[int, Any] = {}
        self.requests: list[tuple[str, str]] = []
        self._next = 1
        self.add("organizations", {"name": "Default"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"awx": self}))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [each for each in self.requests if each[0] != "GET"]

    def named(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.objects[kind] if each["name"] == name]
        return found

    def add(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        number, self._next = self._next, self._next + 1
        made = {
            "id": number,
            "type": kind.rstrip("s"),
            "url": f"/api/v2/{kind}/{number}/",
            "summary_fields": {},
        }
        if kind == "projects":
            made |= {"scm_revision": "", "summary_fields": {"current_update": {"id": number}}}
        if kind == "job_templates":
            made["related"] = {"survey_spec": f"{made['url']}survey_spec/"}
        self.objects[kind].append(made)
        self.change(made, fields)
        return made

    def change(self, item: dict[str, Any], fields: dict[str, Any]) -> None:
        item |= fields
        if "inputs" in fields and "credential_type" in fields:
            self.secrets[item["name"]] = {key: fields["inputs"].get(key) for key in SECRETS}
            item["inputs"] = {
                key: ENCRYPTED if key in SECRETS else value for key, value in fields["inputs"].items()
            }

    def answer(self, method: str, path: str, query: dict[str, str], sent: Any) -> tuple[int, Any]:
        """The status and the body for a request. Raises KeyError for what isn't there."""
        if path == "/api/v2/":
            return 200, {}
        if update := re.fullmatch(r"/api/v2/project_updates/(\d+)/", path):
            return 200, {"id": int(update[1]), "status": "successful"}
        matched = re.fullmatch(r"/api/v2/(\w+)/(?:(\d+)/(?:(\w+)/)?)?", path)
        if not matched or matched[1] not in self.objects:
            raise KeyError(path)
        kind, number, part = matched[1], matched[2], matched[3]
        if number is None:
            if method == "POST":
                return 201, self.add(kind, sent)
            if name := query.pop("organization__name", None):
                query["organization"] = str(self.named("organizations", name)["id"])
            found = [each for each in self.objects[kind] if _matches(each, query)]
            return 200, {"count": len(found), "next": None, "results": found}
        (item,) = [each for each in self.objects[kind] if each["id"] == int(number)]
        if part == "survey_spec":
            if method == "POST":
                self.surveys[item["id"]] = sent
            return 200, self.surveys.get(item["id"], {})
        if part is not None:
            ids = self.associations.setdefault(path, [])
            if method == "POST":
                (ids.remove if sent.get("disassociate") else ids.append)(sent["id"])
                return 204, None
            return 200, {"count": len(ids), "next": None, "results": [{"id": each} for each in ids]}
        if method == "PATCH":
            self.change(item, sent)
        return 200, item


def _matches(item: dict[str, Any], query: dict[str, str]) -> bool:
    """All of the filters, and one of those that begin with `or__`."""
    found = {key: str(item.get(key.removeprefix("or__"))) == value for key, value in query.items()}
    either = [found.pop(key) for key in list(found) if key.startswith("or__")]
    return all(found.values()) and (not either or any(either))


class _Handler(BaseHTTPRequestHandler):
    awx: Awx

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the base class
        """Say nothing on standard error."""

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.awx.requests.append((self.command, url.path))
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length) or b"null")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status, body = 401, {"detail": "no token"}
        else:
            try:
                status, body = self.awx.answer(self.command, url.path, dict(parse_qsl(url.query)), sent)
            except (KeyError, ValueError):
                status, body = 404, {"detail": "not found"}
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 -- names that the base class asks for
