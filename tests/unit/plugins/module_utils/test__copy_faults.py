# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault ends in a whole copy or in a failure that says so; never in a wrong success, never in half a file."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import stat
import sys
from dataclasses import replace

import badends
import engine
import pytest
from badends import BANNER, CUT, FLIP, LOST, BadRunner, Fault, LiveTree
from trees import BILLION, snapshot, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy, _copy_task
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    BusyError,
    EndpointError,
    KubeferryError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._transport import TarTransport

OLD, NEW = 1_400_000_000 * BILLION, 1_500_000_000 * BILLION


def fill(source, target):
    """Some files that are new, some that change, one that stays, a link, a link group and a directory."""
    generator = random.Random(3)
    for name, size in {"big": 150_000, "a/small": 700, "a/b/empty": 0, "changed": 5000, "same": 300}.items():
        write(source, name, generator.randbytes(size), mtime=NEW)
    os.symlink("a/small", source / "link")
    os.link(source / "big", source / "twin of big")
    write(target, "changed", generator.randbytes(5000), mtime=NEW)
    write(target, "same", (source / "same").read_bytes(), mtime=NEW)
    write(target, "extra", b"extra", mtime=OLD)


class Pair:
    """A filled source and target, one of them reached through a runner with a fault."""

    def __init__(self, boxes, place, kind):
        self.box = boxes[kind]
        self.source, self.target = place / "source", place / "target"
        self.source.mkdir(parents=True)
        self.target.mkdir()
        fill(self.source, self.target)
        self.old = snapshot(self.target)

    def run(self, way, fault, **options):
        """Copy with the fault at the side that has the runner. Returns the outcome or the error, and the runner."""
        # A flipped byte can make a reader wait for a mark that has gone by.
        patience = 1.0 if fault is not None and fault.kind in (FLIP, BANNER) else 60.0
        runner = BadRunner(self.box.runner(stall=patience), fault)
        if way == "pull":
            source, target = ShellTree(runner, str(self.source), engine.progress()), engine.local(self.target)
        else:
            source, target = engine.local(self.source), ShellTree(runner, str(self.target), engine.progress())
        try:
            return engine.copy(source, target, **options), runner
        except KubeferryError as exc:
            return exc, runner

    def judge(self, outcome):
        """What holds after any fault, and that the next run completes."""
        have, want = snapshot(self.target, skip={b".kubeferry"}), snapshot(self.source)
        for path, seen in have.items():
            if stat.S_ISREG(seen.kind):
                allowed = {tree[path].content for tree in (self.old, want) if path in tree}
                assert seen.content in allowed, f"{path!r} is half-written"
        if isinstance(outcome, KubeferryError):
            said = str(outcome)
            assert "source" in said or "target" in said or "box" in said, said
        elif engine.whole(outcome):
            assert without_extra(self.unlike()) == {}
        else:
            found = outcome.parity
            named = {*found.missing, *found.mismatched, *found.metadata}
            assert named, "a failure that names nothing"
            assert {os.fsdecode(path) for path in without_extra(self.unlike())} <= named
        again, _runner = self.run("pull", None)
        assert engine.whole(again)
        assert without_extra(self.unlike()) == {}
        return outcome

    def unlike(self):
        return unlike(self.source, self.target, unit=BILLION, skip={b".kubeferry"})


def without_extra(differences):
    """The root's own time may differ where a file is left that the source lacks."""
    return {path: how for path, how in differences.items() if path != b"extra"}


@pytest.fixture(scope="module")
def clean(boxes, tmp_path_factory):
    """The bytes that each script's streams carry in a run without fault, by way, script and direction."""
    carried = {}
    for way in ("pull", "push"):
        pair = Pair(boxes, tmp_path_factory.mktemp(way), "busybox")
        outcome, runner = pair.run(way, None)
        assert engine.whole(outcome)
        carried.update({(way, *key): b"".join(pieces) for key, pieces in runner.carried.items()})
    return carried


