# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A copy between claims that is killed at any time leaves no half file and no pod, and the next run finishes it."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from livekit import SOURCE, TARGET, Playbook, digests, eventually, helper_pods, in_pod

pytestmark = pytest.mark.timeout(600)

HERE = "/mnt/pvc-0/interrupted"
LARGE = 80 << 20

SEED = f"""
rm -rf "$1" && mkdir -p "$1/small" && cd "$1" || exit
number=0
while [ "$number" -lt 60 ]; do
  number=$((number + 1))
  echo "number $number" >"small/$number"
done
head -c {LARGE} /dev/urandom >large
"""
# Waits until part of the large file has arrived in the work directory, with a pause too short to miss it.
ARRIVING = f"""
count=0
while [ "$count" -lt 9000 ]; do
  count=$((count + 1))
  for file in "$1"/.kubeferry/run-*/tree/large; do
    if [ -f "$file" ]; then
      size=$(stat -c %s "$file")
      if [ "$size" -gt 0 ]; then
        if [ "$size" -lt {LARGE} ]; then echo arriving; else echo late; fi
        exit
      fi
    fi
  done
  usleep 20000
done
echo never
"""


@pytest.fixture(scope="module")
def files(cluster) -> dict[str, str]:
    """The files of the source, and the digest of each."""
    in_pod(SOURCE, SEED, HERE, seconds=60)
    found = digests(SOURCE, HERE)
    assert len(found) == 61
    yield found
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, 'rm -rf "$1"', HERE)


@pytest.fixture
def variables(files, tmp_path) -> dict[str, object]:
    in_pod(TARGET, 'rm -rf "$1" && mkdir "$1"', HERE)
    return {
        "source_namespace": SOURCE,
        "source_pvc": "pvc-0",
        "source_path": "interrupted",
        "target_namespace": TARGET,
        "target_pvc": "pvc-0",
        "target_path": "interrupted",
        "staging": str(tmp_path / "pvc-files"),
        # The fastest one of BusyBox: which it is decides nothing here.
        "checksum": "md5",
    }


def reach_mount(playbook: Playbook, folder: Path) -> None:
    eventually("a helper pod", helper_pods, 60, pause=0.05)


def reach_pull(playbook: Playbook, folder: Path) -> None:
    pattern = "pvc-files/mnt/pvc-0/interrupted/.kubeferry/run-*/tree/large"
    eventually(
        "a part of the large file", lambda: any(p.stat().st_size for p in folder.glob(pattern)), 60, 0.01
    )
    assert not (folder / "pvc-files/mnt/pvc-0/interrupted/large").exists()


def reach_push(playbook: Playbook, folder: Path) -> None:
    assert in_pod(TARGET, ARRIVING, HERE, seconds=90).strip() == "arriving", playbook.output


def commands(namespace: str) -> list[str]:
    """The command lines that run in the sleeping pod, without its own and this one."""
    lines = in_pod(namespace, "ps -o args").splitlines()[1:]
    return [line for line in lines if "ps -o args" not in line and "sleep infinity" not in line]


def to_process(number: int) -> Callable[[Playbook], None]:
    """Sends a signal to the process of ansible-playbook alone."""
    return lambda playbook: os.kill(playbook.process.pid, number)


def to_group(number: int) -> Callable[[Playbook], None]:
    """Sends a signal to its process group, as a terminal does."""
    return lambda playbook: os.killpg(playbook.process.pid, number)


def check_final_names(files: dict[str, str], folder: Path) -> None:
    """At both places every file is absent or complete."""
    assert digests(TARGET, HERE).items() <= files.items()
    staged = folder / "pvc-files/mnt/pvc-0/interrupted"
    sizes = {
        p.relative_to(staged): p.stat().st_size for p in staged.rglob("*") if ".kubeferry" not in p.parts
    }
    assert sizes.get(Path("large"), LARGE) == LARGE


def finish(started, variables, files, folder: Path) -> None:
    """The next run does the rest and clears everything away."""
    ended = started(variables).wait()
    assert ended.status == 0, ended.output
    assert digests(TARGET, HERE) == files
    report = json.loads((folder / "pvc-files/report.json").read_text())
    assert [hop["parity"] for hop in report["hops"].values()] == [True] * 3
    assert in_pod(TARGET, 'ls -A "$1"', HERE).split() == ["large", "small"]
    assert not list(folder.rglob(".kubeferry"))
    assert helper_pods() == []


@pytest.mark.parametrize(
    ("phase", "send"),
    [
        pytest.param(reach_mount, to_process(signal.SIGTERM), id="mount-SIGTERM"),
        pytest.param(reach_mount, to_process(signal.SIGKILL), id="mount-SIGKILL"),
        pytest.param(reach_pull, to_process(signal.SIGTERM), id="pull-SIGTERM"),
        pytest.param(reach_pull, to_process(signal.SIGKILL), id="pull-SIGKILL"),
        pytest.param(reach_push, to_process(signal.SIGTERM), id="push-SIGTERM"),
        pytest.param(reach_push, to_process(signal.SIGINT), id="push-SIGINT"),
        pytest.param(reach_push, to_group(signal.SIGKILL), id="push-SIGKILL-group"),
    ],
)
def test_a_copy_that_is_killed(phase, send, started, variables, files, tmp_path):
    playbook = started(variables)
    phase(playbook, tmp_path)
    assert playbook.process.poll() is None, playbook.output
    send(playbook)
    playbook.process.wait(60)
    eventually("the end of all processes", lambda: not playbook.processes(), 40)
    eventually("the end of the helper pods", lambda: not helper_pods(), 20)
    check_final_names(files, tmp_path)
    finish(started, variables, files, tmp_path)


def test_a_machine_that_goes_down(started, variables, files, tmp_path):
    """Nobody is left to remove the pods: they end by their deadline, and the next run removes what is left of them."""
    playbook = started({**variables, "lifetime": 60})
    reach_pull(playbook, tmp_path)
    playbook.kill_everything()
    playbook.process.wait(10)
    assert playbook.processes() == []
    check_final_names(files, tmp_path)

    names = helper_pods()
    assert len(names) == 2

    def phases() -> set[str]:
        return set(helper_pods("jsonpath={.items[*].status.phase}"))

    assert phases() == {"Running"}
    eventually("the deadline", lambda: phases() == {"Failed"}, 90, pause=1)
    assert helper_pods() == names
    finish(started, variables, files, tmp_path)


def test_a_machine_that_goes_down_while_it_copies_to_a_pod_of_the_users(started, variables, files, tmp_path):
    """The pod stays, so no command may stay in it."""
    pods = {
        "source_pod": "busybox-sleep",
        "source_path": HERE,
        "target_pod": "busybox-sleep",
        "target_path": HERE,
    }
    variables = {**{key: value for key, value in variables.items() if not key.endswith("_pvc")}, **pods}
    before = {namespace: Counter(commands(namespace)) for namespace in (SOURCE, TARGET)}
    playbook = started(variables)
    reach_push(playbook, tmp_path)
    assert any("tar " in line for line in (Counter(commands(TARGET)) - before[TARGET]))
    playbook.kill_everything()
    playbook.process.wait(10)
    for namespace, others in before.items():
        eventually(
            "the end of all commands",
            lambda namespace=namespace, others=others: not Counter(commands(namespace)) - others,
            20,
        )
    check_final_names(files, tmp_path)
    finish(started, variables, files, tmp_path)
