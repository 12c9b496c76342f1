# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _session
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._event_line import event_line
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._helper import Helper
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor

RUN = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def run(monkeypatch, capfd):
    """Lets a helper without a server have one event, and returns what it says to the user."""
    monkeypatch.setattr(_session, "HAS_WEBSOCKET", False)

    def made(spool):
        helper = Helper({"run": RUN, "url": "ws://server/ws", "spool": str(spool), "spool_bytes": 20_000_000})
        helper._take([event_line("host.ok", {"task_id": "t", "host": "h"}, Redactor()).rstrip()])
        helper._finish()
        return capfd.readouterr().out.splitlines()

    return made


def test_what_is_not_delivered_is_kept(run, tmp_path):
    (said,) = run(tmp_path / "spool")
    assert "2 events were not delivered; the events are kept in" in said
    assert "for the next run that publishes to this URL" in said
    (kept,) = (tmp_path / "spool").rglob(f"{RUN}.jsonl")
    assert len(kept.read_bytes().splitlines()) == 2


def test_where_nothing_can_be_kept_the_loss_is_told_too(run, tmp_path):
    (tmp_path / "file").touch()
    first, last = run(tmp_path / "file")
    assert first.endswith("(Not a directory): until the server has them they are in memory")
    assert last.endswith("2 events were not delivered; they are lost, since they were in memory alone")


def test_a_disk_that_gets_full_is_told_whatever_was_told_before(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(_session, "HAS_WEBSOCKET", False)
    helper = Helper({"run": RUN, "url": "ws://server/ws", "spool": str(tmp_path), "spool_bytes": 20_000_000})
    on_disk, pwrite = helper._spool._file, os.pwrite

    def full(descriptor, data, offset):
        if descriptor == on_disk and offset + len(data) > 1_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    line = event_line("host.ok", {"task_id": "t", "host": "h"}, Redactor()).rstrip()
    helper._warn("kept, and sent later")
    helper._take([line] * 9)
    helper._tell()
    helper._tell()
    helper._finish()
    _before, full_disk, end = capfd.readouterr().out.splitlines()
    assert full_disk.endswith("where the disk is full: until the server has them they are in memory")
    (kept,) = tmp_path.rglob(f"{RUN}.jsonl")
    lost = 10 - len(kept.read_bytes().splitlines())
    assert 0 < lost < 10
    assert f"10 events were not delivered; {lost} of them are lost, the others are kept in" in end


def test_a_number_that_is_in_use_is_named(run, tmp_path):
    run(tmp_path / "spool")  # its lock is held as long as this process lives
    (said,) = run(tmp_path / "spool")
    assert said.startswith(f"a run {RUN} is going on already, so this one is not published")
    assert os.listdir(tmp_path / "spool")


def test_why_the_server_refused_events_is_told_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(_session, "HAS_WEBSOCKET", False)
    helper = Helper({"run": RUN, "url": "ws://server/ws", "spool": str(tmp_path), "spool_bytes": 20_000_000})
    helper._warn("something else before")
    helper._session.refusal = "Refused: too late"
    helper._tell()
    helper._tell()
    said = capfd.readouterr().out.splitlines()
    assert [line.startswith("ws://server/ws: Refused: too late. ") for line in said] == [False, True]