STREAMS = [
    *(("pull", script, "out") for script in ("PROBE", "SCAN", "LINKS", "DIGEST", "PULL")),
    *(("push", script, "out") for script in ("PROBE", "SCAN", "DIGEST", "HOLD")),
    *(("push", script, "in") for script in ("PUSH", "APPLY", "FINISH")),
]
PLACES = {CUT: [0.0, 0.5, 1.0], LOST: [0.0, 1.0], FLIP: [0.5], BANNER: [0.0, 0.6]}
"""Where in a stream, as a part of its length; 1 is the last byte."""


@pytest.mark.parametrize("kind", [CUT, LOST, FLIP, BANNER])
@pytest.mark.parametrize("stream", STREAMS, ids="-".join)
def test_a_stream_that_breaks_once(boxes, tmp_path, clean, stream, kind):
    way, script, direction = stream
    if direction == "in" and kind == BANNER:
        kind = CUT
    length = len(clean[stream])
    for number, at in enumerate(sorted({max(0, round(part * length) - 1) for part in PLACES[kind]})):
        pair = Pair(boxes, tmp_path / str(number), "busybox")
        fault = Fault(script, direction, kind, at)
        outcome, _runner = pair.run(way, fault)
        assert fault.happened == 1
        pair.judge(outcome)


def boundaries(stream):
    """Where members and their contents begin and end in a tar stream after the mark line."""
    start = stream.index(b"\n") + 1
    places, position = [start], start
    while stream[position : position + 512].strip(b"\0") and position + 512 <= len(stream):
        block = stream[position : position + 512]
        size = int(block[124:135], 8)
        places += [position + 511, position + 512, position + 512 + size]
        position += 512 + size + -size % 512
        places.append(position)
    return sorted(set(places))


def test_a_pull_cut_at_every_boundary_with_status_0(boxes, tmp_path, clean):
    stream = clean["pull", "PULL", "out"]
    places = boundaries(stream)
    assert len(places) > 12
    for number, at in enumerate(places):
        pair = Pair(boxes, tmp_path / str(number), "gnu" if number % 2 else "busybox")
        fault = Fault("PULL", "out", CUT, at)
        outcome, _runner = pair.run("pull", fault)
        assert fault.happened == 1
        assert engine.whole(pair.judge(outcome))
        assert outcome.retries == 1


@pytest.mark.parametrize(
    "stream", [s for s in STREAMS if s[1] in ("PULL", "PUSH", "DIGEST", "APPLY")], ids="-".join
)
@pytest.mark.parametrize("kind", [CUT, LOST, FLIP])
def test_a_stream_that_always_breaks_is_a_failure_that_names_what_is_missing(
    boxes, tmp_path, clean, stream, kind
):
    way, script, direction = stream
    pair = Pair(boxes, tmp_path / "pair", "busybox")
    at = len(clean[stream]) // (2 if script in ("PULL", "PUSH") else 1) - 1
    at = 150 if script == "APPLY" else at
    fault = Fault(script, direction, kind, max(0, at), times=1000)
    outcome, _runner = pair.run(way, fault, retries=2)
    assert fault.happened >= 1
    if fault.happened > 3:
        assert isinstance(outcome, KubeferryError) or not engine.whole(outcome)
    pair.judge(outcome)


@pytest.mark.parametrize("kind", [CUT, LOST, FLIP])
@pytest.mark.parametrize("way", ["pull", "push"])
def test_an_rsync_that_breaks_once(boxes, tmp_path, way, kind):
    for number, at in enumerate([0, 3, 60, 100_000 if way == "pull" else 200]):
        pair = Pair(boxes, tmp_path / str(number), "rsync")
        fault = Fault("RSYNC", "out", kind, at)
        outcome, _runner = pair.run(way, fault, transport="rsync")
        assert fault.happened == 1 or way == "push"
        pair.judge(outcome)


