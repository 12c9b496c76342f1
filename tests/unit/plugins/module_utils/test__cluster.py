# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials and connections, against a server on loopback and with kubeconfigs of every sort."""

from __future__ import annotations

import base64
import os
import signal
import socket
import stat
import sys
import tempfile
import threading
import time

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from execfaults import Fault
from execserver import ExecServer
from fakeapi import status
from kubernetes.config import incluster_config, kube_config
from tlskit import self_signed

from ansible_collections.kubeferry.pvc.plugins.module_utils import _credential_plugin, _token_file
from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster import auth_of, connect
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ConnectionLost,
    Interrupted,
    Unauthorized,
    Unreachable,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._interrupt import interruptible
from ansible_collections.kubeferry.pvc.plugins.module_utils._runner import output


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch, tmp_path):
    """Neither this machine's kubeconfig nor its variables."""
    for name in ("HOST", "API_KEY", "KUBECONFIG", "CONTEXT", "VERIFY_SSL", "SSL_CA_CERT", "PROXY"):
        monkeypatch.delenv(f"K8S_AUTH_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # `kubernetes` reads KUBECONFIG when it is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / ".kube" / "config"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return _certificate(tmp_path_factory.mktemp("tls") / "server.pem")


def _certificate(path):
    key = ec.generate_private_key(ec.SECP256R1())
    made = self_signed(
        key,
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def kubeconfig(path, server, user, **cluster):
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "there", "context": {"cluster": "c", "user": "u"}},
        ],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_tls_is_verified_in_both_ways(certificate, tmp_path):
    data = bytes(range(256)) * 8000
    with ExecServer(tls=certificate) as server:
        cluster = server.cluster()
        assert cluster.warnings == []
        assert cluster.get_pod("ns", "pod")["status"]["phase"] == "Running"
        assert output(cluster.runner("ns", "pod"), ["cat"], stdin=data)[:2] == (0, data)

        stranger = connect({**server.auth(), "ca_cert": str(_certificate(tmp_path / "other.pem"))})
        with pytest.raises(Unreachable, match=r"can't be verified.*ca_cert"):
            stranger.get_pod("ns", "pod")
        with pytest.raises(Unreachable, match=r"can't be verified.*ca_cert"):
            output(stranger.runner("ns", "pod"), ["true"])


def test_a_certificate_for_another_name_is_refused_in_both_ways(certificate):
    with ExecServer(tls=certificate) as server:
        elsewhere = connect({**server.auth(), "host": server.url.replace("127.0.0.1", "localhost")})
        for work in (
            lambda: elsewhere.get_pod("ns", "pod"),
            lambda: output(elsewhere.runner("ns", "pod"), ["true"]),
        ):
            with pytest.raises(
                Unreachable, match=r"can't be verified: .*(mismatch|match|another name).*check host"
            ):
                work()


def test_new_connections_need_no_certificate_files(certificate, tmp_path):
    copy = tmp_path / "copy.pem"
    copy.write_bytes(certificate.read_bytes())
    with ExecServer(tls=certificate) as server:
        cluster = connect({**server.auth(), "ca_cert": str(copy)})
        copy.unlink()
        cluster.get_pod("ns", "pod")
        cluster.forget_connections()
        cluster.get_pod("ns", "pod")
        assert output(cluster.runner("ns", "pod"), ["true"])[0] == 0


def test_no_file_of_a_kubeconfigs_certificates_is_left_for_a_kill(certificate, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "others").touch()
    monkeypatch.setattr(kube_config, "_temp_files", {"others": str(tmp_path / "others")})
    authority = base64.b64encode(certificate.read_bytes()).decode()
    with ExecServer(tls=certificate) as server:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {"name": "c", "cluster": {"server": server.url, "certificate-authority-data": authority}}
            ],
            "users": [{"name": "u", "user": {"token": server.auth()["api_key"]}}],
        }
        for _time in range(2):
            cluster = connect({"kubeconfig": kubeconfig})
            assert os.listdir(tmp_path) == ["others"]
            cluster.get_pod("ns", "pod")


def test_tls_without_verification_works_and_warns_once(certificate):
    with ExecServer(tls=certificate) as server:
        cluster = connect({"host": server.url, "api_key": "t", "validate_certs": False})
        assert output(cluster.runner("ns", "pod"), ["true"])[0] == 0
        cluster.get_pod("ns", "pod")
    assert len(cluster.warnings) == 1
    assert "validate_certs" in cluster.warnings[0]


