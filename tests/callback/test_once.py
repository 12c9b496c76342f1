# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Each result is told exactly once, whatever the version of ansible-core and the strategy."""

from __future__ import annotations

from collections import Counter

import pytest

HOSTS = ("h1", "h2", "h3")
OUTCOMES = ("ok", "changed", "failed", "skipped", "unreachable")


def everywhere(outcome):
    return {host: [outcome] for host in HOSTS}


# What data/once.yml does, by task and host: every result, as often as there is one.
EXPECTED = {
    "Changes": everywhere("changed"),
    "Loops": everywhere("ok"),
    "Loops and fails": everywhere("failed"),
    "Loops and skips": everywhere("ok"),
    "Skips on h1": {"h1": ["skipped"], "h2": ["ok"], "h3": ["ok"]},
    "Fails on h2": {"h1": ["skipped"], "h2": ["failed"], "h3": ["skipped"]},
    "Not on h2": {"h1": ["ok"], "h3": ["ok"]},
    "Rescues h2": {"h2": ["ok"]},
    "Always": everywhere("ok"),
    "Delegates": everywhere("ok"),
    "Retries": everywhere("failed"),
    "Waits for a job": {"h1": ["changed"], "h2": ["skipped"], "h3": ["skipped"]},
    "Handle": {"h1": ["ok", "ok"], "h2": ["ok", "ok"], "h3": ["ok"]},
    "Changes again": {"h1": ["changed"], "h2": ["changed"], "h3": ["ok"]},
    "Includes": everywhere("ok"),
    "Included x": everywhere("ok"),
    "Included y": everywhere("ok"),
    "Groups": everywhere("changed"),
    "Is unreachable": {"gone": ["unreachable"]},
    "Leaves a statistic": {"gone": ["ok"]},
}
ITEMS = {
    "Loops": [("a", "ok"), ("b", "ok"), ("c", "ok")],
    "Loops and fails": [("1", "ok"), ("2", "failed"), ("3", "ok")],
    "Loops and skips": [("1", "ok"), ("2", "skipped"), ("3", "skipped")],
    "Includes": [("x", "ok"), ("y", "ok")],
    "Groups": [("p", "changed"), ("q", "changed")],
}
CASES = [
    pytest.param("2.19", "linear", 0, id="2.19-linear"),
    pytest.param("2.19", "free", 0, id="2.19-free"),
    pytest.param("2.19", "host_pinned", 0, id="2.19-host_pinned"),
    pytest.param("2.19", "linear", 2, id="2.19-linear-serial"),
    pytest.param("2.19", "free", 1, id="2.19-free-serial"),
    pytest.param("2.20", "linear", 0, id="2.20-linear"),
    pytest.param("2.20", "free", 2, id="2.20-free-serial"),
    pytest.param("2.21", "linear", 2, id="2.21-linear-serial"),
    pytest.param("2.21", "free", 0, id="2.21-free"),
    pytest.param("2.21", "host_pinned", 0, id="2.21-host_pinned"),
]


def kind_of(event):
    return event["type"].removeprefix("kubeferry.v1.")


