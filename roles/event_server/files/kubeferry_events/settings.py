# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Settings: from the environment and the command line, refused with a sentence where they don't hold together.

Tokens come from the environment or from files, never from the command line, which every user of a machine can read.
"""

from __future__ import annotations

import ipaddress
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .errors import SettingsError
from .limits import Limits, Retention
from .tls import server_context

DEFAULT_PORT = 9000
DEFAULT_NAMESPACE = "openshift-migration"
MIN_TOKEN = 16
HISTORY_SCHEMES = ("redis", "rediss", "unix")
LOGIN_KINDS = ("", "oidc", "openshift")

T = TypeVar("T", Limits, Retention)


@dataclass(frozen=True)
class LoginSettings:
    """How people sign in at /login. `kind` is empty (nobody does), `oidc` or `openshift`."""

    kind: str = ""
    issuer: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    ca: str = ""
    scopes: str = ""
    # Whoever signed in may see runs without the view token.
    grants_view: bool = False


@dataclass(frozen=True)
class Settings:
    """All that the server is told. Secrets are kept out of repr()."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    publish_token: str = field(default="", repr=False)
    view_token: str = field(default="", repr=False)
    tls_cert: str = ""
    tls_key: str = ""
    allow_plain: bool = False
    public_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    history: str = field(default="", repr=False)  # a URL may hold a password
    namespace: str = DEFAULT_NAMESPACE
    kube_api: str = ""
    kube_ca: str = ""
    kubeconfig: str = ""
    login: LoginSettings = field(default_factory=LoginSettings)
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def scheme(self) -> str:
        return "https" if self.tls_cert else "http"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context, or None for plain HTTP. Raises SettingsError."""
        return server_context(self.tls_cert, self.tls_key) if self.tls_cert else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read KUBEFERRY_* (and EXPRESS_PORT, KUBECONFIG). Raises SettingsError."""

    def text(name: str, default: str = "") -> str:
        return environment.get(f"KUBEFERRY_{name}", "").strip() or default

    origins = tuple(origin.rstrip("/") for origin in text("ALLOWED_ORIGINS").replace(",", " ").split())
    login = LoginSettings(
        kind=text("LOGIN", "oidc" if text("OIDC_ISSUER") else ""),
        issuer=text("OIDC_ISSUER"),
        client_id=text("OIDC_CLIENT_ID"),
        client_secret=_secret(environment, "OIDC_CLIENT_SECRET"),
        ca=text("OIDC_CA"),
        scopes=text("OIDC_SCOPES"),
        grants_view=_flag(text("LOGIN_GRANTS_VIEW")),
    )
    return Settings(
        host=text("HOST", "127.0.0.1"),
        port=_port(environment),
        publish_token=_secret(environment, "PUBLISH_TOKEN"),
        view_token=_secret(environment, "VIEW_TOKEN"),
        tls_cert=text("TLS_CERT"),
        tls_key=text("TLS_KEY"),
        allow_plain=_flag(text("ALLOW_PLAIN")),
        public_url=text("PUBLIC_URL").rstrip("/"),
        allowed_origins=origins,
        history=text("HISTORY", default_history(environment)),
        namespace=text("NAMESPACE", DEFAULT_NAMESPACE),
        kube_api=text("KUBE_API").rstrip("/"),
        kube_ca=text("KUBE_CA"),
        kubeconfig=environment.get("KUBECONFIG", ""),
        login=login,
        limits=_numbers(Limits(), environment, "KUBEFERRY_LIMIT_"),
        retention=_numbers(Retention(), environment, "KUBEFERRY_RETENTION_"),
    )


def check(settings: Settings) -> Settings:
    """Refuse what would be unsafe, and fill in tokens where only this machine can reach the server.

    Raises SettingsError.
    """
    if not settings.is_loopback:
        _check_public(settings)
    for name, token in (("PUBLISH", settings.publish_token), ("VIEW", settings.view_token)):
        if token and len(token) < MIN_TOKEN:
            raise SettingsError(
                f"KUBEFERRY_{name}_TOKEN is shorter than {MIN_TOKEN} characters: make a longer one."
            )
    if settings.publish_token and settings.publish_token == settings.view_token:
        raise SettingsError(
            "KUBEFERRY_PUBLISH_TOKEN and KUBEFERRY_VIEW_TOKEN are the same: whoever may look could publish. Make two."
        )
    if settings.tls_key and not settings.tls_cert:
        raise SettingsError(
            "KUBEFERRY_TLS_KEY is set without KUBEFERRY_TLS_CERT: set both for TLS, or neither."
        )
    _check_history(settings.history)
    _check_urls(settings)
    return replace(
        settings,
        publish_token=settings.publish_token or secrets.token_urlsafe(24),
        view_token=settings.view_token or secrets.token_urlsafe(24),
    )


