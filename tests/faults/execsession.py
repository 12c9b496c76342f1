# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One exec after its handshake: a real command on one side, frames on the other, and the fault in between."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from execfaults import CLOSE, ERROR, STDERR, STDIN, STDOUT, V5, Exec, Fault
from fakeapi import status

ENDING_OUTPUT = {"cut", "cut-frame", "cut-header", "reset", "stall", "truncate"}


class Session:
    """Runs the command of `entry` and talks to the client until it goes away."""

    def __init__(self, connection: socket.socket, reader: Any, entry: Exec) -> None:
        self._connection = connection
        self._reader = reader
        self._entry = entry
        self._fault = entry.fault or Fault("banner", message="")
        self._sending = threading.Lock()
        self._mute = False
        self._moved = time.monotonic()
        self._over = threading.Event()

    def run(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> None:
        for channel in (STDOUT,) if self._entry.protocol == V5 else (STDOUT, STDERR, ERROR):
            self._message(channel, b"")  # servers begin so
        if self._fault.kind == "error":
            self._entry.struck = True
            self._finish(status(500, self._fault.message))
            return
        try:
            child = spawn()
        except OSError as exc:
            # The words of containerd and runc for it.
            text = (
                f'exec: "{self._entry.argv[0]}": executable file not found in $PATH: {exc.strerror}: unknown'
            )
            self._finish(
                status(500, f"Internal error occurred: error executing command in container: {text}")
            )
            return
        feeder = threading.Thread(target=self._feed, args=(child,), daemon=True)
        stderr = threading.Thread(target=self._copy_stderr, args=(child,), daemon=True)
        try:
            if self._fault.kind == "idle":
                threading.Thread(target=self._watch, daemon=True).start()
            self._prelude()
            feeder.start()
            stderr.start()
            if self._copy_stdout(child):
                stderr.join()
                lies = self._entry.struck and self._fault.kind in {"truncate", "lose-input"}
                code = child.wait()
                self._finish(ended(0 if lies else code))
            # Until the client closes: what it still sends must be read, or its kernel takes the rest for lost.
            feeder.join()
        finally:
            self._over.set()
            # As with a real runtime, a command whose client has gone meets the end of its input, or a broken pipe.
            child.stdout.close()  # type: ignore[union-attr]
            child.wait()
            for thread in (feeder, stderr):
                if thread.ident:
                    thread.join()
            child.stderr.close()  # type: ignore[union-attr]

    def _watch(self) -> None:
        """Be the proxy that cuts what is idle."""
        limit = self._fault.after / 1000
        while not self._over.wait(limit / 10):
            if time.monotonic() - self._moved > limit:
                self._entry.struck = True
                hang_up(self._connection)
                return

    def _prelude(self) -> None:
        text = self._fault.message.encode()
        if self._fault.kind == "banner" and text:
            self._entry.struck = True
            self._message(STDOUT, text)
        if self._fault.kind == "noise":
            self._entry.struck = True
            for _number in range(self._fault.after):
                self._message(STDERR, text)

    def _copy_stdout(self, child: subprocess.Popen[bytes]) -> bool:
        """Send the command's output; False if the fault has taken the connection away."""
        assert child.stdout is not None
        while piece := os.read(child.stdout.fileno(), 32 * 1024):
            if self._entry.record:
                self._entry.record[1].extend(piece)
            room = self._fault.after - self._entry.sent
            if self._entry.struck or room > len(piece):
                self._tell(piece)
            elif self._fault.kind == "interject":
                self._entry.struck = True
                self._tell(piece[:room])
                self._message(STDOUT, self._fault.message.encode())
                self._tell(piece[room:])
            elif self._fault.kind == "garble":
                self._entry.struck = len(piece) > room
                self._tell(garbled(piece, room))
            elif self._fault.kind in ENDING_OUTPUT:
                self._entry.struck = True
                self._tell(piece[:room])
                return self._break_off(child, piece[room:])
            else:
                self._tell(piece)
        return True

    def _tell(self, piece: bytes) -> None:
        self._entry.sent += len(piece)
        if piece:
            self._message(STDOUT, piece)

    def _break_off(self, child: subprocess.Popen[bytes], rest: bytes) -> bool:
        """Do what the fault says in place of sending `rest`; whether a status follows."""
        kind = self._fault.kind
        if kind == "stall":
            self._mute = True
            return False
        if kind == "truncate":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            return True
        with self._sending:
            if kind == "cut-frame":
                self._connection.sendall(header(2, len(rest) + 1000) + bytes([STDOUT]) + rest)
            elif kind == "cut-header":
                self._connection.sendall(header(2, 40_000)[:2])
            elif kind == "reset":
                # No waiting, no FIN: the kernel answers whatever comes with RST.
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        hang_up(self._connection)
        return False

    def _copy_stderr(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stderr is not None
        with contextlib.suppress(OSError):
            while piece := os.read(child.stderr.fileno(), 32 * 1024):
                self._message(STDERR, piece)

    def _feed(self, child: subprocess.Popen[bytes]) -> None:
        """Take the client's messages until it goes away."""
        try:
            for opcode, payload in self._frames():
                self._moved = time.monotonic()
                if opcode == 9 and not self._mute:
                    self._entry.pings += 1
                    self._frame(10, payload)
                elif opcode == 8:
                    break
                elif opcode == 2:
                    self._input(child, payload)
        except (OSError, ValueError):
            pass
        if child.stdin:
            with contextlib.suppress(OSError):
                child.stdin.close()

    def _input(self, child: subprocess.Popen[bytes], payload: bytes) -> None:
        assert child.stdin is not None
        if self._entry.protocol == V5 and payload == bytes([CLOSE, STDIN]):
            child.stdin.close()
        elif payload[:1] == bytes([STDIN]):
            data = self._spoiled(payload[1:])
            self._entry.received += len(payload) - 1
            if self._entry.record:
                self._entry.record[0].extend(data)
            with contextlib.suppress(OSError, ValueError):  # the command has ended, or closed its input
                child.stdin.write(data)
                child.stdin.flush()
            if self._entry.struck:
                self._break_input(child)

    def _spoiled(self, data: bytes) -> bytes:
        """What gets through of the next input."""
        room = self._fault.after - self._entry.received
        if self._fault.kind == "garble-input" and not self._entry.struck and 0 <= room < len(data):
            self._entry.struck = True
            return garbled(data, room)
        if self._fault.kind not in {"cut-input", "lose-input", "stall-input"} or room > len(data):
            return data
        self._entry.struck = True
        return data[: max(0, room)]

    def _break_input(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        if self._fault.kind == "cut-input":
            hang_up(self._connection)
        elif self._fault.kind == "lose-input":
            child.stdin.close()
        elif self._fault.kind == "stall-input":
            poll = select.poll()
            poll.register(self._connection, select.POLLRDHUP)
            poll.poll()
            raise ValueError("the client has had enough")

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while head := self._reader.read(2):
            length = head[1] & 0x7F
            if not head[1] & 0x80:
                raise ValueError("a client must mask its frames")
            if length == 126:
                (length,) = struct.unpack("!H", self._reader.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self._reader.read(8))
            key, data = self._reader.read(4), self._reader.read(length)
            mask = int.from_bytes(key * (length // 4 + 1), "big") >> 8 * (4 - length % 4)
            yield head[0] & 15, (int.from_bytes(data, "big") ^ mask).to_bytes(length, "big")

    def _finish(self, ending: dict[str, Any]) -> None:
        text = json.dumps(ending).encode()
        if self._fault.kind in {"slow-status", "cut-status", "no-status", "linger", "abrupt"}:
            self._entry.struck = True
        if self._fault.kind == "slow-status":
            time.sleep(self._fault.after / 1000)
        if self._fault.kind == "cut-status":
            with self._sending:
                self._connection.sendall(header(2, len(text) + 1) + bytes([ERROR]) + text[:-5])
            hang_up(self._connection)
            return
        if self._fault.kind != "no-status":
            self._message(ERROR, text)
        if self._fault.kind == "linger":
            return
        if self._fault.kind == "abrupt":
            hang_up(self._connection)  # what the client sends from now on is answered with a reset
            return
        self._frame(8, struct.pack("!H", 1000))
        self._connection.shutdown(socket.SHUT_WR)

    def _message(self, channel: int, data: bytes) -> None:
        self._frame(2, bytes([channel]) + data)

    def _frame(self, opcode: int, payload: bytes) -> None:
        self._moved = time.monotonic()
        with self._sending:
            self._connection.sendall(header(opcode, len(payload)) + payload)


def garbled(data: bytes, at: int) -> bytes:
    """`data` with another byte at `at`, if it is so long."""
    return data[:at] + bytes(each ^ 0x5A for each in data[at : at + 1]) + data[at + 1 :]


def header(opcode: int, length: int) -> bytes:
    if length < 126:
        return struct.pack("!BB", 0x80 | opcode, length)
    if length < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, length)
    return struct.pack("!BBQ", 0x80 | opcode, 127, length)


def ended(code: int) -> dict[str, Any]:
    """The status of a command that ended with `code`, a signal's number negated."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    code = 128 - code if code < 0 else code
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
