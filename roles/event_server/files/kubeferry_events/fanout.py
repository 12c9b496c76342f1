# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Sending to viewers: at once when little happens, in larger frames when much does, never more than they take.

No sockets here: a viewer is given a coroutine function that sends one frame.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from .limits import Limits
from .metrics import Metrics

log = logging.getLogger(__name__)

Send = Callable[[bytes], Awaitable[None]]
# After a round of sending, wait this many times as long as it took: sending is given at most a fifth of the loop.
REST = 4.0
MIN_WAIT, MAX_WAIT = 0.005, 0.1


class Viewer:
    """One subscriber's outbox.

    `offer` never waits. What the socket doesn't take piles up here to `viewer_bytes`; then all of it is dropped and the
    viewer gets a snapshot as soon as it has read what is on its way. `abort` is called when it reads nothing at all.
    """

    def __init__(self, send: Send, abort: Callable[[], None], limits: Limits, metrics: Metrics) -> None:
        self._send, self._abort = send, abort
        self._limits, self._metrics = limits, metrics
        self._outbox: deque[bytes] = deque()
        self._bytes = 0
        # Answers that are on their way count like what is queued; one frame is written when the one before was taken.
        self._answers = 0
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._held = False
        self._stale: str | None = None
        self._closed = False
        # Makes the snapshot that a stale viewer gets, from what is known at that very moment.
        self.snapshot: Callable[[str], bytes] | None = None

    def offer(self, frame: bytes) -> None:
        """Queue a frame; drop the queue when the viewer has fallen too far behind."""
        if self._closed or self._stale:
            return
        self._outbox.append(frame)
        self._bytes += len(frame)
        if self._bytes + self._answers > self._limits.viewer_bytes:
            self._metrics.add("viewers_resynced")
            self.resync("slow_viewer")
        else:
            self._wake()

    def resync(self, reason: str) -> None:
        """Forget what is queued, and send a snapshot next."""
        self._clear()
        self._stale = reason
        self._wake()

    def hold(self) -> None:
        """Queue without sending, while older events are being read from the history."""
        self._held = True

    def release(self) -> None:
        self._held = False
        if self._outbox or self._stale:
            self._wake()

    def forget(self) -> None:
        """The subscription ends; nothing of it is sent any more."""
        self._clear()
        self._stale, self.snapshot, self._held = None, None, False

    def close(self) -> None:
        self._closed = True
        self.forget()
        if self._task is not None:
            self._task.cancel()

    async def send(self, frame: bytes) -> None:
        """Send an answer and return when it was taken; abort the connection when it is not."""
        self._answers += len(frame)
        try:
            await self._write(frame)
        finally:
            self._answers -= len(frame)

    async def _write(self, frame: bytes) -> None:
        async with self._turn:
            if self._closed:
                raise ConnectionResetError("the viewer has gone")
            try:
                async with asyncio.timeout(self._limits.stall_seconds):
                    await self._send(frame)
            except TimeoutError:
                self._metrics.add("viewers_closed_slow")
                self._closed = True
                self._abort()
                raise ConnectionResetError("the viewer reads nothing") from None
        self._metrics.add("frames_sent")
        self._metrics.add("bytes_sent", len(frame))

    def _clear(self) -> None:
        self._outbox.clear()
        self._bytes = 0

    def _wake(self) -> None:
        # A task only while there is something to send: a thousand idle viewers are a thousand small objects.
        if self._task is None and not self._held and not self._closed:
            self._task = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while (self._outbox or self._stale) and not self._held:
                if self._stale and self.snapshot is not None:
                    frame = self.snapshot(self._stale)
                    # From here on offers are queued again; the snapshot holds all that came before them.
                    self._stale = None
                elif self._stale:
                    self._stale = None
                    continue
                else:
                    frame = self._outbox.popleft()
                    self._bytes -= len(frame)
                await self._write(frame)
        except (ConnectionError, RuntimeError):
            self._closed = True  # the connection's own handler sees that it's gone
        finally:
            self._task = None


class Sink(Protocol):
    """What a channel offers frames to."""

    def offer(self, frame: bytes) -> None: ...


class Channel:
    """The viewers of one run, or of all: they share frames that are made once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.viewers: set[Any] = set()
        self._pending: list[bytes | None] = []
        self._progress: dict[str, int] = {}
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def push(self, body: bytes, progress: str | None = None) -> None:
        """Queue an event for all viewers; a newer progress event takes the place of one not yet sent."""
        if not self.viewers:
            return
        if progress is not None:
            if (at := self._progress.get(progress)) is not None:
                self._pending[at] = None
            self._progress[progress] = len(self._pending)
        self._pending.append(body)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._not_before), self.flush)

    def flush(self) -> None:
        """Make frames of what is queued, and offer them to every viewer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        began = loop.time()
        bodies = [body for body in self._pending if body is not None]
        self._pending.clear()
        self._progress.clear()
        for frame in event_frames(bodies, self._limits.frame_bytes):
            for viewer in self.viewers:
                viewer.offer(frame)
        took = loop.time() - began
        # Offers only queue; what sending costs comes after, and grows with the viewers alike.
        took += 20e-6 * len(self.viewers)
        self._not_before = loop.time() + min(MAX_WAIT, max(MIN_WAIT, REST * took))


def event_frames(bodies: list[bytes], frame_bytes: int) -> list[bytes]:
    """EVENTS messages of at most about `frame_bytes` each."""
    frames: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for body in bodies:
        if part and size + len(body) > frame_bytes:
            frames.append(_events(part))
            part, size = [], 0
        part.append(body)
        size += len(body) + 1
    if part:
        frames.append(_events(part))
    return frames


def _events(bodies: list[bytes]) -> bytes:
    return b'{"type":"EVENTS","events":[%s]}' % b",".join(bodies)