def test_a_variable_that_turns_verification_off_is_named(certificate, monkeypatch):
    monkeypatch.setenv("K8S_AUTH_VERIFY_SSL", "False")
    (warning,) = connect({"host": "https://127.0.0.1:1", "api_key": "t"}).warnings
    assert "K8S_AUTH_VERIFY_SSL is off" in warning
    # An endpoint with a host of its own doesn't heed the environment.
    assert connect({}, {"host": "https://127.0.0.1:1", "api_key": "t"}).warnings == []


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("http://api.example.com:8080", True),
        ("http://192.0.2.1", True),
        ("http://127.0.0.1:8001", False),
        ("http://[::1]:8001", False),
        ("http://localhost:8001", False),
        ("https://192.0.2.1", False),
    ],
)
def test_what_goes_in_the_clear_is_warned_of(host, warned):
    warnings = connect({"host": host, "api_key": "t"}).warnings
    assert [text for text in warnings if "no TLS" in text and "read the credentials" in text] == warnings
    assert len(warnings) == warned


def test_a_tls_port_that_answers_plain_http_names_the_scheme():
    """As servers in Go do."""
    said = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

    def answer():
        for _work in range(2):
            connection, _address = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, daemon=True).start()
        port = listener.getsockname()[1]
        for work in both_ways(connect({"host": f"http://127.0.0.1:{port}", "api_key": "t"})):
            with pytest.raises(Unreachable, match="speaks TLS alone; write https:// in host"):
                work()


def test_plain_http_to_a_tls_port(certificate):
    with ExecServer(tls=certificate) as server:
        cluster = connect({"host": server.url.replace("https", "http"), "api_key": "t"})
        for work in both_ways(cluster):
            with pytest.raises(
                ConnectionLost, match=r"(closed|broke).*if the server speaks TLS, write https:// in host"
            ):
                work()


def test_https_to_a_plain_port():
    with ExecServer() as server:
        cluster = connect({"host": server.url.replace("http", "https"), "api_key": "t"})
        with pytest.raises((Unreachable, ConnectionLost), match=r"scheme|closed"):
            output(cluster.runner("ns", "pod"), ["true"])


def test_token_and_impersonation_go_with_every_request():
    options = {"impersonate_user": "alice", "impersonate_groups": ["a", "b"]}
    with ExecServer() as server:
        cluster = connect({**server.auth(), **options})
        cluster.get_pod("ns", "pod")
        output(cluster.runner("ns", "pod"), ["true"])
        for headers in (server.api.requests[-1][3], server.execs[-1].headers):
            assert headers["authorization"] == "Bearer a-token"
            assert headers["impersonate-user"] == "alice"
            assert headers["impersonate-group"] == "a,b"


BAD_TOKENS = [
    "s3cret-a\ns3cret-b",
    "s3cret\r\nImpersonate-User: admin",
    "s3cret…",
    "s3cret two",
    "s3cret\0",
    "\n",
]


def both_ways(cluster):
    return (lambda: cluster.get_pod("ns", "pod"), lambda: output(cluster.runner("ns", "pod"), ["true"]))


def assert_nothing_is_sent(server, options, words):
    cluster = connect(options)
    for work in both_ways(cluster):
        with pytest.raises(UsageError, match=words) as caught:
            work()
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not server.execs
    assert not server.api.requests


@pytest.mark.parametrize(("given", "lacks"), [("client_cert", "client_key"), ("client_key", "client_cert")])
def test_a_certificate_without_a_key_and_a_key_without_a_certificate(tmp_path, given, lacks):
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"token": "t"})
    for options in ({"host": "https://127.0.0.1:1"}, {"kubeconfig": path}):
        with pytest.raises(UsageError, match=f"^{given} is given without {lacks}: give both"):
            connect({**options, given: "file.pem"})


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_a_token_that_is_none_is_named_by_where_it_comes_from_and_not_sent(tmp_path, monkeypatch, token):
    file = tmp_path / "token"
    file.write_text(token)
    with ExecServer() as server:
        assert_nothing_is_sent(server, {"host": server.url, "api_key": token}, "^api_key ")
        for user in ({"token": token}, {"tokenFile": str(file)}):
            path = kubeconfig(tmp_path / "config", server.url, user)
            assert_nothing_is_sent(
                server, {"kubeconfig": path}, f"^The token of kubeconfig config in {tmp_path} "
            )
        if "\0" not in token:
            monkeypatch.setenv("K8S_AUTH_API_KEY", token)
            assert_nothing_is_sent(server, {"host": server.url}, "^K8S_AUTH_API_KEY ")


