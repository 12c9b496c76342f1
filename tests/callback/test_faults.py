# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Whatever becomes of the server or of the helper, the run goes on, ends soon, and no event is lost in silence."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from .recorder import Faults, Recorder

NOBODY = "ws://127.0.0.1:9/ws"
# run, play and three tasks begin and end, three hosts begin and end each, and two loops of ten items.
EVENTS = 2 * (1 + 1 + 3) + 2 * 9 + 2 * 30


def assert_whole(events):
    """Every event of the run is there, in order, once its repetitions are left out."""
    assert [event["pubseq"] for event in events] == list(range(1, EVENTS + 1))
    assert events[-1]["type"] == "kubeferry.v1.run.finished"


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_healthy(playbooks, recorder):
    run = playbooks.run("faults.yml", url=recorder.url)
    assert (run.status, run.warnings) == (0, [])
    assert run.after < 5
    assert_whole(recorder.events)
    assert recorder.connections == 1
    assert playbooks.spooled() == ""


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(None, id="absent"),
        pytest.param(Faults(silent=True), id="silent"),
        pytest.param(Faults(no_acks=True), id="no-acknowledgements"),
        pytest.param(Faults(refuse=True), id="refused"),
        pytest.param(Faults(slow_seconds=2.0), id="slow"),
        pytest.param(Faults(nonsense=True), id="nonsense"),
    ],
)
def test_useless_server(playbooks, faults):
    server = Recorder(faults=faults or Faults()).start()
    try:
        if faults is None:
            server.stop()
        run = playbooks.run("faults.yml", url=server.url)
        assert run.status == 0
        assert run.after < 5
        assert len(run.warnings) == 1, run.stderr
        assert f"{EVENTS} events were not delivered" in run.warnings[0]
        kept = playbooks.spooled().splitlines()
        assert len(kept) == EVENTS

        # The next run delivers them as they were.
        if faults is None:
            server = Recorder(port=server.port).start()
        server.faults = Faults()
        server.events.clear()
        assert playbooks.run("faults.yml", url=server.url).warnings == []
        of_first = [
            event
            for event in server.distinct()
            if event["id"].startswith(kept[0][kept[0].index('"id":"') + 6 :][:36])
        ]
        assert_whole(of_first)
        assert playbooks.spooled() == ""
    finally:
        if server._thread.is_alive():
            server.stop()


@pytest.mark.parametrize("url", ["ws://[::1", "ws://127.0.0.1:abc/ws", "ws://127.0.0.1:99999/ws", "ws://"])
def test_no_address(playbooks, url):
    run = playbooks.run("faults.yml", url=url)
    assert run.status == 0
    assert "has to be ws://host or wss://host" in " ".join(run.stderr.split())
    assert "Callback dispatch" not in run.stderr


def test_spool_of_its_own_accord(playbooks):
    """Nobody says where: it is in Ansible's home, and nowhere else."""
    playbooks.run("faults.yml", url=NOBODY, KUBEFERRY_EVENTS_SPOOL="")
    kept = list(playbooks.folder.rglob("*.jsonl"))
    assert [path.parent.parent for path in kept] == [playbooks.folder / "home" / "kubeferry-events"]


def test_no_place_for_a_spool(playbooks, recorder):
    """The disk is read-only, say: the server answers, so nothing is lost."""
    (playbooks.folder / "file").touch()
    run = playbooks.run(
        "faults.yml", url=recorder.url, KUBEFERRY_EVENTS_SPOOL=str(playbooks.folder / "file" / "spool")
    )
    assert run.status == 0
    assert len(run.warnings) == 1, run.stderr
    assert "until the server has them they are in memory" in run.warnings[0]
    assert_whole(recorder.events)


def test_closing_server(playbooks, recorder):
    recorder.faults.close_after = 20
    run = playbooks.run("faults.yml", "-e", f"ready={playbooks.folder}", url=recorder.url)
    recorder.faults.close_after = None
    assert run.status == 0
    assert recorder.connections > 1
    playbooks.run("faults.yml", url=recorder.url)
    assert_whole([event for event in recorder.distinct() if event["runid"] == recorder.events[0]["runid"]])


@pytest.mark.parametrize("forgets", [False, True], ids=["remembers", "forgets"])
def test_restarted_server(playbooks, recorder, forgets):
    ready = playbooks.folder / "ready"
    going = playbooks.start("faults.yml", "-e", f"ready={ready}", url=recorder.url)
    wait_until(lambda: len(recorder.of("item.ok")) == 30)
    recorder.stop()
    second = Recorder(port=recorder.port)
    if forgets:
        second._epoch = 7
    else:
        second._acked = dict(recorder._acked)
    second.start()
    try:
        ready.touch()
        run = going.wait()
        assert (run.status, run.warnings) == (0, [])
        if forgets:
            assert_whole(second.distinct())
        else:
            assert second.events[0]["pubseq"] > 1
            assert_whole(list({event["id"]: event for event in recorder.events + second.events}.values()))
    finally:
        second.stop()
        recorder.start()


