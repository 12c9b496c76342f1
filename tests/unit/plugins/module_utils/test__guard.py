# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of helper pods, with real processes: a stand-in for ansible-playbook, its worker and the module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from waiting import eventually

from ansible_collections.kubeferry.pvc.plugins.module_utils import _guard

# As in ansible-playbook: the worker is a fork that makes its own session, the module a child of the worker's.
CONTROLLER = """
    import os, subprocess, sys, time
    controller = os.getpid()
    if not os.fork():
        os.setsid()
        while sys.argv[3] == "orphan" and os.getppid() == controller:
            time.sleep(0.01)
        subprocess.run([sys.executable, sys.argv[1], *sys.argv[2:]])
        os._exit(0)
    if sys.argv[3] == "orphan":
        sys.exit()
    if sys.argv[3] == "busy":
        while not os.path.exists(f"{sys.argv[2]}/started"):
            time.sleep(0.01)
    else:
        os.wait()
    print("ready", flush=True)
    time.sleep(60)
"""
# "Pods" are files in a directory, so that what the guard does is seen from outside.
MODULE = """
    import os, signal, sys, time
    from pathlib import Path
    from ansible_collections.kubeferry.pvc.plugins.module_utils import _guard
    from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import Interrupted, Unreachable

    folder, seconds = Path(sys.argv[1]), 0 if sys.argv[2] == "expired" else 60
    leaked = os.open(folder / "leaked", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(leaked, True)

    def left():
        return (folder / "pod").exists()

    def abandon():
        if (folder / "away").exists():
            raise Unreachable("away")
        (folder / "guard").write_text(" ".join(os.readlink(f"/proc/self/fd/{each}") for each in (0, 1, 2)))
        (folder / "pod").unlink()

    def clean_up(number, _frame):
        signal.signal(number, signal.SIG_IGN)
        time.sleep(0.5)
        (folder / "cleaned").write_text("before the guard" if left() else "after the guard")
        sys.exit()

    (folder / "session").write_text(str(os.getsid(0)))
    watch = _guard.Watch(str(folder), seconds, left, abandon, lambda: None)
    (folder / "pod").touch()
    try:
        answer = str(_guard.start(watch))
    except Interrupted as exc:
        answer = str(exc)
    if sys.argv[2] == "busy":
        signal.signal(signal.SIGTERM, clean_up)
    (folder / "started").write_text(answer)
    if sys.argv[2] == "busy":
        time.sleep(60)
"""


@pytest.fixture
def playbook(tmp_path, request):
    """Start a controller called ansible-playbook; ends with everything it has left behind ended."""
    controller, module = tmp_path / "ansible-playbook", tmp_path / "module.py"
    controller.write_text(textwrap.dedent(CONTROLLER))
    module.write_text(textwrap.dedent(MODULE))
    started = []

    def start(name="ansible-playbook", mode="plain"):
        script = controller.rename(tmp_path / name)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, script, module, tmp_path, mode], stdout=subprocess.PIPE, env=environment
        )
        started.append(process)
        assert mode == "orphan" or process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    assert eventually(lambda: not guards(tmp_path))


