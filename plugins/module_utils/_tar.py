# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The tar format as far as a stream between two trees needs it: headers out, headers in.

Python's tarfile would do, at ten times the cost for each small file, and it trusts what it reads. Formats: POSIX
1003.1 ustar and pax, and the GNU extensions for long names and large numbers (tar's manual, appendix D).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ._entry import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK, Entry
from ._errors import ConnectionLost, ProtocolError, Stuck

BLOCK_SIZE = 512
ZEROS = bytes(BLOCK_SIZE)
NO_DEVICE = b"0000000\0"
OCTAL = re.compile(rb"[0-7]+")
SMALL = 1 << 16
"""Bytes of a file that is handed over in one piece."""
MAX_EXTENSION = 1 << 20
"""Bytes of a long name or pax header that are accepted: a path has 4096 at most, so this is ample."""
MOST_EXTENSIONS = 16
"""Such headers before one member: a long name, a long target, and pax headers for all and for one."""
MOST_ZEROS = 100_000
"""Blocks of zeros in a row: tar ends an archive with 20, and one follows the other where files have gone meanwhile."""
TYPES = {FILE: b"0", SYMLINK: b"2", CHAR: b"3", BLOCK: b"4", DIR: b"5", FIFO: b"6"}


def header(entry: Entry, name: bytes, size: int, nanoseconds: bool = False) -> bytes:
    """The header blocks of one member. With `nanoseconds` a pax record carries the exact time (GNU tar reads it)."""
    out = b""
    seconds, fraction = divmod(entry.mtime, 1_000_000_000)
    if nanoseconds and fraction:
        out += _extension(b"x", _pax_record(b"mtime", decimal(entry.mtime)))
    if len(name) > 100:
        out += _extension(b"L", name + b"\0")
    if len(entry.link) > 100:
        out += _extension(b"K", entry.link + b"\0")
    return out + _ustar(entry, name, size, seconds, TYPES[entry.kind])


def header_size(entry: Entry, name: bytes, nanoseconds: bool = False) -> int:
    """The length of `header`."""
    size = BLOCK_SIZE
    if nanoseconds and entry.mtime % 1_000_000_000:
        size += 2 * BLOCK_SIZE
    for text in (name, entry.link):
        if len(text) > 100:
            size += BLOCK_SIZE + len(text) + 1 + -(len(text) + 1) % BLOCK_SIZE
    return size


def decimal(nanoseconds: int) -> bytes:
    """A time in seconds, as tar and touch read it: -1.5 s is `-1.500000000`."""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    return b"%b%d.%09d" % (b"-" if nanoseconds < 0 else b"", seconds, fraction)


def padding(size: int) -> bytes:
    """What fills the last block of `size` bytes."""
    return bytes(-size % BLOCK_SIZE)


def end() -> bytes:
    return ZEROS * 2


def _ustar(entry: Entry, name: bytes, size: int, seconds: int, kind: bytes) -> bytes:
    fields = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            b"%07o\0" % entry.mode,
            _number(entry.uid, 8),
            _number(entry.gid, 8),
            _number(size, 12),
            _number(seconds, 12),
            b" " * 8,
            kind,
            entry.link[:100].ljust(100, b"\0"),
            b"ustar  \0",
            bytes(64),
            _number(entry.device[0], 8) if entry.device[0] else NO_DEVICE,
            _number(entry.device[1], 8) if entry.device[1] else NO_DEVICE,
        )
    ).ljust(BLOCK_SIZE, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _number(value: int, width: int) -> bytes:
    """Octal where it fits, else GNU's base 256: sizes from 8 GiB, user ids above 2097151, times before 1970."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    # GNU tar reads the two's complement of the whole field, with the top bit set as the mark.
    return ((value % (1 << 8 * width)) | (0x80 << 8 * (width - 1))).to_bytes(width, "big")


def _extension(kind: bytes, data: bytes) -> bytes:
    entry = Entry(b"", "file", 0, 0o644, 0, 0, 0)
    return _ustar(entry, b"././@LongLink", len(data), 0, kind) + data + padding(len(data))


def _pax_record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while True:
        record = b"%d %s=%s\n" % (length, key, value)
        if len(record) == length:
            return record
        length = len(record)


class ByteStream:
    """Exact reads over an iterable of byte strings.

    It has ended as well when all that came ends with `last`, if there is one: nothing is waited for then.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._data = b""
        self._at = 0
        self._tail = b""
        self.last = b""

    @property
    def over(self) -> bool:
        """Whether `last` was the last that came."""
        return bool(self.last) and self._tail == self.last

    def exactly(self, size: int) -> bytes:
        """`size` bytes; fewer only when the stream has ended."""
        end = self._at + size
        if end <= len(self._data):
            out, self._at = self._data[self._at : end], end
            return out
        piece = self.some(size)
        if len(piece) == size:
            return bytes(piece)
        parts = [bytes(piece)]
        missing = size - len(piece)
        while missing and piece:
            piece = self.some(missing)
            parts.append(bytes(piece))
            missing -= len(piece)
        return b"".join(parts)

    def some(self, limit: int) -> memoryview:
        """At least one byte and at most `limit`; none when the stream has ended."""
        while self._at >= len(self._data):
            piece = None if self._ended() else next(self._pieces, None)
            if piece is None:
                return memoryview(b"")
            self._data, self._at = piece, 0
        out = memoryview(self._data)[self._at : self._at + limit]
        self._at += len(out)
        return out

    def _ended(self) -> bool:
        """Whether all that came ends with `last`. Called when it has been taken."""
        if self.last and not self.over:
            self._tail = (self._tail + self._data[-len(self.last) :])[-len(self.last) :]
        return self.over

    def rest(self, limit: int, *, waits: bool = True) -> bytes:
        """All that is left; without `waits`, what has come when the stream is stuck.

        Raises ProtocolError where that is more than `limit` bytes.
        """
        said = b""
        with contextlib.suppress(*() if waits else (Stuck,)):
            while piece := self.some(limit + 1 - len(said)):
                said += piece
        if len(said) > limit:
            raise ProtocolError(f"more than {limit} bytes came")
        return said

    def until(self, mark: bytes, limit: int) -> bytes:
        """What comes before `mark`, which is taken from the stream as well.

        Raises ConnectionLost when the stream ends first and ProtocolError after `limit` bytes without it.
        """
        found = self._data.find(mark, self._at, self._at + limit + len(mark))
        if found >= 0:
            out = self._data[self._at : found]
            self._at = found + len(mark)
            return out
        return self._until_later(mark, limit)

    def _until_later(self, mark: bytes, limit: int) -> bytes:
        """The same where the mark isn't in what has come so far."""
        seen = bytearray(memoryview(self._data)[self._at :])
        found = -1
        while found < 0:
            if len(seen) > limit:
                raise ProtocolError(f"{limit} bytes came without the expected mark")
            piece = next(self._pieces, None)
            if piece is None:
                raise ConnectionLost("the stream ended before the expected mark")
            looked = max(0, len(seen) - len(mark) + 1)
            seen += piece
            found = seen.find(mark, looked)
        self._data, self._at = bytes(memoryview(seen)[found + len(mark) :]), 0
        return bytes(memoryview(seen)[:found])


@dataclass(slots=True)
class Member:
    """A member of an incoming archive: its name, type flag and size. Iterate `payload` before the next member."""

    name: bytes
    flag: bytes
    size: int
    payload: Iterable[memoryview]


def members(stream: ByteStream, mark: bytes) -> Iterator[Member]:
    """The members of the archives that follow each other in `stream`, until a block starts with `mark`.

    BusyBox's tar ends in the middle of a file that has shrunk, and so does each that is killed: that block, which is
    the last, may begin anywhere then, and the last member is another one than it says.

    Blocks of zeros between archives are passed over. Raises ConnectionLost when the stream ends before the mark or
    inside a member, and ProtocolError for a damaged header, and for what no tar makes so much of between members.
    """
    stream.last = mark.ljust(BLOCK_SIZE - 1) + b"\n"
    name = b""
    zeros = extensions = 0
    while True:
        block = stream.exactly(BLOCK_SIZE)
        if block.startswith(mark) or stream.over:
            return
        if len(block) < BLOCK_SIZE:
            raise ConnectionLost("the archive ended before its end mark")
        if zeros > MOST_ZEROS or extensions > MOST_EXTENSIONS:
            raise ProtocolError("the archive goes on and on without a file")
        if block == ZEROS:
            zeros += 1
            continue
        flag, size = block[156:157], _parse_number(block[124:136])
        _check(block)
        if flag in b"LKxg" and flag:
            if size > MAX_EXTENSION:
                raise ProtocolError(f"an extended header of {size} bytes in the archive")
            data = stream.exactly(size + -size % BLOCK_SIZE)[:size]
            name = _long_name(flag, data) or name
            extensions += 1
            continue
        if size <= SMALL:
            content = stream.exactly(size + -size % BLOCK_SIZE)
            if len(content) < size and not stream.over:
                raise ConnectionLost("the archive ended in the middle of a file")
            yield Member(name or _short_name(block), flag, size, (memoryview(content)[:size],))
        else:
            body = _Payload(stream, size)
            yield Member(name or _short_name(block), flag, size, body)
            body.finish()
        name = b""
        zeros = extensions = 0


class _Payload:
    """The bytes of one member, read from the shared stream as they are asked for."""

    def __init__(self, stream: ByteStream, size: int) -> None:
        self._stream = stream
        self._missing = size
        self._padding = -size % BLOCK_SIZE

    def __iter__(self) -> Iterator[memoryview]:
        while self._missing:
            piece = self._stream.some(self._missing)
            if self._stream.over and not piece:
                return
            if not piece:
                raise ConnectionLost("the archive ended in the middle of a file")
            self._missing -= len(piece)
            yield piece

    def finish(self) -> None:
        for _piece in self:
            pass
        padding = self._stream.exactly(self._padding)
        if len(padding) < self._padding and not self._stream.over:
            raise ConnectionLost("the archive ended in the middle of a block")


def _check(block: bytes) -> None:
    if _parse_number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise ProtocolError("a damaged header in the archive: something else wrote to its standard output")


def _parse_number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    digits = field.strip(b" \0") or b"0"
    if not OCTAL.fullmatch(digits):
        raise ProtocolError("a damaged number in a header of the archive")
    return int(digits, 8)


def _long_name(flag: bytes, data: bytes) -> bytes:
    if flag == b"L":
        return data.rstrip(b"\0")
    if flag == b"x":
        return _pax_path(data)
    return b""


def _pax_path(data: bytes) -> bytes:
    """The `path` of a pax header; records are `length key=value` with the length of the whole record."""
    position = 0
    while position < len(data):
        found = re.compile(rb"(\d{1,7}) ([^=]{1,100})=").match(data, position)
        end = position + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ProtocolError("a damaged extended header in the archive")
        if found[2] == b"path":
            return data[found.end() : end - 1]
        position = end
    return b""


def _short_name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":  # POSIX has a prefix field; GNU's magic is "ustar " and has none.
        prefix = block[345:500].partition(b"\0")[0]
        return prefix + b"/" + name if prefix else name
    return name