def test_noise_on_standard_error_is_harmless(boxes, tmp_path):
    box = type(boxes["gnu"])(str(tmp_path / "noisy"), "gnu", without=["tar"])
    with open(os.path.join(box.place, "tar"), "w", encoding="utf-8") as script:
        script.write("#!/bin/sh\nyes 'tar: noise' | head -n 5000 >&2\nexec /bin/tar \"$@\"\n")
    os.chmod(os.path.join(box.place, "tar"), 0o755)
    for tool in ("yes",):
        os.symlink(f"/usr/bin/{tool}", os.path.join(box.place, tool))
    pair = Pair({"noisy": box}, tmp_path / "pair", "noisy")
    for way in ("pull", "push"):
        outcome, _runner = pair.run(way, None)
        assert engine.whole(pair.judge(outcome))


# -- live sources ---------------------------------------------------------------------------------

DATA = random.Random(9).randbytes(70_000)


def live(path):
    """What can happen to the file `live`, by name."""

    def rewrite(data, mtime=NEW):
        with path.open("r+b") as stream:
            stream.truncate(len(data))
            stream.write(data)
        os.utime(path, ns=(mtime, mtime))

    def swap(make):
        path.unlink()
        make()

    return {
        "grows": lambda: rewrite(DATA + b"more", NEW + BILLION),
        "grows at the same time": lambda: rewrite(DATA + b"more"),
        "shrinks": lambda: rewrite(DATA[:1000], NEW + BILLION),
        "becomes empty": lambda: rewrite(b""),
        "vanishes": path.unlink,
        "is rewritten with the same size and time": lambda: rewrite(DATA[::-1]),
        "is replaced by another of the same size and time": lambda: swap(
            lambda: write(path.parent, "live", DATA[::-1], mtime=NEW)
        ),
        "becomes a directory": lambda: swap(path.mkdir),
        "becomes a FIFO": lambda: swap(lambda: os.mkfifo(path)),
        "becomes a link": lambda: swap(lambda: os.symlink("/etc/passwd", path)),
        "changes its mode": lambda: path.chmod(0o600),
    }


MOMENTS = ["after scan", "before read", "amid read", "after read", "before digest", "after digest"]


@pytest.mark.parametrize(
    "what",
    [
        "grows",
        "grows at the same time",
        "shrinks",
        "becomes empty",
        "vanishes",
        "is rewritten with the same size and time",
        "is replaced by another of the same size and time",
        "becomes a directory",
        "becomes a FIFO",
        "becomes a link",
        "changes its mode",
    ],
)
def test_a_file_that_changes_while_it_is_copied(tmp_path, what, boxes):
    ends = [("local", False), ("gnu", True)]
    for number, (moment, (kind, had)) in enumerate(itertools.product(MOMENTS, ends)):
        source, target = tmp_path / f"{number}s", tmp_path / f"{number}t"
        target.mkdir()
        write(source, "live", DATA, mtime=NEW)
        write(source, "other", b"other", mtime=NEW)
        if had:
            write(target, "live", DATA[:-1] + b"x", mtime=OLD)
        tree = LiveTree(str(source), engine.progress(), moment, live(source / "live")[what])
        there = engine.local(target) if kind == "local" else engine.shell(boxes["gnu"], target)
        outcome = engine.copy(tree, there)
        assert tree.acted == 1, (moment, kind)
        if what == "vanishes":
            assert not engine.whole(outcome), (moment, kind)
            assert outcome.parity.vanished == ["live"]
        elif engine.whole(outcome):
            assert unlike(source, target).keys() <= {b"."}, (moment, kind)
        else:
            assert "live" in {*outcome.parity.missing, *outcome.parity.mismatched, *outcome.parity.metadata}
        content = target / "live"
        if content.is_file() and not content.is_symlink():
            assert content.read_bytes() in (
                DATA,
                DATA + b"more",
                DATA[:1000],
                b"",
                DATA[::-1],
                DATA[:-1] + b"x",
            )
        again = engine.copy(engine.local(source), engine.local(target), delete=True)
        assert engine.whole(again)
        assert unlike(source, target) == {}


