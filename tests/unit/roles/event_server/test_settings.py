# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import pytest
from kubeferry_events.errors import SettingsError
from kubeferry_events.settings import check, from_environment

TOKENS = {"KUBEFERRY_PUBLISH_TOKEN": "p" * 20, "KUBEFERRY_VIEW_TOKEN": "v" * 20}


def settings(**environment):
    return check(from_environment({"HOME": "/home/me", **environment}))


def test_alone_it_listens_on_loopback_with_tokens_of_its_own():
    made = settings()
    assert (made.host, made.port, made.namespace) == ("127.0.0.1", 9000, "openshift-migration")
    assert len(made.publish_token) >= 32
    assert made.publish_token != made.view_token != settings().view_token


def test_the_port_has_two_names():
    assert settings(EXPRESS_PORT="1234").port == 1234
    assert settings(EXPRESS_PORT="1234", KUBEFERRY_PORT="4321").port == 4321


REFUSED = {
    "elsewhere without tokens": {"KUBEFERRY_HOST": "0.0.0.0", "KUBEFERRY_ALLOW_PLAIN": "1"},
    "elsewhere with one token": {
        "KUBEFERRY_HOST": "::",
        "KUBEFERRY_ALLOW_PLAIN": "1",
        "KUBEFERRY_VIEW_TOKEN": "v" * 20,
    },
    "elsewhere without TLS": {"KUBEFERRY_HOST": "0.0.0.0", **TOKENS},
    "a name that may be anywhere": {"KUBEFERRY_HOST": "example.com", **TOKENS},
    "short token": {**TOKENS, "KUBEFERRY_VIEW_TOKEN": "short"},
    "the same token twice": {**TOKENS, "KUBEFERRY_VIEW_TOKEN": "p" * 20},
    "port": {"EXPRESS_PORT": "http"},
    "a key without its certificate": {"KUBEFERRY_TLS_KEY": "key.pem"},
    "port too high": {"KUBEFERRY_PORT": "70000"},
    "login of no kind": {"KUBEFERRY_LOGIN": "ldap"},
    "login without client": {"KUBEFERRY_LOGIN": "openshift"},
    "issuer in plain text": {
        "KUBEFERRY_OIDC_ISSUER": "http://issuer.example",
        "KUBEFERRY_OIDC_CLIENT_ID": "x",
    },
    "API server in plain text": {"KUBEFERRY_KUBE_API": "http://api.example:6443"},
    "page below a path": {"KUBEFERRY_PUBLIC_URL": "https://example.com/kf/"},
    "page below a query": {"KUBEFERRY_PUBLIC_URL": "https://example.com?kf"},
    "history of no known kind": {"KUBEFERRY_HISTORY": "postgres://u:canary@db/0"},
    "history by a sentinel": {"KUBEFERRY_HISTORY": "redis+sentinel://:canary@db/0"},
    "limit that is no number": {"KUBEFERRY_LIMIT_CONNECTIONS": "many"},
    "limit of nothing": {"KUBEFERRY_LIMIT_CONNECTIONS": "0"},
    "token file that isn't there": {"KUBEFERRY_VIEW_TOKEN_FILE": "/no/such/file"},
}


@pytest.mark.parametrize("environment", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(environment):
    with pytest.raises(SettingsError) as caught:
        settings(**environment)
    assert len(str(caught.value)) > 20
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "history", ["REDIS://:pw@db/0", "rediss://db", "unix:///run/redis.sock", "/data/events.db"]
)
def test_the_history_is_a_redis_or_a_file(history):
    assert settings(KUBEFERRY_HISTORY=history).history == history


def test_the_page_is_at_the_root_of_a_name():
    assert settings(KUBEFERRY_PUBLIC_URL="https://example.com:8443/").public_url == "https://example.com:8443"


@pytest.mark.parametrize("more", [{"KUBEFERRY_ALLOW_PLAIN": "1"}, {"KUBEFERRY_TLS_CERT": "/c.pem"}])
def test_elsewhere_with_tokens_and_care(more):
    assert settings(KUBEFERRY_HOST="0.0.0.0", **TOKENS, **more).host == "0.0.0.0"


def test_tokens_from_files(tmp_path):
    (tmp_path / "token").write_text("f" * 20 + "\n")
    assert settings(KUBEFERRY_VIEW_TOKEN_FILE=str(tmp_path / "token")).view_token == "f" * 20


def test_tokens_are_not_in_its_representation():
    assert "p" * 20 not in repr(settings(**TOKENS, KUBEFERRY_OIDC_CLIENT_SECRET="canary"))
    assert "canary" not in repr(settings(**TOKENS, KUBEFERRY_OIDC_CLIENT_SECRET="canary"))
    assert "canary" not in repr(settings(**TOKENS, KUBEFERRY_HISTORY="redis://:canary@db/0"))


def test_limits_from_the_environment():
    made = settings(KUBEFERRY_LIMIT_CONNECTIONS="7", KUBEFERRY_RETENTION_DAYS="0.5")
    assert (made.limits.connections, made.retention.days) == (7, 0.5)
