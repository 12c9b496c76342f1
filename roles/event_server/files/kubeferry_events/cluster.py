# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Which API server events are read from: the address and the authority are the server's settings, never a client's.

Of a kubeconfig only the cluster part of the current context is read. Its users and their credentials are not looked at:
every request carries the token of the person who asks, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from .errors import SettingsError
from .settings import Settings, is_loopback

SERVICE_ACCOUNT_CA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


@dataclass(frozen=True)
class Cluster:
    """An API server. `tls` is None only for plain HTTP on loopback (kubectl proxy)."""

    url: str
    tls: ssl.SSLContext | None
    server_name: str | None = None


def find_cluster(settings: Settings, environment: Mapping[str, str]) -> Cluster | None:
    """The API server of the settings, the kubeconfig, or the pod that this runs in; None where there is none.

    Raises SettingsError where one is named and can't be used.
    """
    if settings.kube_api:
        return _cluster(settings.kube_api, settings.kube_ca, None, "KUBEFERRY_KUBE_API")
    if settings.kubeconfig:
        return _from_kubeconfig(settings.kubeconfig.split(os.pathsep)[0])
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if host:
        bracketed = f"[{host}]" if ":" in host else host
        return _cluster(
            f"https://{bracketed}:{port}", settings.kube_ca or SERVICE_ACCOUNT_CA, None, "this pod"
        )
    return None


def _from_kubeconfig(name: str) -> Cluster:
    path = Path(name).expanduser()
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no YAML"
        raise SettingsError(f"KUBECONFIG={path} can't be read: {reason}. Correct it, or unset it.") from None
    try:
        current = document["current-context"]
        context = _named(document["contexts"], current)["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        url = str(cluster["server"])
    except (KeyError, TypeError, StopIteration):
        raise SettingsError(
            f"KUBECONFIG={path} has no current context with a cluster and a server."
        ) from None
    if cluster.get("insecure-skip-tls-verify"):
        raise SettingsError(
            f"KUBECONFIG={path} says insecure-skip-tls-verify: people's tokens would go to whoever answers. "
            "Set KUBEFERRY_KUBE_API and KUBEFERRY_KUBE_CA."
        )
    authority = cluster.get("certificate-authority") or ""
    if authority:
        authority = str(path.parent / authority)
    if data := cluster.get("certificate-authority-data"):
        try:
            authority = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            raise SettingsError(
                f"KUBECONFIG={path} has certificate-authority-data that is no base64."
            ) from None
    return _cluster(url, authority, cluster.get("tls-server-name"), f"KUBECONFIG={path}")


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


def _cluster(url: str, authority: str, server_name: str | None, source: str) -> Cluster:
    parts = urlsplit(url)
    if parts.scheme == "http":
        if not is_loopback(parts.hostname or ""):
            raise SettingsError(
                f"{source} names an API server with plain http: tokens would be readable on the way."
            )
        return Cluster(url.rstrip("/"), None)
    return Cluster(url.rstrip("/"), tls_context(authority, source), server_name)


def tls_context(authority: str, source: str) -> ssl.SSLContext:
    """A client's TLS context that trusts one authority (a file, or PEM text), or the system's when empty."""
    try:
        if authority.startswith("-----BEGIN"):
            return ssl.create_default_context(cadata=authority)
        return ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"The certificate authority of {source} can't be used: {error}") from None