def test_a_token_file_may_end_in_a_line_break(tmp_path):
    file = tmp_path / "token"
    file.write_text("a-token\n")
    with ExecServer() as server:
        cluster = connect(
            {"kubeconfig": kubeconfig(tmp_path / "config", server.url, {"tokenFile": str(file)})}
        )
        cluster.get_pod("ns", "pod")
        output(cluster.runner("ns", "pod"), ["true"])
        for headers in (server.api.requests[-1][3], server.execs[-1].headers):
            assert headers["authorization"] == "Bearer a-token"


@pytest.mark.parametrize("value", ["alice\r\nX-Evil: 1", "ünï", " alice", "\0"])
def test_an_impersonated_name_that_no_header_takes(value):
    with ExecServer() as server:
        assert_nothing_is_sent(server, {**server.auth(), "impersonate_user": value}, "^impersonate_user ")
        options = {**server.auth(), "impersonate_user": "alice", "impersonate_groups": ["a", value]}
        assert_nothing_is_sent(server, options, "^impersonate_groups ")


EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}


@pytest.mark.parametrize(
    "user", [{"token": "of-the-file"}, {"username": "a", "password": "b"}, {"exec": EXEC}, {}], ids=str
)
def test_a_token_that_is_given_takes_the_place_of_what_the_kubeconfig_has(tmp_path, user):
    with ExecServer() as server:
        path = kubeconfig(tmp_path / "config", server.url, user)
        for task, endpoint in (
            ({"kubeconfig": path, "api_key": "given"}, None),
            ({"kubeconfig": path}, {"api_key": "given"}),
            ({}, {"kubeconfig": path, "api_key": "given"}),
            ({"kubeconfig": path, "api_key": "of-the-task"}, {"context": "there", "api_key": "given"}),
        ):
            for work in both_ways(connect(task, endpoint)):
                work()
            for headers in (server.api.requests[-1][3], server.execs[-1].headers):
                assert headers["authorization"] == "Bearer given"


def test_a_token_that_is_given_takes_the_place_of_a_certificate(certificate, tmp_path, monkeypatch):
    file = str(certificate)
    authority = {"certificate-authority": file}
    user = {"client-certificate": file, "client-key": file}
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", user, **authority)
    given = {"client_cert": file, "client_key": file}

    def certificate_of(*options):
        return connect(*options)._configuration.cert_file

    assert certificate_of({"kubeconfig": path}) == file
    assert certificate_of({"kubeconfig": path, "api_key": "t"}) is None
    assert certificate_of({"kubeconfig": path, **given}, {"api_key": "t"}) is None
    assert certificate_of({"kubeconfig": path, "api_key": "t", **given}) == file
    monkeypatch.setenv("K8S_AUTH_CERT_FILE", file)
    monkeypatch.setenv("K8S_AUTH_KEY_FILE", file)
    assert certificate_of({"host": "https://127.0.0.1:1", "api_key": "t"}) is None


def test_a_token_in_a_variable_leaves_what_the_kubeconfig_has(tmp_path, monkeypatch):
    monkeypatch.setenv("K8S_AUTH_API_KEY", "of-the-environment")
    for user, token in (({"token": "of-the-file"}, "of-the-file"), ({}, "of-the-environment")):
        path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", user)
        assert dict(connect({"kubeconfig": path})._headers())["Authorization"] == f"Bearer {token}"


def test_user_and_password_may_be_any_text():
    with ExecServer() as server:
        connect({"host": server.url, "username": "ü", "password": "pä…s"}).get_pod("ns", "pod")
        sent = server.api.requests[-1][3]["authorization"].removeprefix("Basic ")
        assert base64.b64decode(sent).decode() == "ü:pä…s"


def test_a_broken_kubeconfig_isnt_quoted(tmp_path):
    settings = {"a-secret": "s3cret", "expiry": "2999-01-01T00:00:00Z", "access-token": None}
    user = {"auth-provider": {"config": settings, "name": "gcp"}}
    with pytest.raises(UsageError, match="Expected key access-token") as caught:
        connect({"kubeconfig": kubeconfig(tmp_path / "config", "https://127.0.0.1:1", user)})
    assert "s3cret" not in str(caught.value)


