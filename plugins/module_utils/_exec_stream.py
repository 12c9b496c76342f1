# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""One running command: its exec WebSocket after the handshake, driven by the one thread that reads it.

`read()` sends pending input, receives what has come, and waits only when neither moves, so that a full
pipe in one direction never holds up the other and no two threads ever touch one TLS socket. While it
waits it sends pings: proxies cut connections that are idle for as little as 20 s, and a big file is
hashed for minutes without a byte of output.
"""

from __future__ import annotations

import math
import os
import select
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from signal import SIGKILL, SIGTERM
from socket import socket

from ._api_errors import capital
from ._errors import ConnectionLost, ExecError, KubeferryError, Stalled, silent_for
from ._exec_errors import Target, command_failed, gone_pod, missing_program
from ._exec_protocol import CLOSE_STDIN, Batch, Decoder, exit_code, messages, parse_status, unmasked
from ._runner import STDERR_LIMIT, Stdin

try:
    from websocket import ABNF

    HAS_WEBSOCKET = True
except ImportError:
    HAS_WEBSOCKET = False

READ_SIZE = 1 << 18
_SEND_AHEAD = 1 << 18  # bytes of input framed before the socket takes them
_WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
# After the status the server has nothing left to say but its close.
_AFTER_STATUS = 5.0


@dataclass(frozen=True)
class Limits:
    """Seconds: to connect, between pings while idle, and without a sign of life before giving up.

    `untaken` is how long input may wait: a pong is a sign of life of the way there, and not of the command.
    """

    connect: float = 20.0
    ping: float = 10.0
    stall: float = 300.0
    untaken: float = 3600.0


class Input:
    """What the command reads: pieces made on demand, or the bytes of a pipe or socket as they come.

    `closes` tells whether its end can be told to the server (only v5 can).
    """

    def __init__(self, source: Stdin, size: int | None) -> None:
        self.size = size
        self.sent = 0
        self.closes = False
        self.descriptor = source if isinstance(source, int) else None
        self._pieces = iter(()) if isinstance(source, int) else iter(source)

    def next(self) -> bytes | None:
        """The next piece, None at the end; blocks if the descriptor has nothing."""
        piece = (
            os.read(self.descriptor, READ_SIZE) or None
            if self.descriptor is not None
            else next(self._pieces, None)
        )
        if piece:
            self.sent += len(piece)
        return piece

    def miscounted(self, *, ended: bool) -> bool:
        """Whether what was read can't be the announced number of bytes."""
        return self.size is not None and (self.sent > self.size or (ended and self.sent < self.size))


