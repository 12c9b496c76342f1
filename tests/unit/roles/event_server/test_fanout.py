# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The outbox of a viewer and the channels, without sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from kubeferry_events.fanout import Channel, Viewer, event_frames
from kubeferry_events.limits import Limits, TokenBucket
from kubeferry_events.metrics import Metrics

LIMITS = Limits(viewer_bytes=1000, stall_seconds=0.2, frame_bytes=400)


class Reader:
    """A client that reads only while `open` is set."""

    def __init__(self):
        self.frames: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.aborted = False

    async def send(self, frame: bytes) -> None:
        await self.open.wait()
        self.frames.append(frame)

    def abort(self) -> None:
        self.aborted = True

    def viewer(self, limits: Limits = LIMITS) -> Viewer:
        viewer = Viewer(self.send, self.abort, limits, Metrics())
        viewer.snapshot = lambda reason: f"snapshot {reason}".encode()
        return viewer


async def settle() -> None:
    for _attempt in range(20):
        await asyncio.sleep(0)


async def test_a_viewer_that_reads_gets_all():
    reader = Reader()
    viewer = reader.viewer()
    for number in range(50):
        viewer.offer(b"%d" % number)
        await settle()
    assert reader.frames == [b"%d" % number for number in range(50)]


async def test_a_slow_viewer_gets_a_snapshot_and_then_goes_on():
    reader = Reader()
    viewer = reader.viewer()
    reader.open.clear()
    viewer.offer(b"first")
    await settle()
    for _attempt in range(30):
        viewer.offer(b"x" * 100)
    reader.open.set()
    await settle()
    viewer.offer(b"after")
    await settle()
    assert reader.frames == [b"first", b"snapshot slow_viewer", b"after"]


async def test_a_viewer_that_reads_nothing_is_dropped():
    reader = Reader()
    viewer = reader.viewer()
    reader.open.clear()
    viewer.offer(b"x")
    await asyncio.sleep(0.4)
    assert reader.aborted
    viewer.offer(b"y")
    assert reader.frames == []


async def test_a_held_viewer_gets_older_events_first():
    reader = Reader()
    viewer = reader.viewer()
    viewer.hold()
    viewer.offer(b"live")
    await viewer.send(b"old")
    viewer.release()
    await settle()
    assert reader.frames == [b"old", b"live"]


async def test_a_slow_viewer_is_no_burden_on_the_others():
    slow, quick = Reader(), Reader()
    slow.open.clear()
    channel = Channel(LIMITS)
    channel.viewers |= {slow.viewer(Limits(viewer_bytes=1000)), quick.viewer()}
    for number in range(200):
        channel.push(b'{"n":%d}' % number)
        channel.flush()
        await settle()
    assert len(quick.frames) == 200
    assert slow.frames == []


async def test_events_in_a_burst_share_frames():
    reader = Reader()
    channel = Channel(Limits(frame_bytes=10_000))
    channel.viewers.add(reader.viewer(Limits()))
    for number in range(1000):
        channel.push(b'{"n":%d}' % number)
    await asyncio.sleep(0.3)
    got = [event["n"] for frame in reader.frames for event in json.loads(frame)["events"]]
    assert got == list(range(1000))
    assert len(reader.frames) < 5


async def test_of_progress_the_newest_is_sent():
    reader = Reader()
    channel = Channel(LIMITS)
    channel.viewers.add(reader.viewer())
    for number in range(20):
        channel.push(b'{"p":%d}' % number, f"key{number % 2}")
    channel.push(b'{"e":1}')
    channel.flush()
    await settle()
    assert json.loads(reader.frames[0])["events"] == [{"p": 18}, {"p": 19}, {"e": 1}]


def test_frames_are_bounded():
    frames = event_frames([b"x" * 90] * 10, 200)
    assert all(len(frame) < 260 for frame in frames)
    assert event_frames([], 200) == []


@pytest.mark.parametrize(("rate", "burst"), [(10, 5), (1000, 1)])
def test_the_bucket_holds_the_rate(rate, burst):
    bucket, now = TokenBucket(rate, burst, 0.0), 0.0
    for _attempt in range(500):
        now += bucket.take(1, now)
    assert 500 - burst - 1 <= now * rate <= 500


async def test_an_answer_on_its_way_counts_against_what_a_viewer_may_lag_behind():
    reader = Reader()
    viewer = reader.viewer()
    reader.open.clear()
    answer = asyncio.create_task(viewer.send(b"a" * 900))
    await settle()
    for _attempt in range(5):
        viewer.offer(b"x" * 50)
    await settle()
    # Nothing is written beside the answer; what was offered is forgotten for a snapshot, as ever.
    assert reader.frames == []
    reader.open.set()
    await answer
    await settle()
    assert reader.frames == [b"a" * 900, b"snapshot slow_viewer"]


async def test_who_waits_behind_what_is_not_taken_is_told():
    reader = Reader()
    viewer = reader.viewer()
    reader.open.clear()
    answers = await asyncio.gather(viewer.send(b"first"), viewer.send(b"second"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionResetError, ConnectionResetError]
    assert reader.aborted
