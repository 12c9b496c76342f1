# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Each playbook of one command is a run of its own."""

from __future__ import annotations

import pytest

from .recorder import Faults, Recorder

NUMBER = "11111111-2222-4333-8444-555555555555"
GOOD = """
- name: Good
  hosts: h1
  gather_facts: false
  tasks:
    - name: Registers under no_log
      ansible.builtin.command: echo canary-of-the-first
      register: answer
      no_log: true
    - name: Sets a statistic under no_log
      ansible.builtin.set_stats: {data: {pin: 482615}}
      no_log: true
"""
BAD = """
- name: Bad
  hosts: h1,h2
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact: {kept: "said {{ hostvars['h1'].answer.stdout }}"}
    - name: Fails
      ansible.builtin.fail: {msg: as it should}
      when: inventory_hostname == 'h2'
"""


@pytest.fixture
def several(playbooks):
    """Returns the playbooks' paths, in the order in which they are to run."""

    def write(*texts):
        paths = [playbooks.folder / f"{number}.yml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        # The last one is what conftest.py calls the playbook; the others are arguments before it.
        return [paths[-1], *map(str, paths[:-1])]

    return write


def runs_of(recorder):
    """Return each run's events, in order of arrival."""
    found: dict[str, list[dict[str, object]]] = {}
    for event in recorder.distinct():
        found.setdefault(event["runid"], []).append(event)
    return found


def test_each_has_its_own_status(playbooks, recorder, several, check_schema):
    run = playbooks.run(*several(GOOD, BAD), url=recorder.url, KUBEFERRY_RUN=NUMBER)
    assert run.status == 2
    assert run.warnings == []
    assert run.after < 5
    check_schema(recorder.events)
    first, second = list(runs_of(recorder).values())
    assert first[0]["runid"] == NUMBER
    for number, events in enumerate((first, second)):
        assert [event["pubseq"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["data"]["playbook"] == f"{number}.yml"
        assert events[-1]["type"] == "kubeferry.v1.run.finished"
    ended, failed = first[-1]["data"], second[-1]["data"]
    assert (ended["status"], ended["totals"]["ok"], list(ended["stats"])) == ("ok", 2, ["h1"])
    assert (failed["status"], failed["totals"]["ok"], failed["totals"]["failures"]) == ("failed", 2, 1)
    assert list(failed["stats"]) == ["h1", "h2"]
    # What the first one has taught holds for the second.
    assert "canary-of-the-first" not in "".join(recorder.frames)
    assert "482615" not in "".join(recorder.frames)


@pytest.mark.parametrize("faults", [Faults(silent=True), Faults(no_acks=True)], ids=["silent", "no-acks"])
def test_the_end_waits_for_no_server(playbooks, several, faults):
    server = Recorder(faults=faults).start()
    try:
        run = playbooks.run(*several(GOOD, GOOD, GOOD), url=server.url)
        assert run.status == 0
        assert run.after < 5
        server.faults = Faults()
        server.events.clear()
        playbooks.run(*several(GOOD), url=server.url)
        ended = server.of("run.finished")
        assert [event["data"]["status"] for event in ended] == ["ok"] * 4
        assert playbooks.spooled() == ""
    finally:
        server.stop()
