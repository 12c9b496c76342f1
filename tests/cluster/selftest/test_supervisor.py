# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The supervisor as an ordinary process: no namespaces, no root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from testkube import supervisor


class Subject:
    """A supervisor under test, told what to do through its files."""

    def __init__(self, directory):
        self.directory = directory
        self.want(signal_it=False)
        self.process = subprocess.Popen([sys.executable, "-IS", supervisor.__file__, str(directory)])
        self.until(lambda actual: actual["services"] == {})

    def service(self, name, *argv, **more):
        log = str(self.directory / f"{name}.log")
        return {"name": name, "argv": list(argv), "log": log, "env": {"PATH": os.environ["PATH"]}, **more}

    def want(self, *services, signal_it=True):
        draft = self.directory / "draft"
        draft.write_text(json.dumps({"services": services}))
        draft.replace(self.directory / "desired.json")
        if signal_it:
            self.process.send_signal(signal.SIGHUP)

    def until(self, condition):
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                actual = json.loads((self.directory / "actual.json").read_text())
            except OSError:
                actual = None
            if actual and condition(actual):
                return actual
            time.sleep(0.02)
        raise AssertionError(f"not in time: {actual}")

    def pid_of(self, name):
        def runs(actual):
            return (actual["services"].get(name) or {}).get("pid")

        return self.until(runs)["services"][name]["pid"]


@pytest.fixture
def subject(tmp_path):
    it = Subject(tmp_path)
    yield it
    it.process.kill()
    it.process.wait()


def test_starts_and_stops_what_it_is_told(subject):
    subject.want(subject.service("a", "sleep", "1000"), subject.service("b", "sleep", "1000"))
    a = subject.pid_of("a")
    subject.want(subject.service("b", "sleep", "1000"))
    subject.until(lambda actual: list(actual["services"]) == ["b"] and not actual["stopping"])
    with pytest.raises(ProcessLookupError):
        os.kill(a, 0)


def test_leaves_alone_what_has_not_changed(subject):
    subject.want(subject.service("a", "sleep", "1000"))
    a = subject.pid_of("a")
    subject.want(subject.service("a", "sleep", "1000"), subject.service("b", "sleep", "1000"))
    subject.pid_of("b")
    assert subject.pid_of("a") == a


def test_restarts_what_has_changed(subject):
    subject.want(subject.service("a", "sleep", "1000"))
    a = subject.pid_of("a")
    subject.want(subject.service("a", "sleep", "1000", bounce=1))
    subject.until(lambda actual: actual["services"].get("a", {}).get("pid") not in (None, a))


def test_restarts_what_dies(subject):
    subject.want(subject.service("a", "sleep", "1000"))
    a = subject.pid_of("a")
    os.kill(a, signal.SIGKILL)
    state = subject.until(lambda actual: actual["services"]["a"]["pid"] not in (None, a))["services"]["a"]
    assert state["restarts"] == 1
    assert state["last_exit"] == -signal.SIGKILL


def test_kills_what_does_not_stop(subject):
    subject.want(subject.service("a", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"))
    a = subject.pid_of("a")
    subject.until(lambda _: (subject.directory / "a.log").read_text() == "up\n")
    subject.want()
    subject.until(lambda actual: not actual["services"] and not actual["stopping"])
    with pytest.raises(ProcessLookupError):
        os.kill(a, 0)


def test_says_in_the_log_why_a_program_cannot_start(subject):
    subject.want(subject.service("a", "no-such-program"))
    subject.until(
        lambda _: (subject.directory / "a.log").exists() and (subject.directory / "a.log").read_text()
    )
    assert "No such file" in (subject.directory / "a.log").read_text()


def test_ends_when_its_files_are_deleted(subject):
    (subject.directory / "desired.json").unlink()
    assert subject.process.wait(10) == 0


def test_ends_on_sigterm_with_its_services(subject):
    subject.want(subject.service("a", "sleep", "1000"))
    a = subject.pid_of("a")
    subject.process.terminate()
    assert subject.process.wait(10) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(a, 0)
