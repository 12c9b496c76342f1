# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holding a target in a container that has no flock, or beside one that has none."""

from __future__ import annotations

import os
import signal
import time

import engine
import pytest
from toolbox import Box, found
from trees import snapshot, write
from waiting import eventually

from ansible_collections.kubeferry.pvc.plugins.module_utils import _hold
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import BusyError, ConnectionLost
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import Selection
from ansible_collections.kubeferry.pvc.plugins.module_utils._tree import Changes


@pytest.fixture(params=["gnu", "busybox"])
def box(request, tmp_path):
    return Box(str(tmp_path / "box"), request.param, without=["flock"])


@pytest.fixture
def target(tmp_path):
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_two_runs_exclude_each_other(box, target, monkeypatch):
    monkeypatch.setattr(_hold, "BEAT_SECONDS", 0.5)
    first, second = engine.shell(box, target), engine.shell(box, target)
    first.begin()
    with pytest.raises(BusyError, match=r"^Another run is copying to .*target in the"):
        second.begin()
    first.close()
    assert set(snapshot(target)) == {b"."}
    second.begin()
    second.close()
    assert set(snapshot(target)) == {b"."}


@pytest.mark.parametrize("lacking", ["first", "second"])
def test_two_runs_of_which_one_has_no_flock_exclude_each_other(box, tmp_path, target, monkeypatch, lacking):
    monkeypatch.setattr(_hold, "BEAT_SECONDS", 0.5)
    trees = [engine.shell(box, target), engine.shell(Box(str(tmp_path / "other"), "gnu"), target)]
    first, second = trees if lacking == "first" else reversed(trees)
    first.begin()
    with pytest.raises(BusyError, match=r"^Another run is copying to .*target in the"):
        second.begin()
    first.close()
    second.begin()
    second.close()
    assert set(snapshot(target)) == {b"."}


@pytest.mark.parametrize(("left", "dead", "least"), [("lock", 50, 0), ("run-dead", 2, 2)])
def test_with_flock_only_what_was_left_without_is_waited_for(
    tmp_path, target, monkeypatch, left, dead, least
):
    monkeypatch.setattr(_hold, "DEAD_SECONDS", dead)
    write(target, f".kubeferry/held/{left}", b"")
    tree = engine.shell(Box(str(tmp_path / "box"), "gnu"), target)
    started = time.monotonic()
    tree.begin()
    assert least <= time.monotonic() - started < 25
    assert (target / ".kubeferry/held/lock").exists()
    tree.close()
    assert set(snapshot(target)) == {b"."}


def test_what_a_dead_pod_left_is_taken_over_after_a_while(box, target, monkeypatch):
    monkeypatch.setattr(_hold, "DEAD_SECONDS", 2)
    write(target, ".kubeferry/held/run-dead", b"")
    write(target, ".kubeferry/run-dead/tree/file", b"x")
    tree = engine.shell(box, target)
    started = time.monotonic()
    tree.begin()
    assert time.monotonic() - started >= 2
    assert not (target / ".kubeferry/run-dead").exists()
    tree.close()
    assert set(snapshot(target)) == {b"."}


def test_a_run_takes_its_own_hold_up_again(box, target):
    """The stream was lost, and the pod did not notice: what is left is ours."""
    tree = engine.shell(box, target)
    tree.begin()
    (held,) = (target / ".kubeferry/held").iterdir()
    tree.close()
    write(target, f".kubeferry/held/{held.name}", b"")
    tree.begin()
    tree.close()
    assert set(snapshot(target)) == {b"."}


def test_a_run_tells_that_it_is_alive(box, target, monkeypatch):
    monkeypatch.setattr(_hold, "BEAT_SECONDS", 0.01)
    tree = engine.shell(box, target)
    tree.begin()
    try:
        os.utime(target / ".kubeferry/held", (5, 5))
        deadline = time.monotonic() + 20
        while os.stat(target / ".kubeferry/held").st_mtime == 5 and time.monotonic() < deadline:
            pass
        assert os.stat(target / ".kubeferry/held").st_mtime > 5
    finally:
        tree.close()
    assert set(snapshot(target)) == {b"."}


def test_nothing_is_written_without_a_hold(box, target):
    tree = engine.shell(box, target)
    with pytest.raises(ConnectionLost, match=r"^The hold on .*target in the .* was lost"):
        tree.receive([], [], "sha256")


def test_a_hold_that_nobody_speaks_to_ends(tmp_path, target, monkeypatch):
    """As that of a run whose stream a restarted container runtime has forgotten. BusyBox's `read` has a limit."""
    monkeypatch.setattr(_hold, "BEAT_SECONDS", 60)
    monkeypatch.setattr(_hold, "DEAD_SECONDS", 600)
    monkeypatch.setattr(_hold, "LOST_SECONDS", 1)
    box = Box(str(tmp_path / "busy"), "busybox")  # with BusyBox's own shell
    first, second = engine.shell(box, target), engine.shell(box, target)
    first.begin()
    deadline = time.monotonic() + 20
    while (target / ".kubeferry").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second.begin()
    with pytest.raises(ConnectionLost, match="was lost"):
        first.receive([], [], "sha256")
    second.close()
    first.close()
    assert set(snapshot(target)) == {b"."}


@pytest.mark.parametrize("kind", ["gnu", "busybox"])
def test_a_work_directory_that_goes_right_now_is_another_runs(tmp_path, target, kind, monkeypatch):
    """The holder before ends between two steps of the next one."""
    monkeypatch.setattr(_hold, "DEAD_SECONDS", 2)
    box = Box(str(tmp_path / "box"), kind, without=["mkdir"])
    mkdir = tmp_path / "box" / "mkdir"
    mkdir.write_text(
        f'#!{found("sh", "dash")}\n{found("mkdir", "coreutils")} "$@" && exec rmdir .kubeferry\n'
    )
    mkdir.chmod(0o755)
    with pytest.raises(BusyError, match=r"^Another run is copying to "):
        engine.shell(box, target).begin()


def test_what_a_dead_run_still_removes_keeps_the_next_one_out(tmp_path, target):
    """The controller is killed; the command that it had started in the pod goes on."""
    box = Box(str(tmp_path / "slow"), "gnu", without=["rm"])
    go_on, began = tmp_path / "go-on", tmp_path / "began"
    script = f"""#!/bin/sh
case "$*" in *extra*) : >{began}; while [ ! -e {go_on} ]; do sleep 0.1; done ;; esac
exec {found("rm", "coreutils")} "$@"
"""
    (tmp_path / "slow" / "rm").write_text(script)
    (tmp_path / "slow" / "rm").chmod(0o755)
    write(target, "extra", b"x")
    controller = os.fork()
    if not controller:
        first = engine.shell(box, target)
        first.begin()
        first.apply(Changes(remove=[next(e for e in first.scan(Selection()) if e.path == b"extra")]))
        os._exit(0)
    second = engine.shell(box, target)
    try:
        assert eventually(began.exists)
        os.kill(controller, signal.SIGKILL)
        os.waitpid(controller, 0)
        with pytest.raises(BusyError, match=r"^Another run is copying to "):
            second.begin()
        assert (target / "extra").exists()
    finally:
        go_on.touch()
    assert eventually(lambda: begun(second))
    assert not (target / "extra").exists()
    second.close()
    assert set(snapshot(target)) == {b"."}


def begun(tree):
    try:
        tree.begin()
    except BusyError:
        tree.close()
        return False
    return True
