# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _leftovers
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._event_line import event_line
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._leftovers import MOST_AT_ONCE, Leftovers
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._spool import Spool, locked, make_folder

LIMIT = 10_000_000


def named(number, suffix=".jsonl"):
    """Return the name of a run's spool."""
    return f"11111111-2222-4333-8444-{number:012}{suffix}"


A, B, C = (named(number, "") for number in range(3))


def write(path, events=1, finished=False):
    """Leave a spool as a helper does that was killed, or whose server was away."""
    spool = Spool(path, LIMIT)
    for _event in range(events):
        spool.append(event_line("host.ok", {"task_id": "t", "host": "h"}, Redactor()))
    if finished:
        spool.append(event_line("run.finished", {"status": "ok"}, Redactor()))
    os.close(spool._file)
    return path


def deliver(leftovers):
    """Deliver everything and return the numbers of each run's events, in the order of the runs."""
    sent = {}
    leftovers.proceed()
    while leftovers.open:
        for spool in leftovers.open:
            events = [json.loads(line) for line in spool.batch(1_000_000, 1_000)]
            sent[spool.run] = [event["pubseq"] for event in events]
            spool.acknowledge(spool.last)
        leftovers.proceed()
    return sent


def test_a_later_process_goes_on(tmp_path):
    folder = tmp_path / "spool" / "server"
    make_folder(folder)
    path = write(folder / f"{A}.jsonl", events=3)
    with path.open("ab") as file:
        file.write(b'{"specversion":"1.0","id":"half a li')
    path.with_name(named(1)).write_bytes(b'{"specversion":"1.0","id":"11111111-22')
    leftovers = Leftovers(folder, LIMIT)
    leftovers.proceed()
    (spool,) = leftovers.open
    sent = [json.loads(each) for each in spool.batch(100_000, 100)]
    assert [each["pubseq"] for each in sent] == [1, 2, 3, 4]
    assert sent[-1]["data"] == {"status": "interrupted"}
    assert not leftovers.delivered
    spool.acknowledge(4)
    leftovers.proceed()
    assert leftovers.delivered
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o077 == 0


def test_a_finished_run_is_left_as_it_is(tmp_path):
    write(tmp_path / f"{A}.jsonl", finished=True)
    assert deliver(Leftovers(tmp_path, LIMIT)) == {A: [1, 2]}


def test_a_run_that_is_going_on_is_left_alone(tmp_path):
    held = locked(write(tmp_path / f"{A}.jsonl"))
    assert deliver(Leftovers(tmp_path, LIMIT)) == {}
    os.close(held)
    assert deliver(Leftovers(tmp_path, LIMIT)) == {A: [1, 2]}


def test_very_many_are_taken_a_few_at_a_time(tmp_path):
    for number in range(3 * MOST_AT_ONCE + 1):
        write(tmp_path / named(number))
    leftovers = Leftovers(tmp_path, LIMIT)
    assert leftovers.open == []
    leftovers.proceed()
    assert len(leftovers.open) == MOST_AT_ONCE
    assert len(deliver(leftovers)) == 3 * MOST_AT_ONCE + 1
    assert leftovers.delivered
    assert list(tmp_path.iterdir()) == []


def test_two_processes_share_them(tmp_path):
    for number in range(2 * MOST_AT_ONCE):
        write(tmp_path / named(number))
    one, other = Leftovers(tmp_path, LIMIT), Leftovers(tmp_path, LIMIT)
    one.proceed()
    assert len(deliver(other)) == MOST_AT_ONCE
    assert len(deliver(one)) == MOST_AT_ONCE
    assert one.delivered
    assert other.delivered


def test_a_lost_connection_leaves_them_to_others_and_begins_with_the_next(tmp_path):
    for number in range(MOST_AT_ONCE + 1):
        os.utime(write(tmp_path / named(number)), (number + 1, number + 1))
    leftovers = Leftovers(tmp_path, LIMIT)
    leftovers.proceed()
    leftovers.let_go()
    assert not leftovers.delivered
    os.close(locked(tmp_path / named(0)))
    sent = deliver(leftovers)
    assert next(iter(sent)) == named(MOST_AT_ONCE, "")
    assert len(sent) == MOST_AT_ONCE + 1


def test_what_others_remove_in_between_is_passed_over(tmp_path, monkeypatch):
    for name in (A, B, C):
        write(tmp_path / f"{name}.jsonl")
    look = Path.lstat

    def late(path):
        if path.stem == A:
            path.unlink(missing_ok=True)
        return look(path)

    monkeypatch.setattr(Path, "lstat", late)
    leftovers = Leftovers(tmp_path, LIMIT)
    (tmp_path / f"{B}.jsonl").unlink()
    assert deliver(leftovers) == {C: [1, 2]}
    assert list(tmp_path.iterdir()) == []