def test_a_matching_file_that_is_rewritten_meanwhile_is_noticed(tmp_path):
    """The digest of a file that needs nothing isn't the last word while others are copied."""
    source, target = tmp_path / "s", tmp_path / "t"
    for place in (source, target):
        write(place, "live", DATA, mtime=NEW)
    write(source, "other", b"other")
    tree = LiveTree(
        str(source),
        engine.progress(),
        "after digest",
        live(source / "live")["is rewritten with the same size and time"],
    )
    outcome = engine.copy(tree, engine.local(target))
    assert tree.acted == 1
    assert engine.whole(outcome)
    assert (target / "live").read_bytes() == DATA[::-1]


def test_a_file_that_never_rests_is_named(tmp_path):
    source, target = tmp_path / "s", tmp_path / "t"
    target.mkdir()
    write(source, "live", DATA)
    write(source, "other", b"other")

    def grow():
        with open(source / "live", "ab") as stream:
            stream.write(b"x")

    tree = LiveTree(str(source), engine.progress(), "before digest", grow)
    tree.times = 1000
    reading = LiveTree(str(source), engine.progress(), "never", grow)
    tree.read = reading.read
    outcome = engine.copy(tree, engine.local(target), retries=2)
    assert not engine.whole(outcome)
    assert list(outcome.parity.mismatched or outcome.parity.missing) == ["live"]
    assert outcome.retries == 2
    assert any("live" in trouble for trouble in outcome.trouble)
    assert (target / "other").read_bytes() == b"other"


def test_a_listed_file_that_vanishes_is_named_without_a_false_promise(tmp_path):
    source, target = tmp_path / "s", tmp_path / "t"
    target.mkdir()
    write(source, "live", DATA)
    write(source, "a", b"a")
    tree = LiveTree(str(source), engine.progress(), "after read", (source / "live").unlink)
    with pytest.raises(EndpointError, match=r"^live isn't in ") as caught:
        engine.copy(tree, engine.local(target), files=["a", "live"])
    assert "nothing was changed" not in str(caught.value)


@pytest.mark.parametrize("kind", ["local", "gnu"])
def test_a_target_that_is_written_to_meanwhile_is_no_whole_copy(tmp_path, boxes, kind):
    """Someone else writes other bytes of the same length into a file that has just been placed."""
    source, target = tmp_path / "s", tmp_path / "t"
    target.mkdir()
    write(source, "file", b"right" * 100, mtime=NEW)
    tree = engine.local(target) if kind == "local" else engine.shell(boxes["gnu"], target)
    end = tree.end

    def meddle(root):
        if (target / "file").read_bytes() == b"right" * 100 and not meddled:
            meddled.append(1)
            (target / "file").write_bytes(b"wrong" * 100)
        end(root)

    meddled = []
    tree.end = meddle
    outcome = engine.copy(engine.local(source), tree)
    assert meddled == [1]
    assert engine.whole(outcome)
    assert (target / "file").read_bytes() == b"right" * 100


