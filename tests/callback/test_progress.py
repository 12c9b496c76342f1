# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""How far a module is arrives while it runs, at least once a second and at most ten times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from itertools import pairwise

import pytest

from .conftest import DATA


@pytest.fixture(autouse=True)
def library(playbooks):
    playbooks.settings = {
        "ANSIBLE_LIBRARY": str(DATA / "library"),
        "KUBEFERRY_EVENTS_REDACT_VALUES": "CANARY-label",
        "ANSIBLE_PIPELINING": "true",
    }


def check(recorder, check_schema, hosts):
    check_schema(recorder.events)
    task = recorder.of("task.started")[0]["data"]["task_id"]
    told = recorder.of("progress")
    assert {event["data"].get("host") for event in told} == set(hosts)
    assert {event["data"].get("task_id") for event in told} == {task}
    assert "CANARY" not in json.dumps(recorder.frames)
    for host in hosts:
        of_host = [event for event in told if event["data"]["host"] == host]
        times = [datetime.fromisoformat(event["time"]) for event in of_host]
        gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
        assert max(gaps) < 1.2
        # The last word may follow at once; all others keep their distance.
        assert min(gaps[:-1]) > 0.09
        copying = [event["data"] for event in of_host if event["data"]["phase"] == "copying"]
        assert len(copying) >= 5
        assert [data["bytes"] for data in copying] == sorted({data["bytes"] for data in copying})
        assert copying[-1]["bytes_total"] == 200_000_000
        assert copying[-1]["bytes_per_second"] > 10_000_000
        assert 0 < copying[len(copying) // 2]["seconds_left"] < 3
        last = of_host[-1]["data"]
        assert (last["phase"], last["bytes"], last["bytes_total"]) == ("end", 200_000_000, 200_000_000)
        assert any(event["data"]["phase"] == "verifying" for event in of_host)


def test_parallel_forks(playbooks, recorder, check_schema):
    run = playbooks.run("progress.yml", url=recorder.url)
    assert run.status == 0, run.stdout
    check(recorder, check_schema, ["h1", "h2", "h3"])
    # Not in the end, but while it ran.
    kinds = [event["type"].rpartition(".")[2] for event in recorder.events]
    assert kinds.index("progress") < kinds.index("changed")


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_become(playbooks, recorder, check_schema, user):
    """The module has another user, and nothing of the playbook's environment (as with sudo)."""
    if os.geteuid():
        pytest.skip("needs root")
    asked = subprocess.run(
        ["su", user, "-s", "/bin/sh", "-c", f"{sys.executable} -V"], capture_output=True, check=False
    )
    if asked.returncode:
        pytest.skip(f"{user} can't run this Python")
    run = playbooks.run("progress.yml", "-e", f"become_as={user}", "-e", "on=h1", url=recorder.url)
    assert run.status == 0, run.stdout
    check(recorder, check_schema, ["h1"])


def test_line_without_terminal(playbooks):
    """Asked for, the line is there without a server and without a terminal, and is erased in the end."""
    run = playbooks.run("progress.yml", "-e", "on=h1", KUBEFERRY_PROGRESS="always")
    assert run.status == 0
    shown = run.stderr.split("\r")
    assert "h1 to <redacted>: copying" in run.stderr
    assert "files" in run.stderr
    assert "MiB/s" in run.stderr
    assert len(shown) > 10
    assert shown[-1] == ""
    assert shown[-2].strip() == ""
    assert "CANARY" not in run.stderr
    assert "\x1b" not in run.stderr


def test_nothing_to_do(playbooks):
    """Without a server and without a terminal there is no helper and no trace."""
    run = playbooks.run("faults.yml", KUBEFERRY_PROGRESS="auto")
    assert (run.status, run.stderr) == (0, "")
    assert not playbooks.spool.exists()