def test_the_number_of_another_run(playbooks, recorder):
    """The server takes its events for those that it has: the user is told, and no later run sends them."""
    number = "11111111-2222-4333-8444-555555555555"
    assert playbooks.run("faults.yml", url=recorder.url, KUBEFERRY_RUN=number).warnings == []
    run = playbooks.run("faults.yml", url=recorder.url, KUBEFERRY_RUN=number)
    assert run.status == 0
    assert len(run.warnings) == 1, run.stderr
    assert f"acknowledges events of run {number} that it was not sent" in run.warnings[0]
    assert "give every run a KUBEFERRY_RUN of its own" in run.warnings[0]
    assert playbooks.spooled() == ""
    (kept,) = playbooks.spool.rglob(f"{number}*")
    assert len(kept.read_text().splitlines()) == EVENTS


def test_killed_playbook(playbooks, recorder):
    going = playbooks.start("faults.yml", "-e", "ready=/nowhere/at/all", url=recorder.url)
    recorder.wait_for("task.started")
    wait_until(lambda: any(event["data"].get("task") == "Middle" for event in recorder.of("host.skipped")))
    helper = going.helper()
    place = Path(f"/tmp/kubeferry-progress-{going.process.pid}")
    assert place.exists()
    going.process.send_signal(signal.SIGKILL)
    going.process.wait()
    # Ansible's workers and the module live on, but the helper doesn't wait for them.
    recorder.wait_for("run.finished", 3)
    assert recorder.of("run.finished")[0]["data"]["status"] == "interrupted"
    wait_until(lambda: not alive(helper), 3)
    assert not place.exists()
    assert playbooks.spooled() == ""


def test_interrupted_playbook(playbooks, recorder):
    going = playbooks.start("faults.yml", "-e", "ready=/nowhere/at/all", url=recorder.url)
    recorder.wait_for("task.started")
    wait_until(lambda: any(event["data"].get("task") == "Middle" for event in recorder.of("host.skipped")))
    going.process.send_signal(signal.SIGINT)
    going.wait()
    recorder.wait_for("run.finished", 3)
    assert recorder.of("run.finished")[0]["data"]["status"] == "interrupted"


def test_killed_helper(playbooks, recorder):
    ready = playbooks.folder / "ready"
    going = playbooks.start("faults.yml", "-e", f"ready={ready}", url=recorder.url)
    wait_until(lambda: len(recorder.of("item.ok")) == 30)
    os.kill(going.helper(), signal.SIGKILL)
    ready.touch()
    run = going.wait()
    assert run.status == 0
    assert len(run.warnings) == 1
    assert "helper process is gone" in run.warnings[0]
    # What it had is sent by the next run, which says as well that this one was never finished.
    playbooks.run("faults.yml", url=recorder.url)
    first = [event for event in recorder.distinct() if event["runid"] == recorder.events[0]["runid"]]
    assert [event["pubseq"] for event in first] == list(range(1, len(first) + 1))
    assert first[-1]["data"] == {"status": "interrupted"}


def test_stopped_helper(playbooks, recorder, check_schema):
    ready = playbooks.folder / "ready"
    more = playbooks.written(
        """
- hosts: here
  gather_facts: false
  tasks:
    - ansible.builtin.wait_for: {path: "{{ ready }}", timeout: 30}
      when: inventory_hostname == 'h1'
    - ansible.builtin.debug: {msg: "{{ 'x' * 3900 }}"}
      loop: "{{ range(400) | list }}"
"""
    )
    going = playbooks.start(more, "-e", f"ready={ready}", url=recorder.url)
    wait_until(lambda: len(recorder.of("host.skipped")) == 2)
    helper = going.helper()
    os.kill(helper, signal.SIGSTOP)
    try:
        ready.touch()
        run = going.wait()
    finally:
        os.kill(helper, signal.SIGCONT)
    assert run.status == 0
    assert run.after < 5
    assert len(run.warnings) == 1
    assert "events were lost" in run.warnings[0]
    # Once it reads again, a gap stands for what did not fit into the pipe.
    recorder.wait_for("gap", 5)
    wait_until(lambda: not alive(helper), 5)
    gaps = recorder.of("gap")
    check_schema(gaps)
    assert {gap["data"]["reason"] for gap in gaps} == {"publisher_lost"}
    lost = sum(gap["data"]["count"] for gap in gaps)
    assert lost > 100
    assert f"{lost} events were lost" in run.warnings[0]
    numbers = [event["pubseq"] for event in recorder.distinct()]
    for gap in gaps:
        numbers += range(gap["data"]["first_pubseq"], gap["pubseq"])
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert recorder.of("run.finished")[0]["data"]["status"] == "ok"
