# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import errno
import fcntl
import json
import os

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _spool
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._event_line import event_line
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._leftovers import Leftovers
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._spool import Spool, locked, make_folder

RUN = "11111111-2222-4333-8444-555555555555"
LIMIT = 10_000_000


def line(text="x", kind="host.ok"):
    return event_line(kind, {"task_id": "t", "host": text}, Redactor())


def numbers(lines):
    return [json.loads(each)["pubseq"] for each in lines]


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / f"{RUN}.jsonl", LIMIT)
    yield made
    try:
        made.close()
    except OSError:
        pass  # the test closed it


def fill(spool, count):
    for number in range(count):
        spool.append(line(str(number)))


def test_events_are_numbered_and_sent_in_order(spool):
    fill(spool, 25)
    sent = []
    while batch := spool.batch(100_000, 10):
        assert len(batch) <= 10
        sent += batch
    assert numbers(sent) == list(range(1, 26))
    assert {json.loads(each)["id"] for each in sent} == {f"{RUN}:{number}" for number in range(1, 26)}
    assert not spool.delivered
    assert spool.undelivered == 25
    spool.acknowledge(10)
    assert spool.undelivered == 15
    spool.acknowledge(25)
    assert spool.delivered
    assert spool.undelivered == 0


def test_a_full_disk_costs_no_event(tmp_path, monkeypatch):
    """Beyond what fits on it, events are in memory; the file on the disk goes once the server has them all."""
    path = tmp_path / f"{RUN}.jsonl"
    spool = Spool(path, LIMIT)
    on_disk, pwrite = spool._file, os.pwrite

    def full(descriptor, data, offset):
        if descriptor == on_disk and offset + len(data) > 1_500:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    fill(spool, 25)
    assert spool.in_memory
    sent = []
    while batch := spool.batch(100_000, 10):
        sent += batch
    assert numbers(sent) == list(range(1, 26))
    assert spool.undelivered == 25
    assert spool.unkept == 25 - len(path.read_bytes().splitlines())
    spool.acknowledge(20)
    assert spool.unkept == 5
    spool.acknowledge(25)
    assert spool.delivered
    assert spool.unkept == 0
    spool.close()
    assert not path.exists()


def test_where_there_can_be_no_file_events_are_in_memory(tmp_path):
    path = tmp_path / "nowhere" / f"{RUN}.jsonl"
    with pytest.raises(FileNotFoundError):
        Spool(path, LIMIT)
    spool = Spool.without_disk(path, LIMIT)
    assert spool.in_memory
    fill(spool, 25)
    assert numbers(spool.batch(100_000, 100)) == list(range(1, 26))
    spool.acknowledge(25)
    assert spool.delivered
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_fits_nowhere_counts_as_undelivered(spool, monkeypatch):
    fill(spool, 2)
    monkeypatch.setattr(spool, "_put", lambda _line, _beyond: False)
    fill(spool, 3)
    assert spool.undelivered == 5
    assert not spool.delivered


def test_what_was_not_sent_can_not_be_acknowledged(spool):
    """Another run has the number, or the server is none: nothing counts as delivered, and nothing more is sent."""
    fill(spool, 5)
    spool.batch(100_000, 3)
    spool.acknowledge(3)
    spool.batch(100_000, 1)
    assert not spool.disputed
    spool.acknowledge(5)
    assert spool.disputed
    assert (spool.delivered, spool.undelivered, spool.outstanding) == (False, 2, 0)
    assert spool.batch(100_000, 100) == []
    spool.reconnect(same_history=False)
    assert spool.batch(100_000, 100) == []


def test_what_an_earlier_process_may_have_sent_can_be_acknowledged(spool):
    fill(spool, 5)
    os.close(spool._file)
    later = Spool(spool.path, LIMIT)
    later.batch(100_000, 2)
    later.acknowledge(5)
    assert not later.disputed
    later.close()


def test_what_is_set_aside_stays(spool, tmp_path):
    fill(spool, 1)
    kept = spool.set_aside()
    assert not spool.path.exists()
    assert Leftovers(tmp_path, LIMIT).delivered
    assert numbers(kept.read_bytes().splitlines()) == [1]


def test_a_batch_is_bounded_but_never_empty(spool):
    fill(spool, 3)
    spool.append(line("y" * 5_000))
    fill(spool, 1)
    sizes = []
    while batch := spool.batch(1_000, 100):
        sizes.append(len(batch))
    assert sum(sizes) == 5
    assert 1 in sizes


def test_a_lost_connection_sends_again_what_was_not_acknowledged(spool):
    fill(spool, 10)
    spool.batch(100_000, 4)
    spool.batch(100_000, 4)
    spool.acknowledge(4)
    spool.reconnect(same_history=True)
    assert numbers(spool.batch(100_000, 100)) == [5, 6, 7, 8, 9, 10]
    spool.reconnect(same_history=False)
    assert numbers(spool.batch(100_000, 100)) == list(range(1, 11))


def test_a_server_that_lost_its_history_gets_everything_again_once(spool):
    fill(spool, 6)
    spool.batch(100_000, 6)
    spool.acknowledge(6)
    spool.acknowledge(2)
    assert numbers(spool.batch(100_000, 100)) == [1, 2, 3, 4, 5, 6]
    spool.acknowledge(1)
    assert spool.batch(100_000, 100) == []  # or it would go on for ever


