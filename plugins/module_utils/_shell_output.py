# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Reading what the scripts of `_scripts` print."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ._asking import answers
from ._entry import BLOCK, CHAR, DIR, FIFO, FILE, SOCKET, SYMLINK, possible
from ._errors import ConnectionLost, ProtocolError
from ._names import display
from ._row import number
from ._store import Row
from ._tar import ByteStream

KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
}
MAX_NAME = 1 << 16
MAX_PATH = 4096
SPARE = 1 << 16
"""Bytes that a file may take up less than its size has without counting as sparse: small ones lie in their inodes."""
MAX_BATCH = 1 << 24
"""Bytes of one batch of names, or of stat or digest lines: xargs hands over 128 KiB of names at a time."""
MOST_IN_BATCH = 1 << 16
"""Names of one batch: none takes up less than 2 bytes of what xargs hands over."""
MAX_STATUSES = 1 << 20
"""Bytes of exit statuses: a line for each time that xargs ran the command."""
STATUS = re.compile(
    rb"^([0-9a-f]{1,8}) (\d{1,19}) (\d{1,10}) (\d{1,10}) (\d{1,20}) (\d{1,20}) (\d{1,10}) ([0-9a-f]{1,8}) "
    rb"([0-9a-f]{1,8}) (\d{1,19}) (\d{1,10}) (-?\d{1,15}) (-?\d{1,15})"
    rb"\|[^|.\n]*\.?(\d{9})?[^|\n]*\|[^|.\n]*\.?(\d{9})?[^|\n]*\n",
    re.MULTILINE,
)
"""A line of stat by the format of a scan. The words repeat the times, with nanoseconds where stat knows them."""
DEVICE = re.compile(rb"^(?:[0-9a-f]+ ){4}(\d{1,20}) ", re.MULTILINE)
"""The device in such a line."""
SUMS = {
    length: re.compile(rb"^([0-9a-f]{%d}) [ *]([^\n]*)\n" % length, re.MULTILINE)
    for length in (32, 40, 64, 128)
}
"""Lines of digest tools, by the length of the hex digest."""


@dataclass
class Batch:
    """One batch of names with what was printed about them: lines of stat or of a digest tool."""

    names: list[bytes]
    lines: bytes
    unreadable: list[bytes]
    looks: bytes = b""
    looks_after: bytes = b""

    @property
    def raw(self) -> bytes:
        """All of it, the same bytes for the same things."""
        return b"\0".join((*self.names, self.lines, *self.unreadable))


USUAL = 1
"""The highest exit status by which a command tells of single files; above it, the command itself didn't do its work."""


def holes(size: int, allocated: int) -> int:
    """How many bytes of a file take up no room."""
    missing = size - allocated
    return missing if missing > SPARE else 0


def beginning(stream: ByteStream) -> tuple[int, int | None, int | None]:
    """The time at which a walk began, the inode of the directory, and its device.

    The time is in nanoseconds by the endpoint's clock. It is 0, and the others are None, where it has no way to tell.
    """
    told, _bar, place = stream.until(b"\0", MAX_NAME).rpartition(b"|")
    seconds, _bar, words = told.partition(b"|")
    part = words.partition(b".")[2][:9]
    began = _nanoseconds(int(seconds), part) if re.fullmatch(rb"\d{1,18}", seconds) else 0
    found = re.fullmatch(rb"(\d{1,20}) (\d{1,20})", place)
    return (began, int(found[1]), int(found[2])) if found else (began, None, None)


def batches(stream: ByteStream, with_unreadable: bool) -> Iterator[Batch]:
    """The batches of a walk (`with_unreadable`) or of a digest run, until the end mark.

    Raises ConnectionLost when the stream ends before it.
    """
    while True:
        count = stream.until(b"\0", MAX_NAME)
        if count == b"end":
            return
        if not count.isdigit() or len(count) > 9:
            raise ProtocolError(
                "the count of names isn't a number: something else wrote to its standard output"
            )
        if int(count) > MOST_IN_BATCH:
            raise ProtocolError(f"{int(count)} names came at once")
        names = stream.until(b"\0\0", MAX_BATCH).split(b"\0", int(count))
        if len(names) != int(count):
            raise ProtocolError("the names aren't as many as they were said to be")
        looks = b"" if with_unreadable else stream.until(b"\0", MAX_BATCH)
        lines = stream.until(b"\0", MAX_BATCH)
        unreadable = list(_until_empty(stream, names)) if with_unreadable else []
        yield Batch(
            names, lines, unreadable, looks, b"" if with_unreadable else stream.until(b"\0", MAX_BATCH)
        )


