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


def test_tasks_that_are_not_listed_are_counted(monkeypatch):
    monkeypatch.setattr("kubeferry_events.run_state.MAX_TASKS", 2)
    p = sample.Publisher()
    state = state_of([event for n in range(5) for event in p.task(f"t{n}", f"Task {n}", {"a": "ok"})])
    assert [task["name"] for task in state.as_dict()["tasks"]] == ["Task 0", "Task 1"]
    assert (state.summary()["tasks"], state.summary()["task"]) == (5, "Task 4")


def test_tasks_that_are_included_for_each_host_are_one_until_a_host_comes_again():
    state = state_of(sample.included_run(300, rounds=2))
    shown = state.as_dict()
    assert [(task["name"], task["cells"][:3]) for task in shown["tasks"]] == [
        ("Mount the claim", "ooo"),
        ("Copy", "ofo"),
        ("Mount the claim", "ooo"),
        ("Copy", "ofo"),
    ]
    assert [len(task["cells"]) for task in shown["tasks"]] == [300] * 4
    first = shown["tasks"][0]
    assert first["joined"]["0-0-7"] == [7]
    assert "0-0-0" not in first["joined"]
    assert "finished" in first
    assert "duration" not in first
    assert shown["summary"]["tasks"] == 4


def test_a_task_that_comes_again_for_the_same_hosts_is_another_one():
    """A loop over a file of tasks, which all hosts go through together."""
    p = sample.Publisher()
    about = {"play_id": "p1", "path": "loop.yml:3", "name": "Step"}
    events = [p.started()]
    for turn in ("a", "b", "c"):
        events.append(p.event("task.started", {**about, "task_id": turn}))
        events += [p.result(turn, "Step", host, "ok", play_id="p1") for host in ("h1", "h2")]
    shown = state_of(events).as_dict()
    assert [(task["task_id"], task["cells"]) for task in shown["tasks"]] == [
        ("a", "oo"),
        ("b", "oo"),
        ("c", "oo"),
    ]
    assert not [task for task in shown["tasks"] if "joined" in task]


def test_reports_that_list_nothing_are_kept_beyond_those_that_do(monkeypatch):
    monkeypatch.setattr("kubeferry_events.run_state.MAX_PARITY_LISTS", 2)
    monkeypatch.setattr("kubeferry_events.run_state.MAX_PARITY", 5)
    p = sample.Publisher()
    broken, whole = sample.parity_report(1, missing=["10"]), sample.parity_report(1)
    events = [p.started()]
    events += [
        p.result(f"t{number}", "Copy", "h", "ok", parity=report)
        for number, report in enumerate([broken, broken, broken, whole, whole, whole, whole])
    ]
    state = state_of(events)
    assert [entry["task_id"] for entry in state.as_dict()["parity"]] == ["t0", "t1", "t3", "t4", "t5"]
    assert state.mismatches == 3
