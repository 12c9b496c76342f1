# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
import websocket

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _session
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._event_line import event_line
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._leftovers import Leftovers
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._session import Server, Session
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._spool import Spool

RUN = "11111111-2222-4333-8444-555555555555"
LIMIT = 10_000_000


def welcome(**more):
    return json.dumps({"type": "WELCOME", "epoch": "e", "scopes": ["publish"], **more})


def ack(**more):
    return json.dumps({"type": "ACK", "run": RUN, "pubseq": 2, **more})


class Connection:
    """What websocket-client's is to a session: answers HELLO with one text, and whatever follows with another."""

    def __init__(self, welcoming: str, answer: str) -> None:
        self._welcoming, self._answer = welcoming, answer
        # Something that can be waited for as long as there is an answer to read.
        self.sock, self._other = socket.socketpair()

    def send(self, message, opcode=None):
        if json.loads(message)["type"] == "PUBLISH":
            self._other.send(b".")

    def recv(self):
        return self._welcoming

    def recv_data_frame(self, control_frame):
        if not self.sock.recv(1):
            raise ConnectionResetError
        return websocket.ABNF.OPCODE_TEXT, websocket.ABNF.create_frame(
            self._answer, websocket.ABNF.OPCODE_TEXT
        )

    def end(self):
        self._other.close()

    def shutdown(self):
        self.sock.close()
        self.end()


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Starts a session with a spool of two events. The first connection is as given, later ones are sane."""
    spool = Spool(tmp_path / f"{RUN}.jsonl", LIMIT)
    for _number in range(2):
        spool.append(event_line("host.ok", {"task_id": "t", "host": "h"}, Redactor()))
    started, connections, crashed, over = [], [], [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", crashed.append)
    monkeypatch.setattr(_session, "BACKOFF_SECONDS", (0.3, 0.3))

    def start(welcoming=welcome(), answer=ack()):  # noqa: B008 (texts)
        def connect(url, **options):
            if over.is_set():
                raise SystemExit
            connections.append(Connection(welcome(), ack()) if connections else Connection(welcoming, answer))
            return connections[-1]

        monkeypatch.setattr(websocket, "create_connection", connect)
        started.append(Session(Server("ws://server/ws", "token"), spool, Leftovers(tmp_path / "none", LIMIT)))
        started[0].start()
        return started[0], spool

    yield start
    over.set()
    started[0].end()
    for connection in connections:
        connection.end()
    started[0].join(20)
    spool.close()
    assert [crash.exc_type for crash in crashed] == [SystemExit]


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


NONSENSE = {
    "limits that are a list": (welcome(limits=[1]), ack()),
    "scopes that are a number": (welcome(scopes=5), ack()),
    "scopes that are an object": (welcome(scopes={"publish": 1}), ack()),
    "a refusal with a code that is a list": ('{"type": "ERROR", "code": [1]}', ack()),
    "no JSON": ("<html>", ack()),
    "very deep JSON": ("[" * 100_000, ack()),
    "nothing": ("", ack()),
    "an acknowledgement of null": (welcome(), ack(pubseq=None)),
    "an acknowledgement without end": (welcome(), ack(pubseq=float("inf"))),
    "an acknowledgement below nothing": (welcome(), ack(pubseq=-5)),
    "an acknowledgement without a number": (welcome(), '{"type": "ACK"}'),
    "an error with a code that is a list": (welcome(), '{"type": "ERROR", "code": ["x"], "message": {}}'),
    "a list": (welcome(), "[1, 2]"),
}


@pytest.mark.parametrize(("welcoming", "answer"), NONSENSE.values(), ids=list(NONSENSE))
def test_nonsense_is_a_lost_connection(session, welcoming, answer):
    going, spool = session(welcoming, answer)
    wait_until(lambda: going.attempts)
    wait_until(lambda: spool.delivered)


@pytest.mark.parametrize("limit", [float("inf"), -1, 10, "many"])
def test_a_limit_that_is_none_is_left_out(session, limit):
    going, spool = session(welcome(limits={"message_bytes": limit, "events_per_message": limit}))
    wait_until(lambda: spool.delivered)
    assert going.attempts == 0


def test_an_acknowledgement_beyond_what_was_sent_proves_nothing(session):
    going, spool = session(answer=ack(pubseq=1_002))
    wait_until(lambda: spool.disputed)
    assert not spool.delivered
    assert spool.undelivered == 2
    assert going.done
    assert spool.path.exists()


def test_what_a_server_says_is_one_line_on_the_terminal(session):
    refusal = {"type": "ERROR", "code": "forbidden", "message": "no\n\x1b[2Jway" + "y" * 500}
    going, _spool = session(json.dumps(refusal))
    wait_until(lambda: going.problem)
    assert going.problem.startswith("no  [2Jway")
    assert len(going.problem) == 300


def test_why_an_event_was_refused_is_kept(session):
    refusal = {"type": "ERROR", "code": "invalid_event", "message": "Refused: too late.", "ids": [f"{RUN}:1"]}
    going, _spool = session(answer=json.dumps(refusal))
    wait_until(lambda: going.refusal)
    assert going.refusal == "Refused: too late"
    assert going.attempts == 0


ANSWERS = {
    "404 Not Found": ("", "HTTP 404 (Not Found) in place of a WebSocket: check the URL"),
    "421 Misdirected Request": ("", "give it one with KUBEFERRY_PUBLIC_URL"),
    "502 Bad Gateway": (
        "",
        "HTTP 502 (Bad Gateway) in place of a WebSocket: see whether the event server runs",
    ),
    "599 Odd": ("", "HTTP 599 in place of a WebSocket: see whether"),
    "302 Found": ("Location: https://127.0.0.1/ws\r\n", "sends on to another address"),
    "307 Temporary Redirect": ("Location: ws://127.0.0.1:{port}/other\r\n", "sends on to another address"),
}


@pytest.mark.parametrize("status", ANSWERS)
def test_an_answer_that_is_no_websocket_says_what_to_do_and_gets_no_token(tmp_path, monkeypatch, status):
    more, expected = ANSWERS[status]
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(65_536).split(b" ")[1])
                    head = f"HTTP/1.1 {status}\r\n{more.format(port=port)}Content-Length: 0\r\n\r\n"
                    connection.sendall(head.encode())

        monkeypatch.setattr(threading, "excepthook", lambda crash: None)
        monkeypatch.setattr(_session, "BACKOFF_SECONDS", (60, 60))
        threading.Thread(target=answer, daemon=True).start()
        spool = Spool(tmp_path / f"{RUN}.jsonl", LIMIT)
        going = Session(
            Server(f"ws://127.0.0.1:{port}/ws", "token"), spool, Leftovers(tmp_path / "none", LIMIT)
        )
        going.start()
        wait_until(lambda: going.attempts)
        server.shutdown(socket.SHUT_RDWR)

    def over(url, **options):
        raise SystemExit

    monkeypatch.setattr(websocket, "create_connection", over)
    going.end()
    going.join(20)
    spool.close()
    assert expected in going.problem
    assert asked == [b"/ws"]
