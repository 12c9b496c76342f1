# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies within one pod: real directories, and one box of tools that reaches both."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess

import engine
import pytest
import trees
from carried import Carried
from toolbox import Box, dying_dd, found
from trees import snapshot, touched, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _carry
from ansible_collections.kubeferry.pvc.plugins.module_utils._carry import ARCHIVE_END, archived, grouped
from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError, ProtocolError
from ansible_collections.kubeferry.pvc.plugins.module_utils._link import Orders, PodLink
from ansible_collections.kubeferry.pvc.plugins.module_utils._scripts import NAMES_BYTES
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree

MIB = 1 << 20


@pytest.fixture(params=["busybox", "gnu"])
def pod(request, boxes, tmp_path):
    return Carried(tmp_path, boxes[request.param])


def test_every_kind_of_file_arrives_and_a_second_run_changes_nothing(pod):
    trees.plant(pod.source)
    before = touched(pod.source)
    outcome = pod.copy()
    assert pod.unlike() == {}
    assert engine.whole(outcome)
    assert outcome.parity.matched == len(snapshot(pod.source))
    assert outcome.trouble == []
    assert touched(pod.source) == before
    there = touched(pod.target)
    second = pod.copy()
    assert (bool(second.plan), second.bytes_moved) == (False, 0)
    assert touched(pod.target) == there


def test_contents_stay_in_the_pod_and_files_of_a_group_go_together(pod, monkeypatch):
    monkeypatch.setattr(_carry, "GROUP_BYTES", 2 * MIB)
    for number in range(12):
        write(pod.source, f"dir/{number}", random.Random(number).randbytes(MIB))
    assert engine.whole(pod.copy())
    assert pod.unlike() == {}
    assert pod.spy.taken < MIB / 10


def test_a_large_file_goes_in_pieces_and_goes_on_where_it_was_cut(pod, monkeypatch):
    monkeypatch.setattr(_carry, "GROUP_BYTES", 8 * MIB)
    content = random.Random(1).randbytes(41 * MIB + 77)
    write(pod.source, "new/large", content, 0o640)
    write(pod.target, ".kubeferry/run-dead/tree/new/large", content[: 30 * MIB])
    outcome = pod.copy()
    assert engine.whole(outcome)
    assert pod.unlike() == {}
    assert outcome.bytes_moved < 14 * MIB


def test_holes_stay_holes(pod):
    with open(pod.source / "sparse", "wb") as stream:
        stream.seek(20 * MIB)
        stream.write(b"island")
        stream.truncate(60 * MIB)
    assert engine.whole(pod.copy())
    assert pod.unlike() == {}
    assert os.stat(pod.target / "sparse").st_blocks * 512 < 6 * MIB


def test_holes_inside_of_pieces_stay_holes(pod):
    with open(pod.source / "sparse", "wb") as stream:
        for start in range(0, 60 * MIB, 4 * MIB):
            stream.seek(start + 3 * MIB + 4096)
            stream.write(b"island")
        stream.truncate(60 * MIB + 12_345)
    outcome = pod.copy()
    assert engine.whole(outcome)
    assert pod.unlike() == {}
    assert outcome.bytes_moved <= 2 * MIB
    assert os.stat(pod.target / "sparse").st_blocks * 512 <= 2 * MIB


def test_of_a_large_file_that_changed_only_the_blocks_that_differ_are_written(pod):
    content = bytearray(random.Random(2).randbytes(40 * MIB))
    write(pod.source, "large", bytes(content))
    content[17 * MIB] ^= 1
    write(pod.target, "large", bytes(content))
    outcome = pod.copy()
    assert engine.whole(outcome)
    assert pod.unlike() == {}
    assert outcome.bytes_moved == 64 << 10


def test_orders_are_given_only_a_little_ahead_of_what_is_done():
    orders = Orders(
        [b"file a\n", b"part 0 1\n", b"part 1 1\n", b"part 2 1\n", b"size 1 @1\n", b"tar 1 1 1\n"], b"mark"
    )
    given = iter(orders)
    assert [next(given) for _number in range(5)] == [
        b"mark file a\n",
        *(b"mark part %d 1\n" % n for n in range(3)),
        b"",
    ]
    orders.took()
    assert [next(given) for _number in range(4)] == [
        b"mark size 1 @1\n",
        b"mark tar 1 1 1\n",
        b"mark end\n",
        b"",
    ]
    orders.release()
    assert list(given) == [b"\n"]


class Growing(PodLink):
    """A file grows after it was looked at, just before it is read."""

    grows = None

    def carry(self, orders, took):
        if self.grows is not None:
            with open(self.grows, "ab") as stream:
                stream.write(bytes(3 * MIB))
            Growing.grows = None
        super().carry(orders, took)


def test_a_file_that_grows_is_sent_again(boxes, tmp_path):
    pod = Carried(tmp_path, boxes["busybox"], link=Growing)
    write(pod.source, "a", b"a" * 1000)
    write(pod.source, "b", b"b" * 1000)
    Growing.grows = pod.source / "a"
    outcome = pod.copy(on_change="report")
    assert outcome.retries == 1
    assert pod.unlike() == {}


