# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.client
import socket
import ssl

import pytest
import urllib3

from ansible_collections.kubeferry.pvc.plugins.module_utils._api_errors import broken, refused, server_says
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ClusterError,
    Conflict,
    ConnectionLost,
    Forbidden,
    NotFound,
    Throttled,
    Unauthorized,
    Unreachable,
)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (422, ClusterError),
        (429, Throttled),
        (500, Throttled),
        (503, Throttled),
    ],
)
def test_each_http_status_has_its_error(code, error):
    found = refused(code, {"message": "because"}, "reading pod a/b", "the verb get on pods")
    assert found.__class__ is error
    assert found.said == "because"
    assert str(found).startswith("Reading pod a/b ")
    assert str(found).endswith(".")


def test_the_permission_that_lacks_is_named():
    assert "the verb get on pods in namespace a" in str(
        refused(403, {}, "reading pod a/b", "the verb get on pods in namespace a")
    )


def verification(text: str, code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, text)
    error.verify_message = text
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("cause", "error", "words"),
    [
        (ConnectionRefusedError(111, "refused"), Unreachable, "refuses connections"),
        (socket.gaierror(-2, "unknown"), Unreachable, "resolved"),
        (TimeoutError(), Unreachable, "in time"),
        (
            verification("self-signed certificate", 18),
            Unreachable,
            "self-signed certificate; give its authority",
        ),
        (
            verification("IP address mismatch, 'x'.", 64),
            Unreachable,
            "mismatch, 'x'; check host and, in a kubeconfig",
        ),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), Unreachable, "scheme"),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert"), Unauthorized, "client_cert"),
        (ConnectionResetError(104, "reset"), ConnectionLost, "broke"),
        (http.client.RemoteDisconnected("closed"), ConnectionLost, "broke"),
        (OSError(113, "No route to host"), Unreachable, "No route to host"),
    ],
)
def test_the_cause_is_found_under_what_libraries_wrap_it_in(cause, error, words):
    pool = urllib3.HTTPSConnectionPool("h")
    wrapped = urllib3.exceptions.MaxRetryError(pool, "/", urllib3.exceptions.ProtocolError("failed", cause))
    for exc in (cause, wrapped):
        found = broken(exc, "api.example.com:6443")
        assert found.__class__ is error
        assert words in str(found)
        assert "api.example.com:6443" in str(found)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ConnectionRefusedError(111, "refused"), "The proxy p:1 (from X) refuses connections"),
        (socket.gaierror(-2, "unknown"), "The name of the proxy p:1 (from X) can't be resolved"),
        (TimeoutError(), "The API server h over the proxy p:1 (from X) did not answer in time"),
        (ConnectionResetError(104, "reset"), "the API server h over the proxy p:1 (from X) broke"),
        (
            OSError(113, "No route"),
            "The proxy p:1 (from X) on the way to the API server h failed (No route to host)",
        ),
        (OSError("Tunnel connection failed: 407 x"), "The proxy p:1 (from X) asks for a user and a password"),
        (OSError("Tunnel connection failed: 503 x"), "to the API server h doesn't connect (HTTP 503)"),
        (OSError("s3cret"), "to the API server h failed (OSError); check"),
    ],
)
def test_with_a_proxy_on_the_way_it_is_named(cause, words):
    said = str(broken(urllib3.exceptions.ProxyError("failed", cause), "h", "p:1 (from X)"))
    assert words in said
    assert "s3cret" not in said


def test_an_exceptions_own_text_is_never_quoted():
    for exc in (
        ValueError("Invalid header value b'Bearer s3cret'"),
        OSError("s3cret"),
        OSError(-5, "s3cret"),
    ):
        assert "s3cret" not in str(broken(exc, "api.example.com"))


def test_what_the_server_says_is_one_line_without_its_prefixes():
    text = "Internal error occurred: Internal error occurred: a\n b"
    assert server_says({"message": text}) == "a b"


def test_a_long_message_keeps_its_end_where_the_cause_is():
    error = refused(500, {"message": "x" * 1000 + " the cause."}, "reading", "nothing")
    assert "the cause)" in str(error)
    assert len(str(error)) < 600