@pytest.mark.parametrize(("core", "strategy", "serial"), CASES)
def test_once(playbooks, recorder, check_schema, core, strategy, serial):
    polled = playbooks.folder / "polled"
    given = {"with_strategy": strategy, "with_serial": serial, "polled": polled}
    arguments = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    going = playbooks.start("once.yml", *arguments, url=recorder.url, core=core)
    recorder.wait_for("host.poll", 60)
    polled.touch()
    run = going.wait()
    assert run.status == 0, run.stdout + run.stderr
    assert run.warnings == []
    check_schema(recorder.events)
    events = recorder.events
    assert [event["pubseq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["id"] for event in events}) == len(events)
    assert kind_of(events[0]) == "run.started"
    assert kind_of(events[-1]) == "run.finished"

    assert results(events) == EXPECTED
    for task, items in ITEMS.items():
        for host in HOSTS:
            assert items_of(events, task, host) == items
    check_frames(events, batches=1 if not serial else -(-len(HOSTS) // serial))
    check_details(events)
    check_recap(events)


def results(events):
    found: dict[str, dict[str, list[str]]] = {}
    for event in events:
        scope, _dot, outcome = kind_of(event).partition(".")
        if scope == "host" and outcome in OUTCOMES:
            data = event["data"]
            found.setdefault(data["task"], {}).setdefault(data["host"], []).append(outcome)
    return found


def items_of(events, task, host):
    return [
        (event["data"]["item"], kind_of(event).partition(".")[2])
        for event in events
        if kind_of(event).startswith("item.")
        and (event["data"]["task"], event["data"]["host"]) == (task, host)
    ]


def check_frames(events, batches):
    """Plays and tasks begin and end once, and around what belongs to them."""
    for scope, key in (("play", "play_id"), ("task", "task_id")):
        started = [event["data"][key] for event in events if kind_of(event) == f"{scope}.started"]
        finished = [event["data"][key] for event in events if kind_of(event) == f"{scope}.finished"]
        assert len(set(started)) == len(started)
        assert sorted(started) == sorted(finished)
    plays = [event["data"]["name"] for event in events if kind_of(event) == "play.started"]
    assert plays == ["First play"] * batches + ["Second play"]
    # One task is announced once for each batch, not for each host.
    names = Counter(event["data"]["name"] for event in events if kind_of(event) == "task.started")
    assert names["Changes"] == names["Always"] == names["Flush handlers"] == batches
    open_tasks = set()
    for event in events:
        if kind_of(event) == "task.started":
            open_tasks.add(event["data"]["task_id"])
        elif kind_of(event) == "task.finished":
            open_tasks.remove(event["data"]["task_id"])
        elif kind_of(event).startswith(("host.", "item.")):
            assert event["data"]["task_id"] in open_tasks
    once = Counter(
        (event["data"]["task_id"], event["data"]["host"], kind_of(event) == "host.started")
        for event in events
        if kind_of(event) == "host.started" or kind_of(event).partition(".")[2] in OUTCOMES
        if not kind_of(event).startswith("item.")
    )
    assert set(once.values()) == {1}


def check_details(events):
    def of(task):
        return [event for event in events if event["data"].get("task") == task]

    retries = [event["data"] for event in of("Retries") if kind_of(event) == "host.retry"]
    assert Counter((data["host"], data["attempt"], data["attempts"]) for data in retries) == Counter(
        (host, attempt, 3) for host in HOSTS for attempt in (1, 2)
    )
    assert {event["data"]["attempt"] for event in of("Retries") if kind_of(event) == "host.failed"} == {3}
    polls = [event["data"] for event in of("Waits for a job") if kind_of(event) == "host.poll"]
    assert polls
    assert {data["host"] for data in polls} == {"h1"}
    assert all(data["job_id"] for data in polls)
    assert {
        event["data"].get("delegated_to") for event in of("Delegates") if kind_of(event) == "host.ok"
    } == {"h1"}
    assert all(event["data"]["handler"] for event in of("Handle"))
    assert all(event["data"]["ignored"] for event in of("Loops and fails") if kind_of(event) == "host.failed")
    assert all(
        event["data"]["ignored"] for event in of("Is unreachable") if kind_of(event) == "host.unreachable"
    )


def check_recap(events):
    """The events add up to what Ansible itself says of the run."""
    recap = events[-1]["data"]
    assert recap["status"] == "ok"
    assert recap["custom"] == {"copied": 3}
    for host in (*HOSTS, "gone"):
        outcomes = Counter(
            kind_of(event).partition(".")[2]
            for event in events
            if kind_of(event).startswith("host.") and event["data"].get("host") == host
            # Ansible's recap has each included file in its place.
            if event["data"]["task"] != "Includes"
        )
        ignored = sum(
            bool(event["data"].get("ignored"))
            for event in events
            if event["data"].get("host") == host
            if kind_of(event).startswith("host.")
        )
        stats = recap["stats"][host]
        included = 2 if host in HOSTS else 0
        assert stats["ok"] == outcomes["ok"] + outcomes["changed"] + ignored + included
        assert stats["changed"] == outcomes["changed"]
        assert stats["skipped"] == outcomes["skipped"]
        assert stats["rescued"] == outcomes["failed"] - (ignored if host != "gone" else 0)


@pytest.mark.parametrize("core", ["2.19", "2.21"])
def test_a_run_that_is_broken_off_has_failed(playbooks, recorder, core):
    playbook = playbooks.written(
        """
- hosts: h1,h2,h3
  gather_facts: false
  max_fail_percentage: 10
  any_errors_fatal: true
  tasks:
    - block:
        - block:
            - ansible.builtin.fail: {msg: as it should}
              when: inventory_hostname == 'h1'
          rescue:
            - ansible.builtin.fail: {msg: again}
      rescue:
        - ansible.builtin.debug: {msg: rescued}
    - name: After
      ansible.builtin.debug: {msg: never reached}
"""
    )
    run = playbooks.run(playbook, url=recorder.url, core=core)
    assert run.status == 2, run.stdout + run.stderr
    (finished,) = recorder.of("run.finished")
    assert finished["data"]["totals"]["failures"] == 0
    assert finished["data"]["status"] == "failed"