def test_a_credential_plugin_is_asked_again_when_its_token_has_expired(tmp_path):
    count = tmp_path / "count"
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib\n"
        f"path = pathlib.Path({str(count)!r})\n"
        "number = len(path.read_text()) if path.exists() else 0\n"
        "path.write_text('x' * (number + 1))\n"
        "status = {'token': f'token-{number}', 'expirationTimestamp': '2020-01-01T00:00:00Z'}\n"
        "version = 'client.authentication.k8s.io/v1'\n"
        "print(json.dumps({'apiVersion': version, 'kind': 'ExecCredential', 'status': status}))\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    with ExecServer() as server:
        runner = connect({"kubeconfig": kubeconfig(tmp_path / "config", server.url, user)}).runner(
            "ns", "pod"
        )
        for _number in range(2):
            output(runner, ["true"])
        tokens = [entry.headers["authorization"] for entry in server.execs]
        assert len(set(tokens)) == 2


def replace_token(file, token):
    (file.parent / "new").write_text(token)
    os.replace(file.parent / "new", file)


@pytest.fixture
def by_token_file(tmp_path, monkeypatch):
    """A cluster of a kubeconfig's `tokenFile`, and one as in a pod, and the file."""
    file = tmp_path / "token"
    file.write_text("first")
    authority = tmp_path / "ca.crt"
    _certificate(authority)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(file))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    # A relative path counts from the kubeconfig's directory.
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"tokenFile": "token"})
    return [connect({"kubeconfig": path}), connect({})], file


def tokens(clusters):
    return [dict(cluster._headers())["Authorization"].removeprefix("Bearer ") for cluster in clusters]


def test_a_token_file_is_read_anew_each_minute(by_token_file, monkeypatch):
    clusters, file = by_token_file
    now = time.monotonic()
    monkeypatch.setattr(_token_file.time, "monotonic", lambda: now)
    replace_token(file, "second")
    assert tokens(clusters) == ["first", "first"]
    now += _token_file.SECONDS
    assert tokens(clusters) == ["second", "second"]
    now += _token_file.SECONDS
    file.write_text("")
    assert tokens(clusters) == ["second", "second"]
    file.unlink()
    assert tokens(clusters) == ["second", "second"]
    file.write_text("third")
    assert tokens(clusters) == ["third", "third"]


def test_a_token_beside_a_token_file_counts(tmp_path):
    (tmp_path / "token").write_text("of-the-file")
    user = {"tokenFile": "token", "token": "beside-it"}
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", user)
    assert tokens([connect({"kubeconfig": path})]) == ["beside-it"]


def test_a_token_that_was_replaced_just_now_is_read_before_a_refusal_counts(tmp_path):
    file = tmp_path / "token"

    def refuse(server):
        server.behave()
        server.api.refuse["get", "pods"] = [(401, status(401, "Unauthorized"))]
        server.inject(Fault("refuse", code=401, message="Unauthorized"))

    with ExecServer() as server:
        path = kubeconfig(tmp_path / "config", server.url, {"tokenFile": str(file)})
        for number, sent in enumerate(
            (
                lambda: [headers for _method, _target, _body, headers in server.api.requests],
                lambda: [entry.headers for entry in server.execs],
            )
        ):
            file.write_text("old")
            work = both_ways(connect({"kubeconfig": path}))[number]
            refuse(server)
            replace_token(file, "new")
            work()
            assert [each["authorization"] for each in sent()[-2:]] == ["Bearer old", "Bearer new"]
            refuse(server)
            before = len(sent())
            with pytest.raises(Unauthorized, match="doesn't accept the credentials"):
                work()
            assert len(sent()) == before + 1  # the same token isn't sent again


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "it can't be started"),
        ("echo s3cret >&2; exit 3", "it ended with status 3"),
        ("echo s3cret", "it printed no credential"),
        (
            'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "s3cret"}\'',
            "it printed no credential",
        ),
    ],
)
def test_a_credential_plugin_that_fails_is_named(tmp_path, monkeypatch, script, words):
    plugin = tmp_path / "plugin"
    if script:
        plugin.write_text(f"#!/bin/sh\n{script}\n")
        plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"exec": entry})
    said = f"^The credential plugin of user u in kubeconfig config in {tmp_path} failed, for {words}: run it"
    with pytest.raises(Unauthorized, match=said) as caught:
        connect({"kubeconfig": path})
    with pytest.raises(Unauthorized, match="plugin of user u in kubeconfig failed"):
        connect({"kubeconfig": yaml.safe_load((tmp_path / "config").read_text())})
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", path)
    with pytest.raises(Unauthorized, match="plugin of user u in kubeconfig failed"):
        connect({"context": "there"})
    assert "s3cret" not in str(caught.value)
    # Credentials beside it make do without it.
    assert connect({"kubeconfig": path, "api_key": "t"}).server == "127.0.0.1:1"