def test_an_acknowledged_file_is_emptied(spool, monkeypatch):
    monkeypatch.setattr(_spool, "EMPTIED_FROM", 2_000)
    fill(spool, 20)
    spool.batch(100_000, 100)
    spool.acknowledge(20)
    assert spool.path.stat().st_size == 0
    fill(spool, 2)
    assert numbers(spool.batch(100_000, 100)) == [21, 22]
    # What is gone from here and from the server is declared lost.
    spool.reconnect(same_history=False)
    gap, *rest = [json.loads(each) for each in spool.batch(100_000, 100)]
    assert gap["data"] == {
        "reason": "server_lost_history",
        "message": "the server had them and lost them",
        "count": 20,
        "first_pubseq": 1,
        "last_pubseq": 20,
    }
    assert [each["pubseq"] for each in rest] == [21, 22]


def test_a_full_spool_leaves_a_gap(tmp_path):
    spool = Spool(tmp_path / f"{RUN}.jsonl", 100_000)
    for _number in range(50):
        spool.append(line("y" * 5_000))
    spool.append(line(kind="run.finished"))
    sent = [json.loads(each) for each in spool.batch(1_000_000, 100)]
    *kept, gap, last = sent
    assert [each["pubseq"] for each in kept] == list(range(1, len(kept) + 1))
    assert gap["type"] == "kubeferry.v1.gap"
    assert (gap["data"]["first_pubseq"], gap["pubseq"]) == (len(kept) + 1, 50)
    assert gap["data"]["reason"] == "spool_full"
    assert (last["type"], last["pubseq"]) == ("kubeferry.v1.run.finished", 51)
    assert spool.path.stat().st_size <= 100_000 + _spool.RESERVE
    spool.acknowledge(51)
    spool.close()
    assert not spool.path.exists()


def test_a_full_disk_leaves_a_gap(spool, monkeypatch):
    fill(spool, 2)
    real = os.pwrite

    def full(descriptor, data, offset):
        return real(descriptor, data[: len(data) // 2], offset)  # what a disk does that fills up in a write

    monkeypatch.setattr(os, "pwrite", full)
    fill(spool, 3)
    monkeypatch.setattr(os, "pwrite", real)
    fill(spool, 1)
    sent = [json.loads(each) for each in spool.batch(100_000, 100)]
    assert [each["pubseq"] for each in sent] == [1, 2, 5, 6]
    assert sent[2]["data"]["first_pubseq"] == 3


def test_what_was_lost_before_it_came_here_is_a_gap(spool):
    fill(spool, 2)
    spool.lost(7)
    fill(spool, 1)
    sent = [json.loads(each) for each in spool.batch(100_000, 100)]
    assert [each["pubseq"] for each in sent] == [1, 2, 9, 10]
    assert sent[2]["data"]["reason"] == "publisher_lost"
    assert sent[2]["data"]["count"] == 7


def test_a_file_is_for_one_process_at_a_time(spool):
    with pytest.raises(BlockingIOError):
        Spool(spool.path, LIMIT)


def test_what_was_removed_before_it_was_locked_is_not_taken(tmp_path, monkeypatch):
    """Another process has delivered it in between, and may have made a new one under its name."""
    path = tmp_path / f"{RUN}.jsonl"
    path.write_text("delivered")
    lock = fcntl.flock

    def late(file, operation):
        path.unlink()
        path.write_text(f'{{"specversion":"1.0","id":"{RUN}:1",')
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(FileNotFoundError):
        locked(path)
    monkeypatch.undo()
    os.close(locked(path))  # nobody holds the new one


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / f"{RUN}.jsonl").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        Spool(tmp_path / f"{RUN}.jsonl", LIMIT)
    assert (tmp_path / "target").read_text() == "precious"


def test_what_is_no_spool_is_not_written_over(tmp_path):
    path = tmp_path / f"{RUN}.jsonl"
    path.write_text('{"my":"data"}\n')
    with pytest.raises(OSError, match="no file of this user's events"):
        Spool(path, LIMIT)
    spool = Spool.without_disk(path, LIMIT)
    with pytest.raises(FileNotFoundError):
        spool.set_aside()
    spool.close()
    assert path.read_text() == '{"my":"data"}\n'


def test_a_folder_is_made_for_its_owner_alone(tmp_path):
    folder = tmp_path / "spool" / "server"
    make_folder(folder)
    make_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_not_this_users_alone_is_refused(tmp_path, monkeypatch):
    folder, link, file = (tmp_path / name for name in ("folder", "link", "file"))
    folder.mkdir()
    link.symlink_to(folder)
    file.touch()
    with pytest.raises(OSError, match="it is a symbolic link"):
        make_folder(link)
    with pytest.raises(OSError, match="it is no folder"):
        make_folder(file)
    for mode in (0o770, 0o1777):
        folder.chmod(mode)
        with pytest.raises(OSError, match="others can write there"):
            make_folder(folder)
    folder.chmod(0o755)
    make_folder(folder)
    user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(OSError, match="it is another user's"):
        make_folder(folder)
