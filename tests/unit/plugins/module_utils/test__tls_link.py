# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies between two boxes over TLS on the loopback interface, and what becomes of who has no key, or no way."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import engine
import pytest
import trees
from carried import Carried
from toolbox import dying_dd, found
from trees import touched, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _tls_link
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ConnectionLost,
    HelperPodGone,
    RouteFailed,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._session_key import session_key
from ansible_collections.kubeferry.pvc.plugins.module_utils._tls_link import Receiver, TlsLink

MIB = 1 << 20
HERE = "127.0.0.1"


def link(source, target):
    return TlsLink(source, target, HERE)


@pytest.fixture(params=[("tls", "tls"), ("openssl", "tls"), ("tls", "openssl")], ids="-".join)
def pods(request, boxes, tmp_path):
    return Carried(tmp_path, *(boxes[kind] for kind in request.param), link=link)


@pytest.fixture
def pair(boxes, tmp_path):
    pods = Carried(tmp_path, boxes["tls"], boxes["openssl"], link=link)
    write(pods.source, "a", b"content of a")
    return pods


@pytest.fixture
def port(monkeypatch):
    """The port of every link."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        number = probe.getsockname()[1]
    monkeypatch.setattr(_tls_link, "PORTS", [number])
    return number


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex((HERE, port)) == 0


def test_every_kind_of_file_arrives_and_a_second_run_changes_nothing(pods):
    trees.plant(pods.source)
    outcome = pods.copy()
    assert pods.unlike() == {}
    assert engine.whole(outcome)
    assert outcome.trouble == []
    there = touched(pods.target)
    second = pods.copy()
    assert (bool(second.plan), second.bytes_moved) == (False, 0)
    assert touched(pods.target) == there


def test_large_files_and_groups_go_by_and_nothing_passes_this_process(pair):
    write(pair.source, "large", random.Random(1).randbytes(33 * MIB))
    for number in range(3):
        write(pair.source, f"dir/{number}", random.Random(number).randbytes(MIB))
    assert engine.whole(pair.copy())
    assert pair.unlike() == {}
    assert pair.spy.taken < MIB / 10


def test_the_key_is_on_no_command_line_and_in_no_environment_and_the_port_is_closed_in_the_end(
    pair, port, monkeypatch
):
    key = session_key()
    monkeypatch.setattr(_tls_link, "session_key", lambda: key)
    seen = []
    follow = _tls_link.follow

    def looking(*arguments):
        assert is_listed(port)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                seen.append((process / "cmdline").read_bytes() + (process / "environ").read_bytes())
        return follow(*arguments)

    monkeypatch.setattr(_tls_link, "follow", looking)
    assert engine.whole(pair.copy())
    assert any(b"s_server" in words for words in seen)
    assert not any(key.encode() in words for words in seen)
    assert not is_listed(port)


def is_listed(port):
    """Whether somebody listens there, found out without a connection."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


def client(port, *options):
    return [
        *(found("openssl", "openssl"), "s_client", "-quiet", "-tls1_3", "-connect", f"{HERE}:{port}"),
        *("-ciphersuites", "TLS_AES_128_GCM_SHA256", "-psk_identity", "kubeferry", *options),
    ]


@pytest.mark.parametrize("has_a_key", [False, True])
def test_who_has_no_key_or_another_one_brings_nothing_in(pair, port, tmp_path, monkeypatch, has_a_key):
    """A stranger is always the first to connect, and sends what would be an order."""
    session = tmp_path / "session"
    pem = "-----BEGIN SSL SESSION PARAMETERS-----\n{}\n-----END SSL SESSION PARAMETERS-----\n"
    session.write_text(pem.format(session_key()))
    send = pair_send = TlsLink._send

    def after_a_stranger(self, *arguments):
        subprocess.run(
            client(port, *(("-psk_session", str(session)) if has_a_key else ())),
            input=b"new ./stranger\nsize 1 @1\nend\n",
            capture_output=True,
            timeout=10,
            check=False,
        )
        return pair_send(self, *arguments)

    monkeypatch.setattr(TlsLink, "_send", after_a_stranger)
    with pytest.raises(
        RouteFailed, match="in 3 attempts, as where something else connects to each port first"
    ):
        pair.copy()
    assert not list(pair.target.rglob("stranger"))
    assert not (pair.target / "a").exists()
    monkeypatch.setattr(TlsLink, "_send", send)
    assert engine.whole(pair.copy())


@pytest.mark.parametrize("stays", [False, True])
def test_who_connects_just_once_costs_another_port(pair, monkeypatch, stays):
    """Such as a scanner of ports, which may hang up at once or never."""
    monkeypatch.setattr(_tls_link, "CONNECT_SECONDS", 3)
    send = TlsLink._send
    strangers = []

    def after_a_stranger(self, receiver, orders):
        if not strangers:
            host, _colon, port = receiver.at.partition(":")
            strangers.append(socket.create_connection((host, int(port))))
            if not stays:
                strangers[0].close()
        return send(self, receiver, orders)

    monkeypatch.setattr(TlsLink, "_send", after_a_stranger)
    outcome = pair.copy()
    strangers[0].close()
    assert engine.whole(outcome)
    assert (outcome.trouble, outcome.retries) == ([], 0)


