# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Questions to the API server as the administrator, answered faster than kubectl starts."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from .layout import Instance, Layout


def get(layout: Layout, instance: Instance, path: str) -> dict[str, Any] | None:
    """The object at ``path``; an empty one if the answer is not JSON; None if there is no such answer."""
    return _ask(layout, instance, path, "GET")


def delete(layout: Layout, instance: Instance, path: str) -> None:
    """Delete the object at ``path`` if it is there."""
    _ask(layout, instance, path, "DELETE")


def _ask(layout: Layout, instance: Instance, path: str, method: str) -> dict[str, Any] | None:
    try:
        context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        url = f"https://127.0.0.1:{instance.api_port}{path}"
        with opener.open(urllib.request.Request(url, method=method), timeout=5) as answer:
            body = answer.read()
    except (OSError, urllib.error.URLError):
        return None
    try:
        found: dict[str, Any] = json.loads(body)
    except ValueError:
        return {}
    return found


def is_ready(layout: Layout, instance: Instance) -> bool:
    """Whether the API server says that it is ready to serve."""
    return get(layout, instance, "/readyz") is not None


def has_ready_condition(layout: Layout, instance: Instance, path: str) -> bool:
    """Whether the node or pod at ``path`` is there and Ready."""
    found = get(layout, instance, path) or {}
    conditions = found.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