# -- a full target, two runs, killed runs ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["local", "busybox", "gnu"])
def test_a_target_that_fills_up(boxes, tmp_path, kind):
    """The preflight saw enough room; a limit on the size of files stands for what happens when there is none."""
    source, target = tmp_path / "s", tmp_path / "t"
    target.mkdir()
    write(source, "fits", b"fits", mtime=NEW)
    write(source, "big", random.Random(1).randbytes(400_000), mtime=NEW)
    write(target, "big", b"old", mtime=OLD)
    tree = engine.end(boxes, kind, target)

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        outcome = engine.copy(engine.local(source), tree, retries=1)
        return engine.whole(outcome), [*outcome.parity.missing, *outcome.parity.mismatched]

    if kind == "local":
        with pytest.raises(
            EndpointError, match=r"t on this machine can't hold so large a file: make room there"
        ):
            engine.in_child(limited)
    else:
        assert engine.in_child(limited) == (False, ["big"])
        assert (target / "fits").read_bytes() == b"fits"
    assert (target / "big").read_bytes() == b"old"
    assert set(snapshot(target)) <= {b".", b"big", b"fits"}
    assert engine.whole(engine.copy(engine.local(source), engine.local(target)))
    assert unlike(source, target) == {}


def test_too_little_room_is_told_before_anything_is_touched(tmp_path, monkeypatch):
    source, target = tmp_path / "s", tmp_path / "t"
    target.mkdir()
    write(source, "huge", bytes(10_000))
    tree = engine.local(target)
    facts = replace(tree.facts(), free_bytes=9_999)
    monkeypatch.setattr(tree, "facts", lambda: facts)
    with pytest.raises(
        EndpointError,
        match=r"has 9999 bytes free and the copy needs 10000: make room .*; nothing was copied\.$",
    ):
        engine.copy(engine.local(source), tree)
    assert set(snapshot(target)) == {b"."}


@pytest.mark.parametrize(
    "kinds",
    # BusyBox of Debian has no flock: its runs exclude each other, but none that takes the kernel's lock.
    [*itertools.product(["local", "gnu"], repeat=2), ("busybox", "busybox")],
    ids="-".join,
)
def test_two_runs_on_one_target_exclude_each_other(boxes, tmp_path, kinds):
    source, target = tmp_path / "s", tmp_path / "t"
    target.mkdir()
    write(source, "file", b"content")
    first, second = (engine.end(boxes, kind, target) for kind in kinds)
    first.begin()
    try:
        with pytest.raises(
            BusyError, match=r"^Another run is copying to .*t .*: wait until it has ended, or stop it"
        ):
            engine.copy(engine.local(source), second)
        assert not (target / "file").exists()
    finally:
        first.close()
    assert engine.whole(engine.copy(engine.local(source), second))
    assert set(snapshot(target)) == {b".", b"file"}


@pytest.mark.parametrize("kinds", list(itertools.product(["local", "gnu"], repeat=2)), ids="-".join)
def test_a_run_is_refused_below_the_target_of_another(boxes, tmp_path, kinds):
    source, target = tmp_path / "s", tmp_path / "t"
    inner = target / "a b/c"
    inner.mkdir(parents=True)
    write(source, "file", b"content")
    above, below = engine.end(boxes, kinds[0], target), engine.end(boxes, kinds[1], inner)
    above.begin()
    try:
        with pytest.raises(
            BusyError, match=rf"a b/c .*lies in {target}, to which another run is copying: wait"
        ):
            engine.copy(engine.local(source), below)
    finally:
        above.close()
    assert set(snapshot(target)) == {b".", b"a b", b"a b/c"}
    assert engine.whole(engine.copy(engine.local(source), below))


@pytest.mark.parametrize("kind", ["local", "busybox", "gnu"])
def test_delete_stops_before_the_work_of_a_run_further_below(boxes, tmp_path, kind):
    source, target = tmp_path / "s", tmp_path / "t"
    write(source, "live", bytes(1000))
    write(target, "in/file", b"content")
    inner = engine.end(boxes, kind, target / "in")
    outer = LiveTree(os.fspath(source), engine.progress(), "before scan", inner.begin)
    try:
        with pytest.raises(
            BusyError, match=r"^in/\.kubeferry at the target, which delete would remove, is the work"
        ):
            engine.copy(outer, engine.end(boxes, kind, target), delete=True)
        assert (target / "in/file").read_bytes() == b"content"
        assert (target / "in/.kubeferry").is_dir()
        assert engine.whole(engine.copy(engine.local(source), engine.end(boxes, kind, target)))
    finally:
        inner.close()