def _check_public(settings: Settings) -> None:
    where = f"KUBEFERRY_HOST={settings.host} is reachable from other machines"
    if not (settings.publish_token and settings.view_token):
        raise SettingsError(
            f"{where}: set KUBEFERRY_PUBLISH_TOKEN and KUBEFERRY_VIEW_TOKEN, or listen on 127.0.0.1."
        )
    if not settings.tls_cert and not settings.allow_plain:
        raise SettingsError(
            f"{where}, and tokens could be read on the way: set KUBEFERRY_TLS_CERT and KUBEFERRY_TLS_KEY, or "
            "KUBEFERRY_ALLOW_PLAIN=1 where a proxy in front ends TLS."
        )


def _check_history(history: str) -> None:
    """Refuse a URL that nothing here can open: taken for a file, it would put its password into a directory's name."""
    scheme, is_url, _rest = history.partition("://")
    if is_url and scheme.lower() not in HISTORY_SCHEMES:
        raise SettingsError(
            "KUBEFERRY_HISTORY is a URL of no known kind: give one that begins with redis://, rediss:// or unix://, or "
            "the path of a file."
        )


def _check_urls(settings: Settings) -> None:
    for name, url in (
        ("PUBLIC_URL", settings.public_url),
        ("KUBE_API", settings.kube_api),
        ("OIDC_ISSUER", settings.login.issuer),
    ):
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
            raise SettingsError(f"KUBEFERRY_{name} is no http or https URL.")
        if name == "PUBLIC_URL" and (parts.path or parts.query or parts.fragment):
            raise SettingsError(
                f"KUBEFERRY_PUBLIC_URL={url} goes beyond a host name: the page works at the root of one alone, such as "
                "https://events.example.com. Give the server a name of its own."
            )
        if name != "PUBLIC_URL" and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise SettingsError(
                f"KUBEFERRY_{name} is plain http: tokens would be readable on the way. Use https."
            )
    if settings.login.kind not in LOGIN_KINDS:
        raise SettingsError("KUBEFERRY_LOGIN is neither oidc nor openshift; leave it empty for no login.")
    if settings.login.kind and not settings.login.client_id:
        raise SettingsError(
            "KUBEFERRY_LOGIN needs KUBEFERRY_OIDC_CLIENT_ID, the client's name at the issuer."
        )
    if settings.login.kind == "oidc" and not settings.login.issuer:
        raise SettingsError("KUBEFERRY_LOGIN=oidc needs KUBEFERRY_OIDC_ISSUER, the issuer's URL.")


def default_history(environment: Mapping[str, str]) -> str:
    """A file below the user's state directory (XDG base directories)."""
    state = environment.get("XDG_STATE_HOME") or str(Path(environment.get("HOME", "/")) / ".local" / "state")
    return str(Path(state) / "kubeferry" / "events.db")


def _port(environment: Mapping[str, str]) -> int:
    for name in ("KUBEFERRY_PORT", "EXPRESS_PORT"):
        if value := environment.get(name, "").strip():
            if not value.isdecimal() or int(value) > 65535:
                raise SettingsError(f"{name}={value} is no port: give a number from 0 to 65535.")
            return int(value)
    return DEFAULT_PORT


def _flag(value: str) -> bool:
    return value.lower() in ("1", "true", "yes", "on")


def _secret(environment: Mapping[str, str], name: str) -> str:
    """KUBEFERRY_<name>, or the content of the file that KUBEFERRY_<name>_FILE names."""
    if value := environment.get(f"KUBEFERRY_{name}", "").strip():
        return value
    path = environment.get(f"KUBEFERRY_{name}_FILE", "").strip()
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"KUBEFERRY_{name}_FILE={path} can't be read: {error}") from error


def _numbers(defaults: T, environment: Mapping[str, str], prefix: str) -> T:
    values: dict[str, Any] = {}
    for item in fields(defaults):
        text = environment.get(f"{prefix}{item.name.upper()}", "").strip()
        if not text:
            continue
        kind = type(getattr(defaults, item.name))
        try:
            value = kind(text)
        except ValueError:
            raise SettingsError(f"{prefix}{item.name.upper()}={text} is no number.") from None
        if value <= 0:
            raise SettingsError(f"{prefix}{item.name.upper()}={text} must be above 0.")
        values[item.name] = value
    return replace(defaults, **values)