def test_a_server_without_the_key_gets_nothing(boxes, tmp_path, port):
    """It has a certificate, and takes any client."""
    certificate = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "1",
            ),
            *("-subj", "/CN=127.0.0.1", "-keyout", str(certificate), "-out", str(tmp_path / "c.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "c.pem").read_bytes())
    server = subprocess.Popen(
        ["openssl", "s_server", "-quiet", "-accept", f"{HERE}:{port}", "-tls1_3", "-cert", str(certificate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while not is_listed(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        pods = Carried(tmp_path, boxes["tls"], boxes["openssl"], link=link)
        write(pods.source, "secret", b"secret")
        places = [engine.shell(boxes["tls"], each).pieces().place for each in (pods.source, pods.target)]
        orders = [b"file ./secret\npart 0 1\nsize 6 @1\n"]
        impostor = Receiver(session_key(), f"{HERE}:{port}", _tls_link.Question(b""), None, None)
        said = TlsLink(*places, HERE)._send(impostor, orders)
        assert "certificate verify failed" in said
    finally:
        server.kill()
        out, _nothing = server.communicate(timeout=10)
    assert out == b""


def test_a_port_that_is_taken_is_left_alone_and_another_one_taken(pair, port, monkeypatch):
    with socket.create_server((HERE, port)):
        with pytest.raises(RouteFailed, match=r"can't wait for a connection: port .* is taken"):
            pair.copy()
        monkeypatch.setattr(_tls_link, "PORTS", range(30_000, 32_000))
        chosen = iter([port])
        choice = _tls_link.secrets.choice
        monkeypatch.setattr(_tls_link.secrets, "choice", lambda ports: next(chosen, None) or choice(ports))
        assert engine.whole(pair.copy())


def test_who_never_answers_is_given_up_in_time(pair, monkeypatch):
    """As behind a rule that drops packets: the connection is accepted here, and then nothing comes."""
    write(pair.source, "b", b"more than a pipe takes" * 20_000)
    monkeypatch.setattr(_tls_link, "CONNECT_SECONDS", 2)
    with socket.create_server((HERE, 0)) as silent:
        send = TlsLink._send

        def elsewhere(self, receiver, orders):
            return send(self, replace(receiver, at=f"{HERE}:{silent.getsockname()[1]}"), orders)

        monkeypatch.setattr(TlsLink, "_send", elsewhere)
        began = time.monotonic()
        with pytest.raises(
            RouteFailed, match=r"doesn't get through to .* where a NetworkPolicy forbids it: nobody answered$"
        ):
            pair.copy()
        assert time.monotonic() - began < 12
    assert not running("openssl s_server")


def running(words):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ")
            if words.encode() in line and HERE.encode() in line:
                found.append(line)
    return found


def test_a_sender_that_dies_in_the_middle_is_a_lost_connection_and_the_next_attempt_goes_on(
    boxes, tmp_path, monkeypatch
):
    monkeypatch.setattr("ansible_collections.kubeferry.pvc.plugins.module_utils._carry.GROUP_BYTES", 4 * MIB)
    pods = Carried(tmp_path, boxes["tls"], boxes["openssl"], link=link)
    write(pods.source, "large", random.Random(1).randbytes(64 * MIB))
    killed = threading.Event()
    follow = _tls_link.follow

    def dying(process, stream, target, took):
        def kill_once():
            took()
            if not killed.is_set():
                killed.set()
                for line in Path("/proc").glob("[0-9]*"):
                    with contextlib.suppress(OSError):
                        words = (line / "cmdline").read_bytes()
                        if b"s_client" in words and HERE.encode() in words:
                            subprocess.run(["kill", "-9", line.name], check=False, timeout=5)

        return follow(process, stream, target, kill_once)

    monkeypatch.setattr(_tls_link, "follow", dying)
    outcome = pods.copy()
    assert killed.is_set()
    assert engine.whole(outcome)
    assert outcome.retries == 1
    assert "ended before its end" in outcome.trouble[0]
    assert outcome.bytes_moved < 2 * 64 * MIB
    assert pods.unlike() == {}


@pytest.mark.parametrize("error", [HelperPodGone, ConnectionLost])
def test_a_sender_that_is_gone_says_nothing_of_the_way(pair, monkeypatch, error):
    monkeypatch.setattr(_tls_link, "CONNECT_SECONDS", 1)

    class Gone:
        where = "pod ns/gone"

        def start(self, *_command):
            raise error("It is gone.")

    def without_sender(source, target):
        return link(replace(source, asker=replace(source.asker, runner=Gone())), target)

    pair._link = without_sender
    with pytest.raises(error, match=r"[Ii]t is gone"):
        pair.copy(retries=0)


def test_a_broken_link_is_no_route_that_failed():
    assert issubclass(_tls_link.Broken, ConnectionLost)
    assert not issubclass(_tls_link.Broken, RouteFailed)


@pytest.mark.parametrize("end", ["source", "target"])
def test_a_dd_that_is_killed_is_a_lost_connection_at_once(tmp_path, end):
    pods = Carried(tmp_path, dying_dd(tmp_path, "tls", f"*/{end}:bs=65536\\ iflag=fullblock*"), link=link)
    for number in range(3):
        write(pods.source, f"dir/{number}", b"end\nnew ./../../../x\n" * 100_000)
    write(pods.source, "large", b"new ./../../../x\n" * (3 * MIB))
    began = time.monotonic()
    outcome = pods.copy()
    assert (tmp_path / "used").exists()
    assert engine.whole(outcome)
    assert time.monotonic() - began < _tls_link.STALL_SECONDS / 2
    assert pods.unlike() == {}
    assert not list(tmp_path.rglob("x"))
