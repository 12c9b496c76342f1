# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The callback, the real event server and the tail in a terminal, together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from .conftest import ROOT
from .test_faults import assert_whole, wait_until

PUBLISH, VIEW = "publish-token-of-a-test", "view-token-of-a-test"


class Server:
    """`python -m kubeferry_events` with its history in a file."""

    def __init__(self, folder) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self._folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "roles" / "event_server" / "files"),
            "KUBEFERRY_PORT": str(self.port),
            "KUBEFERRY_HISTORY": str(folder / "history.db"),
            "KUBEFERRY_PUBLISH_TOKEN": PUBLISH,
            "KUBEFERRY_VIEW_TOKEN": VIEW,
        }

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kubeferry_events"], env=self.environment, stdout=log, stderr=log
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def tail(self, *arguments: str, token: str = VIEW) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "kubeferry_events.tail", "--url", self.url, *arguments],
            env=self.environment | {"KUBEFERRY_VIEW_TOKEN": token},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()


def test_restart_in_the_middle(playbooks, server):
    """The server is killed and started again; publisher and tail go on, and nothing is missing or there twice."""
    ready = playbooks.folder / "ready"
    tail = server.tail("--json", "--patience", "60")
    going = playbooks.start(
        "faults.yml", "-e", f"ready={ready}", url=server.url, KUBEFERRY_EVENTS_TOKEN=PUBLISH
    )
    out = playbooks.folder / "stdout"
    wait_until(lambda: "TASK [Middle]" in out.read_text())
    time.sleep(0.5)
    server.kill()
    time.sleep(0.5)
    server.start()
    ready.touch()
    run = going.wait()
    assert run.status == 0
    # One where the machine is so busy that the server takes seconds to start.
    assert len(run.warnings) <= 1
    told, problems = tail.communicate(timeout=60)
    assert tail.returncode == 0, problems
    assert_whole([json.loads(line) for line in told.splitlines()])


def test_tail_says_how_it_ended(playbooks, server):
    """A run that is over is told from its beginning."""
    number = "11111111-2222-4333-8444-555555555555"
    failing = playbooks.written(
        "- {hosts: h1, gather_facts: false, tasks: [{name: Bad, ansible.builtin.fail: {msg: as it should}}]}"
    )
    run = playbooks.run(failing, url=server.url, KUBEFERRY_EVENTS_TOKEN=PUBLISH, KUBEFERRY_RUN=number)
    assert run.status == 2
    tail = server.tail("--run", number)
    told, problems = tail.communicate(timeout=60)
    assert tail.returncode == 1, problems
    text = told.decode()
    assert text.startswith(f"RUN {number}: playbook.yml")
    assert "TASK [Bad]" in text
    assert "failed: [h1]\n    as it should\n" in text
    assert "RECAP failed" in text


def test_tail_is_refused(server):
    tail = server.tail(token="not-the-token-at-all")
    told, problems = tail.communicate(timeout=60)
    assert (tail.returncode, told) == (2, b"")
    assert b"Traceback" not in problems
    gone = server.tail("--run", "00000000-0000-0000-0000-000000000000")
    assert gone.wait(20) == 2
    assert b"Traceback" not in gone.communicate()[1]
    server.kill()
    alone = server.tail("--patience", "0.5")
    assert alone.wait(20) == 2
    assert b"Traceback" not in alone.communicate()[1]
    server.start()
