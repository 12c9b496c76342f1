# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The options that say which cluster and who: those of `kubernetes.core`, which a unit test holds them to.

Described here once more, so that the documentation can be made where `kubernetes.core` isn't installed, as
Galaxy's importer and documentation builders do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

AUTH_ARG_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "raw", "no_log": True},
    "context": {},
    "host": {},
    "api_key": {"no_log": True},
    "username": {},
    "password": {"no_log": True},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "aliases": ["key_file"]},
    "proxy": {"type": "str"},
    "no_proxy": {"type": "str"},
    "proxy_headers": {
        "type": "dict",
        "options": {
            "proxy_basic_auth": {"type": "str", "no_log": True},
            "basic_auth": {"type": "str", "no_log": True},
            "user_agent": {"type": "str"},
        },
    },
    "persist_config": {"type": "bool"},
    "impersonate_user": {},
    "impersonate_groups": {"type": "list", "elements": "str"},
}

_TEXT: dict[str, str] = {
    "kubeconfig": "A kubeconfig, as a path or as a dictionary.",
    "context": "The context to use of the kubeconfig.",
    "host": "The URL of the API server.",
    "api_key": (
        "The bearer token. It takes the place of what the kubeconfig has of its user, which a token in a variable "
        "doesn't."
    ),
    "username": "The user's name, for a cluster with HTTP basic authentication.",
    "password": "The password of O({0}username).",
    "validate_certs": "Whether to verify the API server's certificate.",
    "ca_cert": "The file of the authority that signed the API server's certificate.",
    "client_cert": "The file of the client certificate.",
    "client_key": "The file of the client certificate's key.",
    "proxy": (
        "The URL of a proxy on the way to the API server, V(http://) or V(socks5://), with user and password if it "
        "asks for them. Where neither it nor the kubeconfig names one, C(HTTPS_PROXY) and C(ALL_PROXY) count."
    ),
    "no_proxy": (
        "Hosts that are reached without the proxy, separated by commas. If it isn't given, C(NO_PROXY) counts."
    ),
    "proxy_headers": "Headers for the proxy.",
    "persist_config": "Whether to save refreshed tokens in the kubeconfig.",
    "impersonate_user": "The user to act as.",
    "impersonate_groups": "The groups to act as.",
    "proxy_headers.proxy_basic_auth": "User and password for the proxy, separated by a colon.",
    "proxy_headers.basic_auth": (
        "User and password that the proxy gets as C(Authorization), separated by a colon; not with commands in pods."
    ),
    "proxy_headers.user_agent": "The name that the proxy gets of this client; not with commands in pods.",
}
# The environment variables whose names don't follow from the options'.
_VARIABLE = {
    "validate_certs": "VERIFY_SSL",
    "ca_cert": "SSL_CA_CERT",
    "client_cert": "CERT_FILE",
    "client_key": "KEY_FILE",
}


def auth_text(key: str, endpoint: str = "") -> str:
    """What an option means: the task's, or that of the endpoint with this name."""
    return _TEXT[key].replace("{0}", f"{endpoint}." if endpoint else "")


def documented(spec: dict[str, Any], said: list[str], inner: dict[str, str] | None = None) -> dict[str, Any]:
    """An option of an argument specification as documentation has it; `inner` describes the options inside it."""
    entry: dict[str, Any] = {"description": said, "type": spec.get("type", "str")}
    entry.update({key: spec[key] for key in ("elements", "default", "aliases", "choices") if key in spec})
    if "options" in spec:
        entry["suboptions"] = {
            key: documented(option, [(inner or {})[key]]) for key, option in spec["options"].items()
        }
    return entry


def proxy_headers_text() -> dict[str, str]:
    """What the options inside `proxy_headers` mean."""
    return {key: _TEXT[f"proxy_headers.{key}"] for key in AUTH_ARG_SPEC["proxy_headers"]["options"]}


def auth_documentation() -> dict[str, Any]:
    """The `options` of a documentation fragment for a task's authentication."""
    return {
        key: documented(
            spec,
            [auth_text(key), f"Without it, C(K8S_AUTH_{_VARIABLE.get(key, key.upper())}) counts."],
            proxy_headers_text(),
        )
        for key, spec in AUTH_ARG_SPEC.items()
    }


_PLAIN = {
    "apiVersion",
    "kind",
    "name",
    "cluster",
    "user",
    "namespace",
    "current-context",
    "command",
    "interactiveMode",
}
"""The keys of a kubeconfig whose values tell no secret."""


def plain_words(every: list[Mapping[str, Any]]) -> set[str]:
    """The names in kubeconfigs that are dictionaries, unless they are secrets as well. `every` holds options.

    Ansible takes all that is in there for secret, and would mask the name of a cluster wherever a result has these
    letters.
    """
    secret = [name for name, spec in AUTH_ARG_SPEC.items() if spec.get("no_log") or "options" in spec]
    found = [pair for options in every for name in secret for pair in _words(options.get(name), name)]
    return {word for key, word in found if key in _PLAIN} - {word for key, word in found if key not in _PLAIN}


def _words(value: object, key: str) -> Iterator[tuple[str, str]]:
    """The texts in a value, each with the key that it stands under."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            yield from _words(each, str(inner))
    elif isinstance(value, list):
        for each in value:
            yield from _words(each, key)
    elif isinstance(value, str):
        yield key, value
