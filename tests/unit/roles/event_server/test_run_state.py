# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sample
from kubeferry_events.run_state import RunState


def state_of(events) -> RunState:
    state = RunState(events[0]["runid"])
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    return state


def test_a_copy_in_one_picture():
    state = state_of(sample.copy_run())
    shown = state.as_dict()
    assert [task["cells"] for task in shown["tasks"]] == ["o", "c", "c", "c", "c", "f"]
    assert shown["summary"]["counts"] == {
        "ok": 1,
        "changed": 4,
        "failed": 1,
        "skipped": 0,
        "unreachable": 0,
        "ignored": 0,
    }
    assert shown["summary"]["mismatches"] == 2
    assert [entry["task_id"] for entry in shown["parity"]] == ["t3", "t5", "t6"]
    assert shown["namespaces"] == ["source-namespace", "destination-namespace"]
    assert shown["problems"][0]["host"] == "localhost"
    assert shown["missing"] == []


def test_the_last_word_of_a_transfer_keeps_its_numbers():
    p = sample.Publisher()
    about = {"label": "copy", "host": "h", "pid": 1}
    state = state_of(
        [
            p.started(),
            p.event("progress", {**about, "phase": "move", "bytes": 70}),
            p.event("progress", {**about, "phase": "end", "bytes": 0}),
        ]
    )
    (progress,) = state.progress.values()
    assert (progress["phase"], progress["bytes"]) == ("end", 70)


def test_an_event_counts_once():
    p = sample.Publisher()
    events = [p.started(), *p.task("t", "Task", {"h": "ok"})]
    state = state_of(events)
    state.apply(events[2], 3)
    assert state.counts["ok"] == 1


def test_a_late_start_hides_no_result():
    p = sample.Publisher()
    at = {"task_id": "t", "host": "h"}
    state = state_of([p.event("host.changed", at), p.event("host.started", at)])
    assert state.tasks["t"].cells == b"c"
    state.apply(p.event("host.retry", at), 3)
    assert state.tasks["t"].cells == b"r"


def test_ignored_failures_are_told_apart():
    p = sample.Publisher()
    state = state_of([p.event("host.failed", {"task_id": "t", "host": "h", "ignored": True})])
    assert (state.counts["failed"], state.counts["ignored"], bytes(state.tasks["t"].cells)) == (0, 1, b"i")


def test_holes_show_until_a_gap_stands_for_them():
    p = sample.Publisher()
    events = [p.started(), *p.task("t", "Task", {"h": "ok"}), p.finished()]
    del events[1:3]
    state = state_of(events)
    assert state.as_dict()["missing"] == [[2, 3]]
    assert state.summary()["gaps"] == 1
    gap = {
        **events[0],
        "type": "kubeferry.v1.gap",
        "pubseq": 3,
        "data": {"reason": "spool_full", "first_pubseq": 2, "last_pubseq": 3},
    }
    state.apply(gap, 9)
    assert state.as_dict()["missing"] == []
    assert state.ledger.contiguous == 5
    assert state.gaps[0]["reason"] == "spool_full"


def test_a_run_that_says_nothing_is_silent():
    p = sample.Publisher(start=datetime.now(UTC) - timedelta(hours=1))
    state = state_of([p.started()])
    assert state.summary(datetime.now(UTC))["status"] == "silent"
    assert state.summary()["status"] == "running"


def test_what_a_publisher_can_make_it_hold_is_bounded(monkeypatch):
    monkeypatch.setattr("kubeferry_events.run_state.MAX_HOSTS", 3)
    monkeypatch.setattr("kubeferry_events.run_state.MAX_TASKS", 2)
    monkeypatch.setattr("kubeferry_events.run_state.MAX_PROGRESS", 2)
    p = sample.Publisher()
    events = [p.event("host.ok", {"task_id": f"t{n}", "host": f"h{n}"}) for n in range(9)]
    events += [p.event("progress", {"label": f"l{n}", "phase": "move"}) for n in range(9)]
    state = state_of(events)
    assert (len(state.hosts), len(state.tasks), len(state.progress)) == (3, 2, 2)
    assert state.counts["ok"] == 9
