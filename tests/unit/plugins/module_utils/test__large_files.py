# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large files: those that were cut go on where they ended, and holes stay holes."""

from __future__ import annotations

import os
import random

import engine
import pytest
from trees import snapshot, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ConnectionLost
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree

MEBIBYTE = 1 << 20
SIZE = 40 * MEBIBYTE + 12_345
KINDS = ["local", "busybox", "gnu"]


class CutTree(LocalTree):
    """A source whose stream breaks after so many bytes of a large file, so many times."""

    def __init__(self, path, after, times):
        super().__init__(str(path), engine.progress())
        self.after, self.times = after, times

    def read(self, entries):
        for item in super().read(entries):
            if item.size == SIZE and self.times:
                self.times -= 1
                item.payload = self._cut(item.payload)
            yield item

    def _cut(self, payload):
        sent = 0
        for piece in payload:
            yield piece
            sent += len(piece)
            if sent >= self.after:
                raise ConnectionLost("the test cut the stream")


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "s", "new/big", random.Random(7).randbytes(SIZE), 0o640)
    write(tmp_path / "s", "new/small", b"small")
    return tmp_path / "s"


@pytest.fixture
def target(tmp_path):
    (tmp_path / "t").mkdir()
    return tmp_path / "t"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(_copy, "BACKOFF_SECONDS", 0.01)


def same(boxes, kind, source, target):
    unit = 1 if kind == "local" or boxes[kind].exact else 1_000_000_000
    return unlike(source, target, unit=unit) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_run_goes_on_within_the_file(boxes, source, target, kind):
    cut = CutTree(source, 25 * MEBIBYTE, 1)
    with pytest.raises(ConnectionLost, match=r"the test cut the stream.* Not known to be done: .*new/big"):
        engine.copy(cut, engine.end(boxes, kind, target), retries=0)
    assert snapshot(target, skip={b".kubeferry"}).keys() == {b"."}
    assert engine.whole(verified := engine.copy(engine.local(source), engine.end(boxes, kind, target)))
    assert SIZE - 26 * MEBIBYTE < verified.bytes_moved < SIZE - 15 * MEBIBYTE
    assert same(boxes, kind, source, target)


@pytest.mark.parametrize("kind", KINDS)
def test_another_try_goes_on_within_the_file(boxes, source, target, kind):
    outcome = engine.copy(CutTree(source, 25 * MEBIBYTE, 1), engine.end(boxes, kind, target))
    assert (engine.whole(outcome), outcome.retries) == (True, 1)
    assert outcome.bytes_moved < SIZE - 15 * MEBIBYTE
    assert same(boxes, kind, source, target)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_received_of_another_version_is_not_trusted(boxes, source, target, kind):
    with pytest.raises(ConnectionLost):
        engine.copy(CutTree(source, 25 * MEBIBYTE, 1), engine.end(boxes, kind, target), retries=0)
    with (source / "new/big").open("r+b") as stream:
        stream.seek(9 * MEBIBYTE)
        stream.write(b"another version")
    outcome = engine.copy(engine.local(source), engine.end(boxes, kind, target))
    assert engine.whole(outcome)
    assert same(boxes, kind, source, target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_never_gets_into_the_tree(boxes, source, target, kind):
    with pytest.raises(ConnectionLost):
        engine.copy(CutTree(source, 36 * MEBIBYTE, 1), engine.end(boxes, kind, target), retries=0)
    outcome = engine.copy(engine.local(source), engine.end(boxes, kind, target), exclude=["big"])
    assert engine.whole(outcome)
    assert snapshot(target).keys() == {b".", b"new", b"new/small"}


@pytest.mark.parametrize("kind", KINDS)
def test_of_another_version_in_the_tree_only_the_difference_is_sent(boxes, source, target, kind):
    engine.copy(engine.local(source), engine.end(boxes, kind, target))
    with (source / "new/big").open("r+b") as stream:
        stream.seek(33 * MEBIBYTE)
        stream.write(b"another version")
    outcome = engine.copy(engine.local(source), engine.end(boxes, kind, target))
    assert engine.whole(outcome)
    assert outcome.bytes_moved <= 4 * MEBIBYTE
    assert same(boxes, kind, source, target)


@pytest.mark.parametrize(
    "kinds", [("local", "local"), ("busybox", "local"), ("local", "busybox"), ("gnu", "gnu")], ids="-".join
)
def test_holes_stay_holes(boxes, tmp_path, target, kinds):
    source = tmp_path / "s"
    write(source, "sparse", b"at the start")
    with (source / "sparse").open("r+b") as stream:
        stream.truncate(60 * MEBIBYTE + 77)
        stream.seek(31 * MEBIBYTE)
        stream.write(b"in the middle")
    write(source, "nothing but a hole")
    os.truncate(source / "nothing but a hole", 5 * MEBIBYTE)
    outcome = engine.copy(engine.end(boxes, kinds[0], source), engine.end(boxes, kinds[1], target))
    assert engine.whole(outcome)
    assert same(boxes, kinds[1], source, target)
    assert outcome.bytes_moved <= 8 * MEBIBYTE
    for name in ("sparse", "nothing but a hole"):
        assert (target / name).stat().st_blocks * 512 <= 2 * MEBIBYTE
    # And it needs no more room than it takes up.
    assert outcome.plan.room() <= 2 * MEBIBYTE


def test_holes_travel_through_a_staging_area(boxes, tmp_path, target):
    source, staging, manifest = tmp_path / "s", tmp_path / "staging", tmp_path / "m.jsonl"
    write(source, "sparse")
    os.truncate(source / "sparse", 50 * MEBIBYTE)
    engine.copy(engine.shell(boxes["busybox"], source), engine.staged(staging, manifest, as_source=False))
    assert (staging / "sparse").stat().st_blocks == 0
    outcome = engine.copy(
        engine.staged(staging, manifest, as_source=True), engine.shell(boxes["busybox"], target)
    )
    assert (engine.whole(outcome), outcome.bytes_moved) == (True, 0)
    assert (target / "sparse").stat().st_blocks == 0
    assert same(boxes, "busybox", source, target)
