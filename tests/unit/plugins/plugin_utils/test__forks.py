# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import json
import os
import socket

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _forks


@pytest.fixture
def heard(tmp_path, monkeypatch):
    """Forks a worker, and returns the notes that it left and what its modules would inherit."""
    monkeypatch.setattr(_forks, "_told", set())
    monkeypatch.setattr(_forks, "_context", "")
    monkeypatch.delenv(_forks.CONTEXT_VARIABLE, raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.setblocking(False)
        _forks.tell_of_forks(str(tmp_path / "socket"))

        def fork():
            worker = os.fork()
            if not worker:
                os._exit(0)
            os.waitpid(worker, 0)
            notes = []
            try:
                while True:
                    notes.append(json.loads(listening.recv(4096)))
            except BlockingIOError:
                return worker, notes

        yield fork


def test_a_worker_that_copies_says_what_it_has_to_do(heard):
    _forks.set_context("t1 h1")
    worker, notes = heard()
    assert notes == [{"v": 1, "worker": worker, "context": "t1 h1"}]
    assert os.environ[_forks.CONTEXT_VARIABLE] == "t1 h1"


def test_other_workers_say_nothing(heard):
    assert heard()[1] == []
    _forks.set_context("t1 h1")
    _forks.set_context("")
    assert heard()[1] == []
    assert _forks.CONTEXT_VARIABLE not in os.environ