@pytest.mark.parametrize("kind", ["local", "gnu"])
def test_what_came_to_the_target_meanwhile_is_told_when_it_is_deleted(boxes, tmp_path, kind):
    source, target = tmp_path / "s", tmp_path / "t"
    write(source, "live", bytes(1000))
    write(target, "old", b"old")
    outer = LiveTree(
        os.fspath(source), engine.progress(), "amid read", lambda: write(target, "later/file", b"content")
    )
    outcome = engine.copy(outer, engine.end(boxes, kind, target), delete=True)
    assert set(snapshot(target)) == {b".", b"live"}
    assert list(outcome.plan.paths("delete")) == [b"later", b"later/file", b"old"]
    assert _copy_task.diff(outcome.plan)["before"].splitlines()[-3:] == ["later", "later/file", "old"]


@pytest.mark.parametrize("kind", ["local", "busybox", "gnu"])
def test_what_a_dead_run_left_is_swept(boxes, tmp_path, kind):
    source, target = tmp_path / "s", tmp_path / "t"
    write(source, "file", b"content")
    for left in ("run-123/tree/file", "run-123/ops/000001.mv", "run-old/tree/a/b", "lock"):
        write(target / ".kubeferry", left, b"left")
    (target / ".kubeferry/run-old/tree/a").chmod(0o500)
    tree = engine.end(boxes, kind, target)
    assert engine.whole(engine.copy(engine.local(source), tree))
    assert set(snapshot(target)) == {b".", b"file"}


