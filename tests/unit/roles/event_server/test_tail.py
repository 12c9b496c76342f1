# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import aiohttp
import pytest
import sample
from kubeferry_events import tail as module
from kubeferry_events.tail import Refused, Tail

WELCOME = {"type": "WELCOME", "epoch": "old"}
UNKNOWN = {"type": "ERROR", "code": "unknown_run", "message": "The history has no such run."}
UNREADABLE = {"type": "ERROR", "code": "server_error", "message": "The history can't be read now."}


class Socket:
    """Has a server's messages, one after the other, and keeps what is sent to it."""

    def __init__(self, *messages):
        self._messages = list(messages)
        self.asked = []

    async def send_json(self, message):
        if message["type"] == "SUBSCRIBE":
            self.asked.append({name: message[name] for name in ("epoch", "after_seq") if name in message})

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self._messages:
            raise StopAsyncIteration
        return SimpleNamespace(type=aiohttp.WSMsgType.TEXT, data=json.dumps(self._messages.pop(0)))


class Heard:
    """A tail of a run, what it told and what it noted."""

    def __init__(self, patience=30.0):
        self.told, self.notes = [], []
        self.run = sample.Publisher()
        self.tail = Tail("token", self.run.run, self._show, self.notes.append, patience)

    def _show(self, event):
        self.told.append(event["id"].partition(":")[2])

    def hears(self, *messages):
        """What the tail asks for over a connection on which these messages come."""
        socket = Socket(WELCOME, *messages)
        asyncio.run(self.tail.converse(socket))
        return socket.asked


def told(epoch, first_seq, *events):
    return {
        "type": "EVENTS",
        "events": [{**event, "epoch": epoch, "seq": seq} for seq, event in enumerate(events, first_seq)],
    }


def snapshot(run, resync):
    state = {"summary": {"run": run, "status": "running"}}
    return {"type": "SNAPSHOT", "run": run, "epoch": "new", "seq": 3, "state": state, "resync": resync}


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)


def moved(p, done):
    return p.event("progress", {"label": "copy", "phase": "move", "bytes": done})


def test_a_connection_goes_on_where_the_last_one_was():
    heard = Heard()
    p = heard.run
    assert heard.hears(told("old", 7, p.started(), moved(p, 1))) == [{"after_seq": 0}]
    assert heard.hears(told("old", 9, moved(p, 2), p.finished())) == [{"epoch": "old", "after_seq": 8}]
    assert (heard.told, heard.notes, heard.tail.status) == (["1", "1.1", "1.2", "2"], [], "ok")


def test_another_history_is_told_without_what_was_told_before():
    heard = Heard()
    p = heard.run
    first = [p.started(), *p.task("t", "Talk", {"a": "ok"}), moved(p, 1)]
    heard.hears(told("old", 100, *first))
    late = [moved(p, 2), p.finished()]
    asked = heard.hears(snapshot(p.run, "epoch_changed"), told("new", 1, *first, *late))
    assert asked == [{"epoch": "old", "after_seq": 104}, {"after_seq": 0}]
    assert heard.told == ["1", "2", "3", "4", "4.1", "4.2", "5"]
    assert heard.notes == ["the server's history is another one: what it had before may be missing here"]


def test_what_nobody_has_any_more_is_named():
    heard = Heard()
    p = heard.run
    first = p.started()
    heard.hears(told("old", 100, first))
    p.pubseq += 4
    about = {"reason": "server_lost_history", "count": 5, "first_pubseq": 1, "last_pubseq": 5}
    gap = {**first, "id": f"{p.run}:5", "pubseq": 5, "type": "kubeferry.v1.gap", "data": about}
    p.pubseq += 2
    heard.hears(UNKNOWN, told("new", 1, gap, p.finished()))
    assert heard.told == ["1", "5", "8"]
    assert heard.notes[1:] == ["of this run's events, number 6 to 7 did not arrive"]


def test_a_gap_that_stands_for_what_was_told_is_not_told():
    heard = Heard()
    p = heard.run
    events = [p.started(), *p.task("t", "Talk", {"a": "ok"})]
    heard.hears(told("old", 100, *events))
    about = {"reason": "server_lost_history", "count": 4, "first_pubseq": 1, "last_pubseq": 4}
    gap = {**events[3], "type": "kubeferry.v1.gap", "data": about}
    heard.hears(UNKNOWN, told("new", 1, gap, p.finished()))
    assert heard.told == ["1", "2", "3", "4", "5"]
    assert len(heard.notes) == 1


@pytest.mark.parametrize("refusal", [UNKNOWN, UNREADABLE])
def test_a_run_that_was_there_is_asked_for_again(refusal):
    heard = Heard()
    p = heard.run
    heard.hears(told("old", 7, p.started()))
    asked = heard.hears(refusal, refusal, refusal, told("new", 1, p.finished()))
    assert asked == [{"epoch": "old", "after_seq": 7}, *[{"after_seq": 0}] * 3]
    assert (heard.told, heard.tail.status) == (["1", "2"], "ok")
    (note,) = heard.notes
    assert note.endswith("Asking again for 30 s.")


def test_patience_ends_over_any_number_of_connections():
    heard = Heard(patience=0.03)
    heard.hears(told("old", 7, heard.run.started()))
    with pytest.raises(Refused, match=r"has no such run now.* It stayed so for 0.03 s\."):
        all(heard.hears(UNKNOWN) for _connection in range(10))
    assert len(heard.notes) == 1


def test_a_run_that_never_was_is_refused_at_once():
    heard = Heard()
    with pytest.raises(Refused, match=r"^The history has no such run\.$"):
        heard.hears(UNKNOWN)
    assert heard.notes == []