def hanging(tmp_path):
    """A kubeconfig whose plugin gives no answer, and the file that has the id of what the plugin waits for."""
    plugin, pid = tmp_path / "plugin", tmp_path / "pid"
    plugin.write_text(f"#!/bin/sh\nsleep 30 &\necho $! >{pid}\nwait\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    return kubeconfig(
        tmp_path / "config", "https://127.0.0.1:1", {"exec": {**EXEC, "command": str(plugin)}}
    ), pid


def assert_ends(pid):
    for _attempt in range(100):
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("it goes on")


def test_a_credential_plugin_that_hangs_is_named_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(_credential_plugin, "SECONDS", 2)
    path, pid = hanging(tmp_path)
    said = f"failed, for its command {tmp_path}/plugin hasn't answered for 2 s: run it by itself"
    with pytest.raises(Unauthorized, match=said):
        connect({"kubeconfig": path})
    assert_ends(pid)


def test_a_signal_ends_a_credential_plugin(tmp_path):
    path, pid = hanging(tmp_path)

    def end_it():
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    def work():
        with interruptible():
            connect({"kubeconfig": path})

    threading.Thread(target=end_it).start()
    with pytest.raises(Interrupted):
        work()
    assert_ends(pid)


def test_credentials_that_cannot_be_renewed():
    def hook(config):
        raise OSError(2, "No such file", "/var/run/secrets/token")

    with ExecServer() as server:
        cluster = server.cluster()
        cluster._configuration.refresh_api_key_hook = hook
        for work in (
            lambda: cluster.get_pod("ns", "pod"),
            lambda: output(cluster.runner("ns", "pod"), ["true"]),
        ):
            with pytest.raises(Unauthorized, match="renewed"):
                work()


def test_a_signal_while_credentials_are_renewed():
    cluster = connect({"host": "https://127.0.0.1:1", "api_key": "t"})

    def hook(config):
        raise Interrupted("SIGTERM ended the task")

    cluster._configuration.refresh_api_key_hook = hook
    for work in both_ways(cluster):
        with pytest.raises(Interrupted):
            work()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no usable kubeconfig"),
        ("{{{", "isn't a valid kubeconfig"),
        ("[]", r"isn't a valid kubeconfig \(it is no mapping with clusters, contexts and users\)"),
        ("just text", "isn't a valid kubeconfig"),
        ("", r"isn't a valid kubeconfig \(file is empty\): check"),
        ("apiVersion: v1\nkind: Config\n", "names no current context that it has: mend the file"),
        ("users: [{name: u, user: {token: s3cret-token}}]\ncontexts: 5\n", "kubeconfig"),
    ],
)
def test_unusable_kubeconfigs_are_named_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        connect({"kubeconfig": str(path)})
    assert f"kubeconfig config in {tmp_path}" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ({"tokenFile": "/nope/token"}, "token in /nope"),
        ({"client-certificate": "/nope/one", "client-key": "/nope/two"}, "one in /nope"),
        ({"tokenFile": "token"}, "token in {0}"),
    ],
)
def test_a_file_that_a_kubeconfig_names_and_that_is_missing(tmp_path, user, name):
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", user)
    with pytest.raises(UsageError) as caught:
        connect({"kubeconfig": path})
    assert str(caught.value) == (
        f"The kubeconfig config in {tmp_path} names {name.format(tmp_path)}, which can't be read (No such file or "
        "directory): correct it there."
    )


@pytest.mark.parametrize("users", [[], [{"name": "other", "user": {"token": "t"}}], None])
def test_a_context_whose_user_is_not_there(tmp_path, users):
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {})
    assert connect({"kubeconfig": path}).server == "127.0.0.1:1"
    content = {**yaml.safe_load((tmp_path / "config").read_text()), "users": users}
    (tmp_path / "config").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=f"^The kubeconfig config in {tmp_path} has no user 'u', which"):
        connect({"kubeconfig": path})
    with pytest.raises(UsageError, match=r"^The kubeconfig has no user 'u', which"):
        connect({"kubeconfig": content})
    with pytest.raises(UsageError, match=r"has no user 'u'"):
        connect({"kubeconfig": {key: value for key, value in content.items() if key != "users"}})
    assert connect({"kubeconfig": path, "api_key": "t"}).server == "127.0.0.1:1"


