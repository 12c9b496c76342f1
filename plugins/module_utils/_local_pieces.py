# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Pieces of files on the machine that runs the task."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from ._checksum import hasher
from ._folder import Folder
from ._local_files import COMMON, FULL, READ_SIZE, opened, trouble
from ._names import display
from ._pieces import (
    UNKNOWN,
    ZERO,
    Asked,
    Closer,
    Part,
    Span,
    Work,
    block_length,
    islands,
    piece_count,
    piece_length,
    with_the_rest,
)

ZEROS = bytes(READ_SIZE)


@dataclass(frozen=True)
class LocalPlace:
    """Where a tree lies on this machine: its directory, and the run's work directory relative to that."""

    root: bytes
    work: bytes

    @property
    def where(self) -> str:
        return f"{display(self.root)} on this machine"


class LocalPieces:
    """Implements `PiecesSource` and `PiecesTarget` with system calls."""

    def __init__(self, place: LocalPlace) -> None:
        self._place = place

    def quick(self, checksum: str) -> bool:
        return True

    def digests(self, asked: Sequence[Asked], checksum: str) -> list[list[str]]:
        with Folder(self._place.root) as folder:
            return [self._digests(folder, file, checksum) for file in asked]

    def blocks(self, asked: Sequence[Closer], checksum: str) -> list[list[list[str]]]:
        with Folder(self._place.root) as folder:
            return [_blocks(folder, file, checksum) for file in asked]

    def received(self, paths: Sequence[bytes]) -> dict[bytes, int]:
        sizes: dict[bytes, int] = {}
        with Folder(self._place.root) as folder:
            for path in paths:
                with contextlib.suppress(OSError), opened(folder, self._received(path)) as descriptor:
                    sizes[path] = os.fstat(descriptor).st_size
        return sizes

    def read(self, works: Sequence[Work]) -> Generator[Iterator[Part], None, None]:
        with Folder(self._place.root) as folder:
            for work in works:
                yield _parts(folder, work)

    def write(self, works: Sequence[Work], parts: Iterator[Iterator[Part]]) -> None:
        with Folder(self._place.root) as folder:
            for work, incoming in zip(works, parts, strict=True):
                try:
                    self._write(folder, work, incoming)
                except OSError as exc:
                    raise trouble(exc, self._place.where, work.entry.path) from exc

    def _received(self, path: bytes) -> bytes:
        return self._place.work + b"/tree/" + path

    def _digests(self, folder: Folder, file: Asked, checksum: str) -> list[str]:
        path = self._received(file.path) if file.received else file.path
        with contextlib.suppress(OSError), opened(folder, path) as descriptor:
            size = os.fstat(descriptor).st_size
            return with_the_rest(list(_pieces(descriptor, file, size, checksum)), file, size)
        return with_the_rest([], file, 0)

    def _write(self, folder: Folder, work: Work, incoming: Iterator[Part]) -> None:
        path = self._received(work.entry.path)
        folder.made(path)
        descriptor = _begun(folder, path, work.anew)
        try:
            self._keep(folder, work, descriptor)
            for span in work.clear:
                for start in range(span.start, span.end, READ_SIZE):
                    _put(descriptor, ZEROS[: span.end - start], start)
            for part in incoming:
                for start, data in islands(part):
                    _put(descriptor, data, start)
            os.ftruncate(descriptor, work.entry.size)
            os.utime(descriptor, ns=(work.entry.mtime, work.entry.mtime))
        finally:
            os.close(descriptor)

    def _keep(self, folder: Folder, work: Work, descriptor: int) -> None:
        """What can't be kept after all is found by the digest of the whole file."""
        with contextlib.ExitStack() as stack:
            try:
                present = stack.enter_context(opened(folder, work.entry.path))
            except OSError:
                return
            for span in _with_data(present, sorted(work.keep, key=lambda span: span.start)):
                _take_over(present, descriptor, span)


def _begun(folder: Folder, path: bytes, anew: bool) -> int:
    """The received file, open for writing; made where it isn't, or something else is in its place.

    A second name of it would be changed with it, so a file with one isn't taken for ours.
    """
    parent, name = folder.at(path)
    if not anew:
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_RDWR | COMMON, dir_fd=parent)
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                return descriptor
            os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | COMMON, 0o600, dir_fd=parent)