class ExecProcess:
    """Implements `_runner.Process`."""

    def __init__(
        self, sock: socket, target: Target, argv: Sequence[str], stdin: Input | None, limits: Limits
    ) -> None:
        self.deadline = math.inf
        self._sock = sock
        self._target = target
        self._argv = argv
        self._stdin = stdin
        self._limits = limits
        self._decoder = Decoder()
        self._buffer = memoryview(bytearray(READ_SIZE))
        # Frames to send, each with whether getting rid of it proves that the connection moves.
        self._outgoing: deque[tuple[memoryview, bool]] = deque()
        self._queued = 0
        self._stderr = bytearray()
        self._code: int | None = None
        self._error: KubeferryError | None = None
        self._ended = self._closed = self._writable = False
        self._alive = self._pinged = self._moved = self._spoke = time.monotonic()
        self._broken = ""
        sock.setblocking(False)

    def read(self) -> bytes:
        while self._error is None and self._code is None:
            if self._ended:
                self._conclude()
                break
            piece = self._step()
            if piece:
                self._spoke = time.monotonic()
                return piece
            self._require_in_time()
        if self._error is not None:
            raise self._error
        return b""

    def _require_in_time(self) -> None:
        now = time.monotonic()
        if now >= self.deadline and not (self._ended or self._decoder.status_complete):
            raise self._fail(silent_for(now - self._spoke))

    def wait(self) -> int:
        while self.read():
            pass
        return -1 if self._code is None else self._code  # read() raises unless there is one

    def stderr(self) -> bytes:
        return bytes(self._stderr)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._error is None and self._code is None:
            self._error = ConnectionLost(f"The stream to {self._target.where} was closed on this side.")
            # A close frame in the middle of another frame would only be garbage.
            if not self._outgoing:
                self._queue(b"\x03\xe8", ABNF.OPCODE_CLOSE)
                self._send()
        self._outgoing.clear()
        self._sock.close()

    def _step(self) -> bytes:
        """Send what can be sent and receive what has come, or wait for either; new standard output."""
        if self._stdin is not None:
            self._feed(self._stdin)
        moved = self._send() if self._outgoing else False
        piece = self._receive()
        if piece is not None or moved:
            self._alive = time.monotonic()
            if piece or moved:
                self._moved = self._alive
        elif not self._ended:
            self._wait()
        return piece or b""

    def _feed(self, stdin: Input) -> None:
        """Queue input until there's enough to keep the socket busy."""
        while self._queued < _SEND_AHEAD:
            if stdin.descriptor is not None and not _readable(stdin.descriptor):
                return
            piece = stdin.next()
            if stdin.miscounted(ended=piece is None):
                raise self._fail(
                    ExecError(
                        f"The input for {self._argv[0]!r} in {self._target.where} was {stdin.sent} bytes, not the "
                        f"{stdin.size} that were announced: the source changed while it was read; try again."
                    )
                )
            if piece is None:
                self._stdin = None
                if stdin.closes:
                    self._queue(CLOSE_STDIN, ABNF.OPCODE_BINARY)
                return
            if not piece:
                return  # nothing yet: `_runner.Runner.start` says when it's asked for again
            for message in messages(piece):
                self._queue(message, ABNF.OPCODE_BINARY)

    def _queue(self, payload: bytes, opcode: int) -> None:
        # Masking protects proxies that read along (RFC 6455, 10.3). Inside TLS nobody does, and it costs the most here.
        if isinstance(self._sock, ssl.SSLSocket):
            frame = unmasked(opcode, payload)
        else:
            frame = ABNF.create_frame(payload, opcode).format()
        self._outgoing.append((memoryview(frame), opcode == ABNF.OPCODE_BINARY))
        self._queued += len(frame)

    def _send(self) -> bool:
        """Hand frames to the socket until it takes no more; whether that moved the command's input."""
        moved = False
        try:
            while self._outgoing:
                frame, counts = self._outgoing[0]
                sent = self._sock.send(frame)
                self._queued -= sent
                moved = moved or counts
                if sent == len(frame):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = (frame[sent:], counts)
        except _WOULD_BLOCK:
            pass
        except OSError:
            # The command may have ended before it read everything; its status may be here already.
            self._drop_input()
        return moved

    def _drop_input(self) -> None:
        self._stdin = None
        self._outgoing.clear()
        self._queued = 0

    def _receive(self) -> bytes | None:
        """Standard output among the bytes that have come; None if nothing has."""
        filled = 0
        try:
            while filled < READ_SIZE:
                count = self._sock.recv_into(self._buffer[filled:])
                if not count:
                    self._ended = True
                    break
                filled += count
        except _WOULD_BLOCK:
            pass
        except OSError as exc:
            self._ended = True
            self._broken = exc.strerror or type(exc).__name__
        if not filled:
            return None
        try:
            batch = self._decoder.feed(self._buffer[:filled])
        except KubeferryError as exc:
            raise self._fail(exc) from None
        return self._take(batch)

    def _take(self, batch: Batch) -> bytes:
        for piece in batch.stderr:
            self._stderr += piece
        del self._stderr[:-STDERR_LIMIT]
        for payload in batch.pings:
            self._queue(payload, ABNF.OPCODE_PONG)
        if batch.closed:
            self._ended = True
        if self._decoder.status_complete:
            self._drop_input()
        return b"".join(batch.stdout)

    def _wait(self) -> None:
        """Wait until the socket can move, at most until the next ping is due or the limit is over."""
        now = time.monotonic()
        silent = now - self._alive
        if self._decoder.status_complete:
            if silent >= _AFTER_STATUS:
                self._ended = True
                return
            pause = _AFTER_STATUS - silent
        else:
            if self._outgoing and now - self._moved >= self._limits.untaken:
                raise self._fail(
                    Stalled(
                        f"{capital(self._target.where)} took no input for {now - self._moved:.0f} s while "
                        f"{self._argv[0]!r} ran: it has ended unheard; try again."
                    )
                )
            if silent >= self._limits.stall:
                raise self._fail(
                    Stalled(
                        f"{capital(self._target.where)} was silent for {silent:.0f} s while {self._argv[0]!r} ran; "
                        "check the pod's node and the network, and try again."
                    )
                )
            idle = now - max(self._alive, self._pinged)
            if idle >= self._limits.ping:
                self._pinged = now
                idle = 0.0
                self._queue(b"", ABNF.OPCODE_PING)
                self._send()
            pause = min(self._limits.ping - idle, self._limits.stall - silent, self.deadline - now)
        self._sleep(max(pause, 0.0))

    def _sleep(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        if self._stdin is not None and self._stdin.descriptor is not None and self._queued < _SEND_AHEAD:
            poll.register(self._stdin.descriptor, select.POLLIN)
        poll.poll(seconds * 1000 + 1)

    def _conclude(self) -> None:
        """Make the exit status, or the error, of what the error channel said before the stream ended."""
        self._sock.close()
        if not self._decoder.status:
            because = f" ({self._broken})" if self._broken else ""
            self._error = ConnectionLost(
                f"The stream from {self._target.where} ended before the exit status of "
                f"{self._argv[0]!r} arrived{because}: what came is incomplete; try again."
            )
            return
        status = parse_status(self._decoder.status)
        self._code = exit_code(status)
        if self._code is None:
            self._error = command_failed(status, self._target, self._argv)
        elif self._code in {126, 127, 255}:
            self._error = missing_program(bytes(self._stderr), self._target, self._argv)
        elif self._code in {128 + SIGKILL, 128 + SIGTERM}:
            self._error = gone_pod(self._target, self._argv)

    def _fail(self, error: KubeferryError) -> KubeferryError:
        self._error = error
        return error


def _readable(descriptor: int) -> bool:
    poll = select.poll()  # select.select() fails for descriptors above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