def test_a_kubeconfig_that_is_a_directory(tmp_path, monkeypatch):
    with pytest.raises(
        UsageError, match=f"^The kubeconfig {tmp_path.name} in .* is a directory: give a file"
    ):
        connect({"kubeconfig": str(tmp_path)})
    monkeypatch.setenv("KUBECONFIG", f"/nope:{tmp_path}")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", f"/nope:{tmp_path}")
    with pytest.raises(UsageError, match="is a directory: give a file"):
        connect({})


def test_a_relative_path_is_named_with_the_directory_that_it_counts_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("K8S_AUTH_KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBECONFIG", "made/config")
    with pytest.raises(UsageError) as caught:
        connect({})
    expected = f"no usable kubeconfig config in {tmp_path}/made, where Ansible runs this module: give its absolute path"
    assert expected in str(caught.value)


def test_an_unknown_context_is_named(tmp_path):
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"token": "t"})
    assert connect({"kubeconfig": path, "context": "there"}).server == "127.0.0.1:1"
    with pytest.raises(UsageError, match="no context 'nowhere'"):
        connect({"kubeconfig": path, "context": "nowhere"})


def test_no_settings_at_all():
    with pytest.raises(UsageError, match="give host and api_key"):
        connect({})


def test_a_kubeconfig_that_is_no_text(tmp_path):
    (tmp_path / "config").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"isn't a valid kubeconfig \(it is no text\)"):
        connect({"kubeconfig": str(tmp_path / "config")})


def test_certificates_that_are_none_or_another_ones(certificate, tmp_path):
    here = {"host": "https://127.0.0.1:1", "api_key": "t", "ca_cert": str(certificate)}
    other = str(_certificate(tmp_path / "other.pem"))
    with pytest.raises(UsageError, match=r"\(the key isn't the certificate's\)"):
        connect({**here, "client_cert": str(certificate), "client_key": other})
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(
        UsageError, match=r"ca_cert .*junk can't be used .*\(there is no PEM certificate in it\)"
    ):
        connect({**here, "ca_cert": str(tmp_path / "junk")})


def test_missing_certificate_files(tmp_path):
    here, junk = {"host": "https://127.0.0.1:1", "api_key": "t"}, tmp_path / "junk"
    junk.write_text("junk")
    words = f"ca_cert {tmp_path}/none can't be used for 127.0.0.1:1 \\(No such file or directory\\): check"
    with pytest.raises(UsageError, match=words):
        connect({**here, "ca_cert": str(tmp_path / "none")})
    with pytest.raises(UsageError, match=f"client_cert {junk} with client_key {tmp_path}/none can't be used"):
        connect({**here, "client_cert": str(junk), "client_key": str(tmp_path / "none")})
    path = kubeconfig(
        tmp_path / "config", here["host"], {"token": "t"}, **{"certificate-authority": str(junk)}
    )
    with pytest.raises(UsageError, match=f"^The authority of kubeconfig config in {tmp_path} can't be used"):
        connect({"kubeconfig": path})


@pytest.mark.parametrize("key", ["kubeconfig", "context", "host", "api_key"])
def test_an_empty_option_names_nothing(tmp_path, key):
    kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"token": "of-the-file"})
    (tmp_path / ".kube").mkdir()
    (tmp_path / "config").rename(tmp_path / ".kube" / "config")
    for options in ({}, {"host": "https://h", "api_key": "a-token"}):
        for task, endpoint in (({**options, key: ""}, None), ({}, {**options, key: ""})):
            with pytest.raises(UsageError, match=f"^{key} is empty: give it, or leave it out.$"):
                connect(task, endpoint)


def test_an_empty_variable_is_none(tmp_path, monkeypatch):
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"token": "of-the-file"})
    for name in ("CONTEXT", "HOST", "API_KEY"):
        monkeypatch.setenv(f"K8S_AUTH_{name}", "")
    cluster = connect({"kubeconfig": path})
    assert cluster.server == "127.0.0.1:1"
    assert dict(cluster._headers())["Authorization"] == "Bearer of-the-file"