@pytest.mark.parametrize("kind", ["busybox", "gnu"])
@pytest.mark.parametrize("length", [1, 97, 98, 99, 100, 101, 155, 200, 255])
def test_an_archive_is_never_longer_than_was_reckoned(boxes, tmp_path, kind, length):
    path = tmp_path / ("n" * length)
    path.write_bytes(b"x" * 513)
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    options = ["--format=posix", "--pax-option=delete=atime,delete=ctime"] if kind == "gnu" else []
    tar = [f"{boxes[kind].place}/tar", *options, "-cf", "-", f"./{path.name}"]
    made = subprocess.run(tar, cwd=tmp_path, capture_output=True, check=True, timeout=10).stdout
    entry = Entry(path.name.encode(), "file", 513, 0o644, 0, 0, 0)
    assert len(made.rstrip(b"\0")) <= archived(entry) + ARCHIVE_END
    assert len(made) <= archived(entry) + ARCHIVE_END


def test_groups_keep_all_entries_in_order_and_within_bounds():
    entries = [
        Entry(b"%06d" % number * 20, "file", number % 7 << 20, 0o644, 0, 0, 0) for number in range(3000)
    ]
    groups = list(grouped(entries))
    assert [entry for group in groups for entry in group] == entries
    assert all(sum(len(entry.path) + 3 for entry in group) <= NAMES_BYTES for group in groups)
    assert all(sum(entry.size for entry in group) <= _carry.GROUP_BYTES for group in groups)
    assert len(groups) > 10


def test_a_target_that_is_full_is_named(tmp_path):
    box = Box(str(tmp_path / "box"), "busybox", without=["tar"])
    tar = tmp_path / "box" / "tar"
    full = "echo 'tar: write error: No space left on device' >&2; cat >/dev/null; exit 1"
    tar.write_text(
        f'#!/bin/sh\ncase $* in -xpf*) {full} ;; esac\nexec {found("busybox", "busybox-static")} tar "$@"\n'
    )
    tar.chmod(0o755)
    pod = Carried(tmp_path, box)
    write(pod.source, "files/a", b"content")
    with pytest.raises(EndpointError, match="is full: make room there"):
        pod.copy(retries=0)
    assert not (pod.target / "files").exists()


ORDERS = b"".join(
    line % b"/".join([b".."] * up)
    for up in (3, 4)
    for line in (
        b"new ./%b/precious\n",
        b"file ./%b/made\n",
        b"data 512 0 1\n%.0b",
        b"tar 9 1 1\n%.0b",
        b"end\n%.0b",
    )
)


@pytest.mark.parametrize("kind", ["busybox", "gnu"])
@pytest.mark.parametrize(
    "dying",
    [
        "*/target:bs=65536\\ iflag=fullblock*",
        "*/source:bs=65536\\ iflag=fullblock*",
        "*/source:bs=512\\ *",
        "*/target:bs=65536\\ skip=*",
    ],
    ids="archive-taken archive-sent names copied".split(),
)
def test_after_a_dd_that_is_killed_no_content_is_taken_for_orders(tmp_path, kind, dying):
    box = dying_dd(tmp_path, kind, dying)
    pod = Carried(tmp_path, box)
    for number in range(4):
        write(pod.source, f"new/{number}", b"x\n" + ORDERS * 12_000)
    for number in range(16):
        write(pod.source, f"new/names\n{'n' * 200}\nnew .\n{number}", b"name")
    write(pod.source, "large", ORDERS * (40 * MIB // len(ORDERS)))
    write(pod.target, "precious", b"kept")
    write(tmp_path, "precious", b"kept")
    outcome = pod.copy()
    assert (tmp_path / "used").exists()
    assert engine.whole(outcome)
    assert [said for said in outcome.trouble if "ended before its end" in said]
    assert set(pod.unlike()) <= {b"precious", b"."}
    assert (pod.target / "precious").read_bytes() == (tmp_path / "precious").read_bytes() == b"kept"
    assert sorted(os.listdir(tmp_path)) == ["box", "precious", "source", "target", "used"]


def test_more_that_is_taken_than_was_ordered_is_no_end_of_the_module():
    took = _carry._each([1], lambda _one: None)
    took()
    with pytest.raises(ProtocolError, match="more was taken than had been ordered"):
        took()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_an_owner_that_an_archive_has_no_room_for_is_set_before_the_file_gets_its_name(pod, monkeypatch):
    owners = {b"a": 1 << 24, b"b": 60 << 24, b"c": 1 << 21, b"d": 1000}
    for name, owner in owners.items():
        write(pod.source, os.fsdecode(name), b"content", 0o755)
        os.chown(pod.source / os.fsdecode(name), owner, owner)
        os.chmod(pod.source / os.fsdecode(name), 0o4755)
    seen = {}
    apply = ShellTree.apply

    def looking(self, changes):
        apply(self, changes)
        for name in owners:
            with contextlib.suppress(FileNotFoundError):
                about = os.lstat(os.fsencode(pod.target) + b"/" + name)
                seen.setdefault(name, (about.st_uid, about.st_gid, about.st_mode & 0o7777))

    monkeypatch.setattr(ShellTree, "apply", looking)
    assert engine.whole(pod.copy())
    assert seen == {name: (owner, owner, 0o4755) for name, owner in owners.items()}