def guards(folder):
    """The live processes that were started with `folder` as an argument, the controller aside."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes()
            state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if (
            f"{folder}/module.py".encode() in arguments
            and b"ansible" not in arguments.split(b"\0")[1]
            and state != "Z"
        ):
            found.append(int(path.parent.name))
    return found


def is_settled(guard):
    """Whether the guard has let go of the module and can be rung."""
    sockets = [
        each
        for each in os.listdir(f"/proc/{guard}/fd")
        if "socket" in os.readlink(f"/proc/{guard}/fd/{each}")
    ]
    return Path(f"/proc/{guard}/comm").read_text() == "kubeferry-guard\n" and len(sockets) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_however_the_playbook_ends_its_pods_go(playbook, tmp_path, number):
    process = playbook()
    assert (tmp_path / "started").read_text() == "True"
    assert (tmp_path / "pod").exists()
    process.send_signal(number)
    process.wait()
    assert eventually(lambda: not (tmp_path / "pod").exists())
    assert (tmp_path / "guard").read_text() == "/dev/null /dev/null /dev/null"


def test_nothing_holds_up_who_waits_for_the_end_of_the_output(playbook):
    process = playbook()
    process.kill()
    started = time.monotonic()
    assert process.stdout.read() == b""
    assert time.monotonic() - started < 5


def test_nothing_of_the_module_is_kept(playbook, tmp_path):
    playbook()
    assert eventually(lambda: guards(tmp_path))
    (guard,) = guards(tmp_path)
    assert eventually(lambda: is_settled(guard))
    targets = [os.readlink(f"/proc/{guard}/fd/{each}") for each in os.listdir(f"/proc/{guard}/fd")]
    assert not [target for target in targets if "leaked" in target or "pipe:" in target]
    # A signal for the worker's process group must not reach it, nor the end of a terminal.
    assert os.getsid(guard) != int((tmp_path / "session").read_text())


def test_the_guard_ends_when_its_pods_are_removed_by_others(playbook, tmp_path):
    playbook()
    assert eventually(lambda: guards(tmp_path))
    (guard,) = guards(tmp_path)
    assert eventually(lambda: is_settled(guard))
    (tmp_path / "pod").unlink()
    _guard.notify(str(tmp_path))
    assert eventually(lambda: not guards(tmp_path))


def test_the_guard_stays_while_there_are_pods(playbook, tmp_path):
    playbook()
    assert eventually(lambda: guards(tmp_path))
    (guard,) = guards(tmp_path)
    assert eventually(lambda: is_settled(guard))
    _guard.notify(str(tmp_path))
    time.sleep(0.5)
    assert guards(tmp_path)


def test_the_guard_told_to_end_cleans_up_first(playbook, tmp_path):
    playbook()
    assert eventually(lambda: guards(tmp_path))
    (guard,) = guards(tmp_path)
    assert eventually(lambda: is_settled(guard))
    os.kill(guard, signal.SIGTERM)
    assert eventually(lambda: not (tmp_path / "pod").exists())


def test_a_server_that_is_away_is_asked_again(playbook, tmp_path):
    process = playbook()
    (tmp_path / "away").touch()
    process.kill()
    time.sleep(0.5)
    assert (tmp_path / "pod").exists()
    (tmp_path / "away").unlink()
    assert eventually(lambda: not (tmp_path / "pod").exists())


def test_a_run_that_outlives_the_pods_lifetime(playbook, tmp_path):
    playbook(mode="expired")
    assert eventually(lambda: not (tmp_path / "pod").exists())


def test_a_module_that_is_at_work_as_an_orphan_has_ended_before_its_pods_go(playbook, tmp_path):
    process = playbook(mode="busy")
    assert eventually(lambda: any(is_settled(each) for each in guards(tmp_path)))
    process.kill()
    time.sleep(0.2)
    for each in guards(tmp_path):
        os.kill(each, signal.SIGTERM)  # the machine shuts down
    assert eventually(lambda: not (tmp_path / "pod").exists())
    assert (tmp_path / "cleaned").read_text() == "before the guard"


def test_a_guard_that_finds_nothing_stays_as_long_as_its_module(playbook, tmp_path):
    process = playbook(mode="busy")
    (tmp_path / "pod").unlink()
    assert eventually(lambda: any(is_settled(each) for each in guards(tmp_path)))
    _guard.notify(str(tmp_path))
    time.sleep(0.5)
    (tmp_path / "pod").touch()
    process.kill()
    assert eventually(lambda: not (tmp_path / "pod").exists())


def test_an_orphan_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(_guard, "_END_SECONDS", 0.2)
    ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as controller,
        subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE) as module,
    ):
        module.stdout.readline()
        processes = _guard._Processes(os.pidfd_open(controller.pid), os.pidfd_open(module.pid))
        _guard._end_orphan(processes)
        assert module.poll() is None, "its playbook is there"
        controller.kill()
        controller.wait()
        _guard._end_orphan(processes)
        assert module.wait() == -signal.SIGKILL
        for each in (processes.controller, processes.module):
            os.close(each)


def test_who_is_not_ansible_gets_no_guard(playbook, tmp_path):
    playbook(name="something-else")
    assert (tmp_path / "started").read_text() == "False"
    assert not guards(tmp_path)


def test_a_module_whose_playbook_is_gone_before_it_starts_is_told(playbook, tmp_path):
    playbook(mode="orphan")
    started = tmp_path / "started"
    assert eventually(lambda: started.exists() and "has ended" in started.read_text())
    assert eventually(lambda: not guards(tmp_path))


def test_there_is_one_guard_for_a_run(tmp_path):
    watch = _guard.Watch(str(tmp_path), 60, lambda: True, lambda: None, lambda: None)
    with _guard.socket.socket(_guard.socket.AF_UNIX, _guard.socket.SOCK_DGRAM) as bell:
        bell.bind(_guard._address(watch.name))
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            # It returns at once, since the name is taken.
            _guard._guard(watch, _guard._Processes(reading, reading))
            os._exit(7)
        assert os.waitpid(child, 0)[1] == 7 << 8
        os.close(reading)
        os.close(writing)
