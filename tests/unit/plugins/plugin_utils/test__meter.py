# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import json
import os
import socket
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._meter import MOST_COPIES, SILENT, Meter
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._progress_socket import (
    ProgressSocket,
    ancestors,
    bind,
)
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor


def said(phase="copying", pid=7, label="a", **more):
    return json.dumps({"v": 1, "pid": pid, "label": label, "phase": phase, "bytes": 1, **more}).encode()


def test_only_the_newest_and_at_most_ten_times_a_second():
    meter, told = Meter(Redactor()), []
    for hundredth in range(300):
        now = hundredth / 100
        meter.hear(said(bytes=hundredth), None, now)
        told += [(now, data["bytes"]) for _key, data in meter.due(now)]
    times = [time for time, _bytes in told]
    assert 28 <= len(told) <= 31
    assert min(after - before for before, after in pairwise(times)) > 0.09
    # What is told is what was just heard.
    assert all(told_bytes == round(100 * time) for time, told_bytes in told)


def test_each_copy_has_its_own_pace():
    meter = Meter(Redactor())
    for pid in (1, 2, 3):
        meter.hear(said(pid=pid), None, 0.0)
    assert len(meter.due(0.0)) == 3
    assert meter.due(0.01) == []


def test_an_end_is_told_at_once_and_last():
    meter = Meter(Redactor())
    meter.hear(said(), None, 0.0)
    meter.due(0.0)
    meter.hear(said(phase="end"), None, 0.01)
    ((_key, data),) = meter.due(0.01)
    assert data["phase"] == "end"
    assert meter.due(1.0) == []
    meter.hear(said(phase="end"), None, 2.0)
    assert meter.due(2.0) == []


def test_a_module_that_fell_silent_has_ended():
    meter = Meter(Redactor())
    meter.hear(said(), None, 0.0)
    meter.due(0.0)
    assert meter.due(SILENT - 0.1) == []
    ((_key, data),) = meter.due(SILENT + 0.1)
    assert data["phase"] == "end"
    assert not meter.copies


def test_the_run_ends():
    meter = Meter(Redactor())
    meter.hear(said(), None, 0.0)
    meter.due(0.0)
    ((_key, data),) = meter.due(0.01, everything=True)
    assert data["phase"] == "end"


def test_context():
    meter = Meter(Redactor())
    meter.hear(said(context="task-1 host 1"), None, 0.0)
    ((_key, data),) = meter.due(0.0)
    assert (data["task_id"], data["host"]) == ("task-1", "host 1")
    assert "context" not in data


def test_context_of_a_module_that_lost_it():
    meter = Meter(Redactor())
    worker = json.dumps({"v": 1, "worker": os.getppid(), "context": "task-2 h2"}).encode()
    meter.hear(worker, None, 0.0)
    meter.hear(said(), os.getpid(), 0.0)
    ((_key, data),) = meter.due(0.0)
    assert (data["task_id"], data["host"]) == ("task-2", "h2")


@given(
    st.binary()
    | st.recursive(st.none() | st.floats() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
    | st.dictionaries(
        st.sampled_from(
            ["v", "pid", "label", "phase", "bytes", "seconds_left", "context", "worker", "files"]
        ),
        st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.just(1),
    ).map(lambda value: json.dumps({"v": 1, **value}).encode())
)
def test_rubbish_is_ignored(datagram):
    meter = Meter(Redactor())
    meter.hear(datagram, None, 0.0)
    for _key, data in meter.due(0.0):
        assert json.dumps(data, allow_nan=False)
        assert isinstance(data["label"], str)


def test_how_much_is_kept_is_bounded():
    meter = Meter(Redactor())
    for pid in range(2 * MOST_COPIES):
        meter.hear(said(pid=pid), None, 0.0)
    assert len(meter.copies) == MOST_COPIES


def test_ancestors():
    found = ancestors(os.getpid())
    assert found[0] == os.getppid()
    assert found[-1] in (0, 1)
    assert ancestors(2**30) == []


def test_the_socket_knows_its_senders(tmp_path):
    bound = bind(tmp_path)
    listening = ProgressSocket(bound.detach())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", str(tmp_path / "socket"))
    assert listening.receive(os.getppid()) == (b"hello", os.getpid())
    assert listening.receive(os.getppid()) is None
    listening.socket.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
@pytest.mark.parametrize("descends", [True, False], ids=["descendant", "stranger"])
def test_other_users_may_speak_only_from_inside_the_run(tmp_path, monkeypatch, descends):
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    bound = bind(tmp_path)
    # As if an ordinary user ran the playbook: root may always speak.
    listening = ProgressSocket(bound.detach())
    child = os.fork()
    if not child:
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", str(tmp_path / "socket"))
            sender.sendto(b"hello again", str(tmp_path / "socket"))
        time.sleep(1)  # it has to be there when its ancestors are looked up
        os._exit(0)
    listening.socket.setblocking(True)
    received = listening.receive(os.getpid() if descends else 2**30)
    os.waitpid(child, 0)
    assert received == ((b"hello", child) if descends else (b"", None))
    listening.socket.close()


def test_a_secret_where_a_label_is_cut_is_gone_whole():
    meter = Meter(Redactor(values=["hunter2-hunter2"]))
    meter.hear(said(label="x" * 990 + "hunter2-hunter2"), None, 0.0)
    ((_key, data),) = meter.due(0.0)
    assert "hunter" not in data["label"]