def test_what_the_server_disputes_is_for_a_later_run(tmp_path):
    path = write(tmp_path / f"{A}.jsonl")
    leftovers = Leftovers(tmp_path, LIMIT)
    leftovers.proceed()
    leftovers.open[0].batch(100_000, 100)
    leftovers.open[0].acknowledge(3)
    leftovers.proceed()
    assert leftovers.delivered
    assert path.exists()
    assert deliver(Leftovers(tmp_path, LIMIT)) == {A: [1, 2]}


def test_a_run_that_is_just_starting_keeps_its_file(tmp_path):
    """It has made the file and not locked it yet."""
    path = tmp_path / f"{A}.jsonl"
    path.touch()
    assert Leftovers(tmp_path, LIMIT).delivered
    assert path.exists()
    long_ago = time.time() - _leftovers.STARTING_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert Leftovers(tmp_path, LIMIT).delivered
    assert not path.exists()


def test_beyond_the_limit_the_oldest_go(tmp_path):
    for age in (3, 2, 1):
        path = write(tmp_path / named(age), events=100)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    size = path.stat().st_size
    assert list(deliver(Leftovers(tmp_path, 2 * size + 100))) == [named(2, ""), named(1, "")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [f"{A}.jsonl", f"gone/{A}.jsonl"])
def test_what_can_not_be_read_is_passed_over(tmp_path, name):
    path = tmp_path / name
    if path.parent == tmp_path:
        path.symlink_to(tmp_path / "elsewhere")
    assert deliver(Leftovers(path.parent, LIMIT)) == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (named(0), b'{"my":"data"}\n'),
        (named(0), b'{"specversion":"1.0","id":"22222222-2222-4333-8444-000000000000:1","pubseq":1}\n'),
        (named(0, ".1700000000000000000.disputed"), b"mine"),
        ("train.jsonl", b""),
        ("backup.tar", b"x" * 1_000),
    ],
)
def test_what_is_no_spool_is_left_as_it_is(tmp_path, name, content):
    """However old it is, and were all of it beyond the limit."""
    path = tmp_path / name
    path.write_bytes(content)
    os.utime(path, (1_000_000, 1_000_000))
    for limit in (LIMIT, 0):
        leftovers = Leftovers(tmp_path, limit)
        assert deliver(leftovers) == {}
        assert leftovers.delivered
    assert path.read_bytes() == content


def test_what_was_set_aside_goes_beyond_the_limit(tmp_path):
    path = write(tmp_path / named(0))
    path = path.rename(path.with_suffix(".1700000000000000000.disputed"))
    Leftovers(tmp_path, LIMIT)
    assert path.exists()
    Leftovers(tmp_path, 0)
    assert not path.exists()


def test_another_user_s_file_is_not_sent(tmp_path, monkeypatch):
    path = write(tmp_path / named(0))
    owner = os.fstat

    def other(file):
        found = list(owner(file))
        found[4] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", other)
    assert deliver(Leftovers(tmp_path, LIMIT)) == {}
    assert deliver(Leftovers(tmp_path, 0)) == {}
    assert path.exists()


def test_a_folder_of_others_is_not_looked_into(tmp_path):
    path = write(tmp_path / named(0))
    tmp_path.chmod(0o777)
    assert deliver(Leftovers(tmp_path, LIMIT)) == {}
    tmp_path.chmod(0o700)
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(tmp_path)
    assert deliver(Leftovers(link, LIMIT)) == {}
    assert path.exists()


@pytest.fixture
def others(tmp_path):
    """A folder of this URL, and one of another URL with a spool in it."""
    folders = tmp_path / ("0" * 16), tmp_path / ("f" * 16)
    for folder in folders:
        make_folder(folder)
    return folders[0], write(folders[1] / named(0), events=100)


def test_what_is_for_another_url_goes_when_it_is_old(others):
    folder, path = others
    for days, there in ((29, True), (31, False)):
        then = time.time() - days * 86_400
        os.utime(path, (then, then))
        assert deliver(Leftovers(folder, LIMIT)) == {}
        assert path.exists() is there
    os.utime(path.parent, (then, then))
    Leftovers(folder, LIMIT)
    assert not path.parent.exists()


def test_what_is_for_another_url_counts_for_the_limit(others):
    folder, path = others
    mine = write(folder / named(1), events=100)
    os.utime(path, (time.time() - 10, time.time() - 10))
    assert list(deliver(Leftovers(folder, path.stat().st_size + 100))) == [named(1, "")]
    assert not path.exists()
    assert not mine.exists()


def test_a_run_that_goes_on_for_another_url_is_left_alone(others):
    folder, path = others
    os.utime(path, (1_000_000, 1_000_000))
    file = locked(path)
    Leftovers(folder, 0)
    assert path.exists()
    os.close(file)