@pytest.mark.parametrize("kind", ["local", "busybox", "gnu"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_something_else_in_the_place_of_the_work_directory(boxes, tmp_path, kind, what):
    source, target, outside = tmp_path / "s", tmp_path / "t", tmp_path / "outside"
    for place in (target, outside):
        place.mkdir()
    write(source, "file", b"content")
    if what == "file":
        write(target, ".kubeferry", b"x")
    else:
        os.symlink(outside, target / ".kubeferry")
    tree = engine.end(boxes, kind, target)
    with pytest.raises(EndpointError, match=r"can't be written to"):
        engine.copy(engine.local(source), tree)
    assert set(snapshot(outside)) == {b"."}
    assert not (target / "file").exists()


class Death:
    """Kills this process at the n-th write, when half of it is done, or at the n-th other call that changes a thing."""

    EVENTS = frozenset(
        "open os.rename os.mkdir os.remove os.rmdir os.chmod os.chown os.utime os.link os.symlink".split()
    )

    def __init__(self, kind, number):
        self._moment = (kind, number)
        self._write = os.write
        self.heard = {"write": 0, "call": 0}

    def arm(self):
        sys.addaudithook(self.hear)
        os.write = self.write

    def hear(self, event, _arguments):
        if event in self.EVENTS and self._is_due("call"):
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, descriptor, data):
        if self._is_due("write"):
            self._write(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return self._write(descriptor, data)

    def _is_due(self, kind):
        self.heard[kind] += 1
        return (kind, self.heard[kind]) == self._moment


def judge_after_death(source, target, old, finish):
    """Every file is as before or as at the source; the next run completes."""
    want = snapshot(source)
    for path, seen in snapshot(target, skip={b".kubeferry"}).items():
        if stat.S_ISREG(seen.kind):
            assert seen.content in {tree[path].content for tree in (old, want) if path in tree}, path
    for _attempt in range(2000):
        try:
            outcome = finish()
            break
        except BusyError:
            continue
    assert engine.whole(outcome)
    assert without_extra(unlike(source, target, unit=BILLION)) == {}


@pytest.mark.parametrize("kind", ["local", "busybox", "gnu"])
def test_a_killed_run_leaves_nothing_half_written(boxes, tmp_path, kind):
    def tree(pair):
        return engine.end(boxes, kind, pair.target)

    def work(pair, *moment):
        death = Death(*moment)
        death.arm()
        engine.copy(engine.local(pair.source), tree(pair))
        return death.heard

    heard = engine.in_child(lambda: work(Pair(boxes, tmp_path / "whole", "gnu"), "never", 0))
    calls = random.Random(kind).sample(range(1, heard["call"]), 16 if kind == "local" else 5)
    moments = [("call", number) for number in calls] + [
        ("write", number + 1) for number in range(min(heard["write"], 8))
    ]
    deaths = 0
    for number, (what, count) in enumerate(moments):
        # A run can have fewer calls than the one that was counted: then it is to die sooner.
        for attempt, moment in enumerate(((what, count), (what, -(-count // 2)))):
            before = deaths
            pair = Pair(boxes, tmp_path / f"{number}-{attempt}", "gnu")
            try:
                engine.in_child(lambda pair=pair, moment=moment: work(pair, *moment))
            except engine.Killed:
                deaths += 1
            judge_after_death(
                pair.source,
                pair.target,
                pair.old,
                lambda pair=pair: engine.copy(engine.local(pair.source), tree(pair)),
            )
            if deaths > before:
                break
    assert deaths >= len(moments) - 2


def test_a_pod_that_dies_amid_the_work(boxes, tmp_path):
    """The commands in the pod are killed: after so many bytes of input, the process group is gone."""
    for number, (script, at) in enumerate([("PUSH", 10_000), ("PUSH", 140_000), ("APPLY", 1), ("HOLD", 34)]):
        pair = Pair(boxes, tmp_path / str(number), "busybox")
        fault = Fault(script, "out" if script == "HOLD" else "in", badends.LOST, at, times=1)
        outcome, _runner = pair.run("push", fault)
        assert fault.happened == 1
        pair.judge(outcome)


def test_an_interrupted_copy_does_not_send_again_what_has_arrived(tmp_path, monkeypatch):
    source, target = tmp_path / "s", tmp_path / "t"
    target.mkdir()
    for number in range(10):
        write(source, f"{number}", random.Random(number).randbytes(1000))
    monkeypatch.setattr(_copy, "BATCH_ENTRIES", 2)
    moved = TarTransport.move

    def move(self, fresh, changed, checksum):
        if any(entry.path == b"6" for entry in fresh):
            raise EndpointError("the test ends here")
        return moved(self, fresh, changed, checksum)

    with monkeypatch.context() as patch:
        patch.setattr(TarTransport, "move", move)
        with pytest.raises(EndpointError, match=r"the test ends here"):
            engine.copy(engine.local(source), engine.local(target))
    assert sorted(path for path in snapshot(target)) == [b".", *(b"%d" % number for number in range(6))]
    outcome = engine.copy(engine.local(source), engine.local(target))
    assert (engine.whole(outcome), outcome.bytes_moved) == (True, 4000)


def test_what_lies_below_a_directory_that_became_unreadable_is_not_deleted(tmp_path):
    class Closing(LocalTree):
        scans = 0

        def scan(self, selection, store=None, *, xattrs=True):
            found = super().scan(selection, store, xattrs=xattrs)
            self.scans += 1
            if self.scans > 1:
                found.remove([b"folder/file"])
                found.unreadable[b"folder"] = "permission denied"
            return found

        def fingerprint(self, selection):
            return "another one"

    source, target = tmp_path / "source", tmp_path / "target"
    for place in (source, target):
        write(place, "folder/file", b"content", mtime=NEW)
    write(source, "new", b"new")
    write(target, "extra", b"extra")
    tree = Closing(str(source), engine.progress())
    outcome = engine.copy(tree, engine.local(target), delete=True, on_change="report")
    assert outcome.parity.unreadable == {"folder": "permission denied"}
    assert set(snapshot(target)) == {b".", b"folder", b"folder/file", b"new"}