@pytest.mark.parametrize("given", [5, True, ["a"]])
def test_a_kubeconfig_of_another_kind(given):
    with pytest.raises(UsageError, match="neither a path nor a dictionary"):
        connect({"kubeconfig": given})


def test_a_server_that_is_no_url_is_named_by_where_it_comes_from(tmp_path, monkeypatch):
    words = "isn't the URL of an API server, for it has no scheme: write https:// in front of it."
    with pytest.raises(UsageError, match=f"^host {words}"):
        connect({"host": "127.0.0.1:6443", "api_key": "t"})
    with pytest.raises(UsageError, match=f"^The server of kubeconfig config in {tmp_path} {words}"):
        connect({"kubeconfig": kubeconfig(tmp_path / "config", "127.0.0.1:6443", {"token": "t"})})
    monkeypatch.setenv("K8S_AUTH_HOST", "127.0.0.1:6443")
    with pytest.raises(UsageError, match=f"^K8S_AUTH_HOST {words}"):
        connect({"api_key": "t"})


def test_a_proxy_that_is_no_url_is_named_by_where_it_comes_from(tmp_path, monkeypatch):
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"token": "t"}, **{"proxy-url": "nonsense"})
    words = "isn't the URL of a proxy, for it has no scheme: write http:// in front of it."
    with pytest.raises(UsageError, match=f"^proxy-url of kubeconfig config in {tmp_path} {words}"):
        connect({"kubeconfig": path})
    options = {"host": "https://127.0.0.1:1", "api_key": "t"}
    with pytest.raises(UsageError, match=f"^proxy {words}"):
        connect({**options, "proxy": "nonsense"})
    connect({**options, "proxy": "nonsense", "no_proxy": "127.0.0.1"})
    for name in ("ALL_PROXY", "HTTPS_PROXY", "K8S_AUTH_PROXY"):
        monkeypatch.setenv(name, "nonsense")
        with pytest.raises(UsageError, match=f"^{name} {words}"):
            connect(options)
        connect({**options, "proxy": ""})
        monkeypatch.delenv(name)


def test_settings_of_one_cluster_stay_out_of_the_next(certificate, tmp_path):
    path = kubeconfig(
        tmp_path / "config",
        "https://127.0.0.1:1",
        {"client-certificate": str(certificate), "client-key": str(certificate), "token": "first"},
    )
    connect({"kubeconfig": path})
    with ExecServer() as server:
        cluster = connect({"host": server.url, "username": "u", "password": "p"})
        assert cluster._configuration.cert_file is None
        cluster.get_pod("ns", "pod")
        assert server.api.requests[-1][3]["authorization"].startswith("Basic ")


def test_an_endpoint_with_its_own_cluster_inherits_nothing(monkeypatch):
    monkeypatch.setenv("K8S_AUTH_API_KEY", "of-the-environment")
    monkeypatch.setenv("K8S_AUTH_HOST", "https://environment:6443")
    task = {"host": "https://task", "api_key": "of-the-task", "validate_certs": False, "proxy": "http://p:1"}
    cluster = connect(task, {"host": "https://endpoint", "api_key": "its-own", "client_cert": None})
    assert cluster.server == "endpoint"
    assert dict(cluster._headers())["Authorization"] == "Bearer its-own"
    assert cluster._configuration.verify_ssl
    assert cluster._configuration.proxy == "http://p:1"


def test_an_endpoint_with_just_a_host_gets_no_credentials_from_anywhere(tmp_path):
    kubeconfig(tmp_path / "config", "https://127.0.0.1:1", {"token": "of the file"})
    (tmp_path / ".kube").mkdir()
    (tmp_path / "config").rename(tmp_path / ".kube" / "config")
    with pytest.raises(UsageError, match="needs credentials of its own"):
        connect({"api_key": "of-the-task"}, {"host": "https://endpoint"})


def test_an_endpoint_with_a_context_uses_the_tasks_kubeconfig_only(monkeypatch, tmp_path):
    path = kubeconfig(tmp_path / "config", "https://of-the-context:1", {"token": "of-the-context"})
    monkeypatch.setenv("K8S_AUTH_API_KEY", "of-the-environment")
    for task, environment in (
        ({"kubeconfig": path, "host": "https://task"}, ""),
        ({"host": "https://task"}, path),
    ):
        monkeypatch.setenv("K8S_AUTH_KUBECONFIG", environment)
        cluster = connect(task, {"context": "there"})
        assert cluster.server == "of-the-context:1"
        assert dict(cluster._headers())["Authorization"] == "Bearer of-the-context"