def _pieces(descriptor: int, file: Asked, size: int, checksum: str) -> Iterator[str]:
    """The digests of the pieces of a file of `size` bytes. Those in holes are not read."""
    length = piece_length(file.size)
    extents = _extents(descriptor, 0, size)
    data = next(extents, None)
    for number in range(min(piece_count(file.size), -(-size // length))):
        start, end = number * length, min(size, (number + 1) * length)
        while data is not None and data.end <= start:
            data = next(extents, None)
        if data is None or data.start >= end:
            yield ZERO
        elif number >= file.compare:
            yield UNKNOWN
        else:
            yield _digest(descriptor, Span(start, end - start), checksum)


def _digest(descriptor: int, span: Span, checksum: str) -> str:
    digest = hasher(checksum)
    zeros = True
    for data in _bytes(descriptor, span):
        zeros = zeros and data == ZEROS[: len(data)]
        digest.update(data)
    return ZERO if zeros else digest.hexdigest()


def _blocks(folder: Folder, file: Closer, checksum: str) -> list[list[str]]:
    length = block_length(file.size)
    with contextlib.suppress(OSError), opened(folder, file.path) as descriptor:
        end = os.fstat(descriptor).st_size
        return [
            [
                hasher(
                    checksum, b"".join(_bytes(descriptor, Span(start, min(length, piece.end - start))))
                ).hexdigest()
                for start in range(piece.start, min(piece.end, end), length)
            ]
            for piece in file.pieces
        ]
    return [[] for _piece in file.pieces]


def _extents(descriptor: int, start: int, end: int) -> Iterator[Span]:
    """Where between `start` and `end` a file has data: all of it where the file system can't tell."""
    while start < end:
        try:
            first = os.lseek(descriptor, start, os.SEEK_DATA)
            last = os.lseek(descriptor, first, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno != errno.ENXIO:  # ENXIO: there is a hole up to the end
                yield Span(start, end - start)
            return
        first, last = min(first, end), min(last, end)
        if last > first:
            yield Span(first, last - first)
        start = max(last, start + 1)


def _with_data(descriptor: int, spans: Sequence[Span]) -> Iterator[Span]:
    """Where in `spans` a file has data. In one go, as a file system may look through all that follows for a hole."""
    extents = _extents(descriptor, spans[0].start, spans[-1].end) if spans else iter(())
    data = next(extents, None)
    for span in spans:
        while data is not None and data.start < span.end:
            first, last = max(data.start, span.start), min(data.end, span.end)
            if first < last:
                yield Span(first, last - first)
            if data.end > span.end:
                break
            data = next(extents, None)


def _bytes(descriptor: int, span: Span) -> Iterator[bytes]:
    """What a file has there, up to its end or an input error."""
    start = span.start
    with contextlib.suppress(OSError):
        while data := os.pread(descriptor, min(READ_SIZE, span.end - start), start):
            yield data
            start += len(data)


def _take_over(source: int, target: int, span: Span) -> None:
    """Have the kernel copy from one file to the same place in another one, and do by hand what it can't."""
    start = span.start
    if hasattr(os, "copy_file_range"):
        try:
            while start < span.end and (
                count := os.copy_file_range(source, target, span.end - start, start, start)
            ):
                start += count
        except OSError as exc:
            if exc.errno in FULL:
                raise
    for data in _bytes(source, Span(start, span.end - start)):
        _put(target, data, start)
        start += len(data)


def _parts(folder: Folder, work: Work) -> Iterator[Part]:
    """The parts of one file, each as long as was asked for."""
    with contextlib.ExitStack() as stack:
        descriptor = -1
        with contextlib.suppress(OSError):
            descriptor = stack.enter_context(opened(folder, work.entry.path))
        for span in work.send:
            extents = (
                _extents(descriptor, span.start, span.end) if span.fresh and descriptor >= 0 else (span,)
            )
            for extent in extents:
                yield Part(extent.start, span.fresh, _exactly(descriptor, extent))


def _exactly(descriptor: int, span: Span) -> Iterator[memoryview]:
    missing = span.length
    for data in _bytes(descriptor, span):
        yield memoryview(data)
        missing -= len(data)
    while missing:
        yield memoryview(ZEROS[:missing])
        missing -= min(missing, READ_SIZE)


def _put(descriptor: int, data: bytes, start: int) -> None:
    left = memoryview(data)
    while left:
        count = os.pwrite(descriptor, left, start)
        left, start = left[count:], start + count