def complained(stream: ByteStream, names: Sequence[str], reader: str) -> bool:
    """Whether `reader` couldn't read everything, by the exit statuses that follow an end mark, of commands so named.

    Raises ConnectionLost where one never said how it ended, or didn't do its work: then something of the output is
    missing.
    """
    told: dict[str, set[int]] = {}
    for line in stream.until(b"\0", MAX_STATUSES).splitlines():
        name, _blank, status = line.decode("utf-8", "replace").partition(" ")
        if name not in names or not re.fullmatch(r"\d{1,3}", status):
            raise ProtocolError("the exit statuses aren't what was asked for")
        told.setdefault(name, set()).add(int(status))
    for name in names:
        if name not in told:
            raise ConnectionLost(f"{name} was killed")
        if killed := [status for status in told[name] if status > USUAL]:
            raise ConnectionLost(f"{name} ended with status {killed[0]}, as a command does that is killed")
        if name != reader and told[name] != {0}:
            raise ConnectionLost(f"{name} didn't do all of its work")
    return told[reader] != {0}


def links(stream: ByteStream) -> Iterator[tuple[bytes, bytes]]:
    """Name and target of symbolic links, until the end mark."""
    while (name := stream.until(b"\0", MAX_NAME)) != b"end":
        yield name, stream.until(b"\0", MAX_NAME)


def _until_empty(stream: ByteStream, names: Sequence[bytes]) -> Iterator[bytes]:
    """Those of `names` that come, until an empty one."""
    known: dict[bytes, bytes] = {}
    for name in answers(iter(lambda: stream.until(b"\0", MAX_NAME), b""), len(names)):
        known = known or {each: each for each in names}
        if name not in known:
            raise ProtocolError("a name came that isn't one of its batch")
        # The same object, as many copies of a long name would take up much.
        yield known[name]


def rows(batch: Batch) -> list[Row] | None:
    """The rows of a batch, or None when a name vanished in between and the lines can't be told apart."""
    count = batch.lines.count(b"\n")
    if count != len(batch.names):
        return None
    told = STATUS.findall(batch.lines)
    if len(told) != count:
        wrong = next(line for line in batch.lines.splitlines(keepends=True) if not STATUS.fullmatch(line))
        raise ProtocolError(f"stat printed {wrong[:80]!r}, which can't be")
    if max(map(len, batch.names)) > MAX_PATH:
        raise ProtocolError("stat told of a longer path than the kernel takes")
    return [_row(name, *fields) for name, fields in zip(batch.names, told, strict=True)]


def devices(batch: Batch) -> set[int]:
    """The devices on which the files of a batch of a walk lie."""
    return {int(device) for device in set(DEVICE.findall(batch.lines))}


def _row(name: bytes, mode: bytes, size: bytes, uid: bytes, gid: bytes, *others: bytes) -> Row:
    device, inode, names, major, minor, blocks, unit, changed, modified, changed_part, modified_part = others
    bits = int(mode, 16)
    kind, path = KINDS.get(bits & 0o170000), relative(name)
    length, owner, group = int(size) if kind == FILE else 0, int(uid), int(gid)
    devices = (int(major, 16), int(minor, 16)) if kind in (CHAR, BLOCK) else (0, 0)
    try:
        if kind is None:
            raise ValueError("a kind that no file has")
        possible(path, kind, length, owner, group, *devices)
    except ValueError as exc:
        raise ProtocolError(f"{display(name)}: stat printed {exc}") from exc
    return (
        *(
            path,
            kind,
            length,
            bits & 0o7777,
            owner,
            group,
            _time(modified, modified_part),
            b"",
            b"",
            *devices,
        ),
        *("", 0, b"", None if names == b"1" else number(int(device)), number(int(inode))),
        *(_time(changed, changed_part), holes(length, int(blocks) * int(unit)) if length else 0, int(names)),
    )


