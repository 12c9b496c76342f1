# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from livekit import ADMIN, MADE, ROOT, SOURCE, TARGET, Ended, Playbook, helper_pods, kubectl_program

OURS = Path(ADMIN).parent == MADE
PROGRAM = ROOT / "tests" / "cluster" / "cluster"


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """The cluster has what the tests need, apart from what other suites use; what is missing is made.

    There is a second node from the beginning: the clusters that suites share don't change under them.
    """
    if OURS:
        subprocess.run([PROGRAM, "up", "--nodes", "2"], check=True, timeout=240)
    words = ["namespace" if OURS else "check", SOURCE, TARGET]
    subprocess.run([PROGRAM, *words], check=True, timeout=240)
    assert kubectl_program()
    assert not helper_pods(), "helper pods of somebody else would be taken for those of a test"


@pytest.fixture(scope="session")
def second_node(cluster) -> str:
    """The name of a second node."""
    if not OURS:
        pytest.skip("makes nodes and volumes, so it needs a cluster of this project's own")
    return "node2"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with the state of the cluster, which an earlier test may have left broken."""
    report = yield
    if report.failed and OURS:
        for words in (["status"], ["logs", "node1-containerd", "--lines", "20"]):
            done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False)
            report.sections.append((f"cluster {words[0]}", done.stdout + done.stderr))
    return report


@pytest.fixture
def started(tmp_path) -> Callable[..., Playbook]:
    """Starts a playbook; nothing of it outlives the test."""
    playbooks: list[Playbook] = []

    def start(variables, name="copy", options=(), environment=None) -> Playbook:
        playbooks.append(Playbook(tmp_path, variables, name, options, environment))
        return playbooks[-1]

    yield start
    for playbook in playbooks:
        playbook.kill_everything()
        playbook.process.wait(10)


@pytest.fixture
def played(started) -> Callable[..., Ended]:
    """Runs a playbook to its end."""
    return lambda *arguments, **named: started(*arguments, **named).wait()
