# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The exec subprotocol `v5.channel.k8s.io` (KEP-4006) and its predecessor v4, without any I/O.

Every WebSocket message is one channel byte and that channel's next bytes. The server sends 1 (standard
output), 2 (standard error) and, last, 3: a JSON `v1.Status` that tells how the command ended. The client
sends 0 (standard input); with v5 the message `255, 0` closes the standard input, which v4 can't do.

:class:`Decoder` takes bytes as they come from the socket, in pieces of any size, and hands out views
of the channels' bytes: no frame is ever put together in memory, and no byte is copied or looked at.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ._errors import ExecError, ProtocolError

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"

STDIN, STDOUT, STDERR, ERROR = 0, 1, 2, 3
CLOSE_STDIN = b"\xff\x00"

# The largest message we send, channel byte included: twice io.Copy's buffer, which saves 4 to 8 % of all CPU; with more
# nothing is saved.
MESSAGE_SIZE = 64 * 1024

# `sh -c` with a constant script; what it works on comes as positional arguments. `head` stops after
# the stated bytes, so the command sees its end of file although v4 leaves the stream open
# (kubernetes/kubernetes#89899). The status of a pipeline is that of its last command.
BOUNDED = ("sh", "-c", 'head -c "$1" | { shift; exec "$@"; }', "kubeferry")

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_CONTROL_LIMIT = 125  # RFC 6455, section 5.5


def bounded(argv: Sequence[str], size: int) -> list[str]:
    """`argv` wrapped so that its standard input ends after `size` bytes."""
    return [*BOUNDED, str(size), *argv]


def query(argv: Sequence[str], container: str, *, stdin: bool) -> str:
    """The query string of an exec request. Raises ExecError for an argument that isn't UTF-8.

    The kubelet hands the command to the runtime in a protobuf `string`, which is UTF-8 by definition:
    file names of other bytes can only travel on the standard input.
    """
    if not argv:
        raise ExecError("There is no command to run: give at least the program's name.")
    pairs = [("container", container)] if container else []
    pairs += [("stdout", "true"), ("stderr", "true")]
    if stdin:
        pairs.append(("stdin", "true"))
    pairs += [("command", argument) for argument in argv]
    try:
        return "&".join(f"{key}={quote(value.encode(), safe='')}" for key, value in pairs)
    except UnicodeEncodeError as exc:
        raise ExecError(f"An argument of {argv[0]!r} isn't UTF-8: send such names on its input.") from exc


def unmasked(opcode: int, payload: bytes) -> bytes:
    """A whole frame of a client (RFC 6455, 5.2) whose masking key is zero, so that the payload stays as it is."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


def messages(piece: bytes | memoryview) -> Iterator[bytes]:
    """`piece` as messages for the standard input's channel."""
    view = memoryview(piece)
    step = MESSAGE_SIZE - 1
    for start in range(0, len(view), step):
        yield b"\x00" + view[start : start + step]


@dataclass
class Batch:
    """What one feeding of the decoder brought. The views are valid until the buffer is filled again."""

    stdout: list[memoryview] = field(default_factory=list)
    stderr: list[memoryview] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    closed: bool = False


class Decoder:
    """Server frames (RFC 6455) to channels. `status` is the error channel's text so far."""

    def __init__(self) -> None:
        self.status = bytearray()
        self.status_complete = False
        self._partial = bytearray()  # of a frame header, or of a control frame
        self._remaining = 0  # payload bytes of the data frame we're in
        self._channel: int | None = None  # of the message we're in; None before its first byte
        self._final = True  # whether the frame we're in ends its message

    def feed(self, data: memoryview) -> Batch:
        """Decode `data`, the bytes which follow those of the call before. Raises ProtocolError."""
        batch = Batch()
        position = 0
        if self._partial:
            position = self._complete(data, batch)
        size = len(data)
        while position < size and not batch.closed:
            if self._remaining:
                end = min(position + self._remaining, size)
                self._payload(data[position:end], batch)
                position = end
                continue
            used = self._header(data, position, batch)
            if not used:
                self._partial += data[position:]
                break
            position += used
        return batch

    def _complete(self, data: memoryview, batch: Batch) -> int:
        """Finish a header that was cut by the end of the last piece; how much of `data` that took."""
        for taken in range(1, len(data) + 1):
            self._partial.append(data[taken - 1])
            whole = memoryview(bytes(self._partial))
            if self._header(whole, 0, batch):
                self._partial.clear()
                return taken
        return len(data)

    def _header(self, data: memoryview, start: int, batch: Batch) -> int:
        """Read the frame header at `start`: its length, a control frame's payload included; 0 if cut."""
        available = len(data) - start
        if available < 2:
            return 0
        first, length = data[start], data[start + 1]
        if first & 0x70 or length & 0x80:
            raise ProtocolError("The API server sent a WebSocket frame that RFC 6455 doesn't allow.")
        header = 2
        if length == 126:
            header = 4
        elif length == 127:
            header = 10
        if available < header:
            return 0
        if header == 4:
            (length,) = struct.unpack_from("!H", data, start + 2)
        elif header == 10:
            (length,) = struct.unpack_from("!Q", data, start + 2)
        opcode = first & 0x0F
        if opcode >= _CLOSE:
            if length > _CONTROL_LIMIT:
                raise ProtocolError("The API server sent an oversized WebSocket control frame.")
            if available < header + length:
                return 0
            self._control(opcode, bytes(data[start + header : start + header + length]), batch)
            return header + length
        self._open(opcode, length, final=bool(first & 0x80))
        return header

    def _open(self, opcode: int, length: int, *, final: bool) -> None:
        if (opcode == _CONTINUATION) == self._final or opcode > _BINARY:
            raise ProtocolError(f"The API server sent an unexpected WebSocket frame (opcode {opcode}).")
        if opcode != _CONTINUATION:
            self._channel = None
        self._final = final
        self._remaining = length

    def _control(self, opcode: int, payload: bytes, batch: Batch) -> None:
        if opcode == _CLOSE:
            batch.closed = True
        elif opcode == _PING:
            batch.pings.append(payload)
        elif opcode != _PONG:
            raise ProtocolError(f"The API server sent an unknown WebSocket frame (opcode {opcode}).")

    def _payload(self, piece: memoryview, batch: Batch) -> None:
        self._remaining -= len(piece)
        if self._channel is None:
            self._channel = piece[0]
            piece = piece[1:]
        if self._channel == STDOUT:
            if piece:
                batch.stdout.append(piece)
        elif self._channel == STDERR:
            batch.stderr.append(piece)
        elif self._channel == ERROR:
            self.status += piece
            # Servers open each channel with an empty message: that one isn't the status.
            if self._final and not self._remaining and self.status:
                self.status_complete = True


def parse_status(text: bytes | bytearray) -> dict[str, Any]:
    """The `v1.Status` in `text`; a stand-in with `text` as its message if it isn't one."""
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if isinstance(status, dict) and ("status" in status or "code" in status or "message" in status):
        return status
    shown = bytes(text[:300]).decode(errors="replace").strip()
    return {"status": "Failure", "message": shown, "code": 0}


def exit_code(status: dict[str, Any]) -> int | None:
    """The command's exit status in a `v1.Status`; None if the command didn't run to an end of its own."""
    if status.get("status") == "Success":
        return 0
    if status.get("reason") != "NonZeroExitCode":
        return None
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            try:
                return int(cause.get("message", ""))
            except ValueError:
                return None
    return None