def _time(seconds: bytes, part: bytes) -> int | str:
    """A time in nanoseconds: stat prints the seconds, rounded down, and the rest where it knows it."""
    # Where there is no sign, the digits are those of the number of nanoseconds.
    return number(int(seconds + part) if part and seconds[:1] != b"-" else _nanoseconds(int(seconds), part))


def _nanoseconds(seconds: int, part: bytes) -> int:
    """A time of which stat prints the seconds, rounded down, and nine more digits where it knows them."""
    return seconds * 1_000_000_000 + (int(part) if part.isdigit() and len(part) == 9 else 0)


def relative(name: bytes) -> bytes:
    """`./a` → `a`; the directory itself stays `.`."""
    return name.removeprefix(b"./") or b"."


LOOK = re.compile(rb"(\d{1,20}) (-?\d{1,15})\|[^|.\n]*\.?(\d{9})?[^|\n]*\|")


def looks(batch: Batch) -> dict[bytes, tuple[int | str, int | str]]:
    """Inode and time of the last change of those files of a digest's batch that led to one inode before and after."""
    before = _looks(batch.names, batch.looks)
    if batch.looks_after == batch.looks:
        return before
    after = _looks(batch.names, batch.looks_after)
    return {name: look for name, look in before.items() if name in after and after[name][0] == look[0]}


def _looks(names: Sequence[bytes], lines: bytes) -> dict[bytes, tuple[int | str, int | str]]:
    found: dict[bytes, tuple[int | str, int | str]] = {}
    position = 0
    for name in names:
        told = LOOK.match(lines, position)
        if told and lines.startswith(name + b"\n", told.end()):
            found[name] = number(int(told[1])), _time(told[2], told[3] or b"")
            position = told.end() + len(name) + 1
    return found


def digests(batch: Batch, length: int) -> Iterator[tuple[bytes, str]]:
    """Name and digest of each file of a batch that could be read; `length` is that of the hex digest.

    The names are known, so the tool's lines are matched instead of parsed: whether the tool escapes a
    newline in a name (GNU coreutils) or prints it (BusyBox) makes no difference.
    """
    plain = SUMS[length].findall(batch.lines)
    # Usually each file has its line, and no name is a special one: then they need no closer look.
    if [name for _digest, name in plain] == batch.names and b"\\" not in batch.lines:
        yield from ((name, digest.decode("ascii")) for digest, name in plain)
        return
    position = 0
    for name in batch.names:
        digest = _digest_at(batch.lines, position, name, length)
        if digest is not None:
            value, position = digest
            yield name, value


def _digest_at(lines: bytes, position: int, name: bytes, length: int) -> tuple[str, int] | None:
    marked = lines[position : position + 1] == b"\\"
    start = position + marked
    value = lines[start : start + length]
    if not re.fullmatch(rb"[0-9a-f]{%d}" % length, value):
        return None
    text = value.decode("ascii")
    for printed in _escaped(name) if marked else (name,):
        for separator in (b"  ", b" *"):
            if lines.startswith(separator + printed + b"\n", start + length):
                return text, start + length + 2 + len(printed) + 1
    return None


def _escaped(name: bytes) -> Iterator[bytes]:
    """How tools print a name that they escape: coreutils since 9.0, coreutils before, and openssl."""
    slashes = name.replace(b"\\", b"\\\\")
    yield slashes.replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    yield slashes.replace(b"\n", b"\\n")
    yield name.replace(b"\n", b"\\n")


def free(line: str, unit: int) -> int | None:
    """The free amount in a line of `df -P`, times `unit`: device, total, used, free, percentage, mount point."""
    found = re.search(r"\s\d+\s+-?\d+\s+(-?\d{1,30})\s+(?:\d+%|-)\s+/", line)
    return None if found is None else max(0, int(found.group(1))) * unit


def values(output: bytes) -> tuple[Mapping[str, str], frozenset[str]]:
    """The `key=value` lines of the probe, and the tools it found."""
    pairs: Sequence[tuple[str, str]] = [
        (key, value)
        for key, _equals, value in (
            line.partition("=") for line in output.decode("utf-8", "replace").splitlines()
        )
    ]
    return dict(pairs), frozenset(value for key, value in pairs if key == "tool")