def test_an_endpoint_without_settings_is_the_tasks(monkeypatch):
    monkeypatch.setenv("K8S_AUTH_API_KEY", "of-the-environment")
    cluster = connect({"host": "https://task"}, {"host": None, "path": "/"})
    assert dict(cluster._headers())["Authorization"] == "Bearer of-the-environment"
    assert auth_of({"host": "h", "api_key": "a"}, {"api_key": "b"}) == {"host": "h", "api_key": "b", "": True}


def test_a_kubeconfig_as_dictionary(tmp_path):
    path = tmp_path / "config"
    kubeconfig(path, "https://127.0.0.1:2", {"token": "t"})
    assert connect({"kubeconfig": yaml.safe_load(path.read_text())}).server == "127.0.0.1:2"


def test_a_proxy_is_used_by_both_ways():
    with ExecServer() as server, _Proxy() as proxy:
        cluster = connect({**server.auth(), "proxy": f"http://user:pass%20word@127.0.0.1:{proxy.port}"})
        assert output(cluster.runner("ns", "pod"), ["echo", "a"])[:2] == (0, b"a\n")
        assert proxy.seen[0].startswith("CONNECT 127.0.0.1:")
        assert "Proxy-Authorization: Basic" in proxy.seen[0]
        bypassed = connect(
            {**server.auth(), "proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": "127.0.0.1"}
        )
        bypassed.get_pod("ns", "pod")
        output(bypassed.runner("ns", "pod"), ["true"])
        assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("user", "headers"),
    [
        ("us%20er:p%C3%A4ss@", {}),
        ("", {"proxy_basic_auth": "us er:päss"}),
        ("other:one@", {"proxy_basic_auth": "us er:päss", "basic_auth": None, "user_agent": "x"}),
    ],
)
def test_a_proxys_password_goes_with_both_ways(certificate, user, headers):
    with ExecServer(tls=certificate) as server, _Proxy(password="us er:päss") as proxy:
        url = f"http://{user}127.0.0.1:{proxy.port}"
        cluster = connect({**server.auth(), "proxy": url, "proxy_headers": headers})
        for work in both_ways(cluster):
            work()
        assert len(proxy.seen) == 2
        stranger = connect({**server.auth(), "proxy": f"http://127.0.0.1:{proxy.port}"})
        for work in both_ways(stranger):
            with pytest.raises(
                Unreachable,
                match=r"asks for a user and a password \(HTTP 407\) and has got none, or wrong ones: give",
            ):
                work()


def test_a_header_for_the_proxy_with_a_line_break():
    options = {"host": "https://127.0.0.1:1", "api_key": "t", "proxy": "http://127.0.0.1:1"}
    with pytest.raises(UsageError, match=r"^proxy_headers.user_agent can't be sent"):
        connect({**options, "proxy_headers": {"user_agent": "a\r\nb: c"}})


def test_a_dead_proxy_is_named_by_both_ways(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cret@127.0.0.1:1")
    cluster = connect({"host": "https://api.example.com", "api_key": "t"})
    for work in both_ways(cluster):
        with pytest.raises(
            Unreachable, match=r"^The proxy 127.0.0.1:1 \(from HTTPS_PROXY\) refuses"
        ) as caught:
            work()
        assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert connect({"host": "https://api.example.com", "api_key": "t"})._way.proxy is None


def test_each_thread_has_its_own_connections():
    with ExecServer() as server:
        cluster = server.cluster()
        pools = []

        def work():
            cluster.get_pod("ns", "pod")
            pools.append(cluster._thread.pool)

        threads = [threading.Thread(target=work) for _number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len({id(pool) for pool in pools}) == 3


class _Proxy:
    """An HTTP proxy that knows CONNECT only. `password`, with a user before it, is what it asks for."""

    def __init__(self, password=""):
        self._expected = base64.b64encode(password.encode()).decode()

    def __enter__(self):
        self.seen = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *details):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client):
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            if f"Basic {self._expected}" not in head.decode() and self._expected:
                client.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
                return
            self.seen.append(head.decode())
            host, port = head.split()[1].decode().split(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                back.start()
                _pass_on(client, server)
                back.join(10)


def _pass_on(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
