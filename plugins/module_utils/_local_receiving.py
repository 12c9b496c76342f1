# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Files that arrive in a directory of this machine, and the proof of what arrived, until they have their names."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence

from ._checksum import hasher
from ._entry import Entry, Taken
from ._folder import Folder
from ._local_attributes import LocalAttributes
from ._local_files import digest_of, opened, taken
from ._progress import Progress
from ._read_back import ReadBack
from ._tree import Incoming
from ._untouched import LARGE, Untouched, alone

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Receiving:
    """Writes the files of one batch after the other below `place`, a path relative to the directory `root`."""

    def __init__(self, root: bytes, place: bytes, attributes: LocalAttributes, progress: Progress) -> None:
        self._root = root
        self._place = place
        self._attributes = attributes
        self._progress = progress
        self._read_back: dict[bytes, Taken] = {}
        self._untouched = Untouched()

    def receive(self, entries: Sequence[Entry], incoming: Iterable[Incoming], checksum: str) -> None:
        """Write the files of a batch. Raises OSError."""
        by_path = {entry.path: entry for entry in entries}
        self._read_back.clear()
        self._untouched.drop()
        with Folder(self._root) as folder:
            for item in incoming:
                self._read_back[item.path] = self._write(folder, by_path[item.path], item, checksum)

    def received(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        """The digests of what lies there, of each file that can be read."""
        told, self._read_back = self._read_back, {}
        yield from (told[path] for path in paths if path in told)
        with Folder(self._root) as folder:
            for path in paths:
                if path not in told:
                    with contextlib.suppress(OSError):
                        yield self._reread(folder, path, checksum)

    def placed(self) -> Iterator[Taken]:
        """Those that nobody was about to write to until they had their names, with the status that they have now."""
        for path, digest, status in self._untouched.release():
            yield taken(path, digest, status, sole=True)

    def drop(self) -> None:
        """Hold no file any more."""
        self._untouched.drop()

    def _write(self, folder: Folder, entry: Entry, item: Incoming, checksum: str) -> Taken:
        """Write one file. Returns the digest of what the file system has of it then."""
        at = folder.made(self._place + b"/" + entry.path)
        mode = self._attributes.mode(entry)
        first = mode & 0o777 | 0o600  # what dies half-way may be taken up by its owner
        try:
            descriptor = os.open(at[1], NEW, first, dir_fd=at[0])
        except FileExistsError:  # an attempt before this one got so far
            os.unlink(at[1], dir_fd=at[0])
            descriptor = os.open(at[1], NEW, first, dir_fd=at[0])
        large = entry.size >= LARGE
        lease = self._untouched.take(descriptor, fcntl.F_WRLCK) if large else None
        back = ReadBack(descriptor, checksum) if lease else None
        digest, sole = "", lease is not None
        try:
            with back.begun() if back else contextlib.nullcontext():
                written = self._fill(descriptor, entry.size, item, back)
                self._attributes.give_file(descriptor, entry, mode, at)
                status = os.fstat(descriptor)
                if back:
                    digest = back.digest(written)
                elif not large:
                    sole = alone(descriptor, fcntl.F_WRLCK)
                    digest = hasher(checksum, os.pread(descriptor, written + 1, 0)).hexdigest()
        except BaseException:
            if lease:
                self._untouched.let_go(lease)
            raise
        finally:
            os.close(descriptor)
        self._progress.advance(0, files=1)
        if large and not (lease and self._untouched.keep(entry.path, lease, digest)):
            with contextlib.suppress(OSError):
                return self._reread(folder, entry.path, checksum)
        return taken(entry.path, digest, status, sole=sole)

    def _fill(self, descriptor: int, size: int, item: Incoming, back: ReadBack | None) -> int:
        """Write the content of a file; how much that was."""
        written = 0
        for piece in item.payload:
            # What has grown is sent again; it gets no more room than it was planned to have.
            left = piece[: size - written]
            while left:
                count = os.write(descriptor, left)
                left = left[count:]
                written += count
            if back:
                back.wrote(written)
            self._untouched.give_way()
            self._progress.advance(len(piece))
        return written

    def _reread(self, folder: Folder, path: bytes, checksum: str) -> Taken:
        """The digest of a received file. A large one is held until it has its name. Raises OSError."""
        with opened(folder, self._place + b"/" + path) as descriptor:
            large = os.fstat(descriptor).st_size >= LARGE
            lease = self._untouched.take(descriptor, fcntl.F_RDLCK) if large else None
            sole = lease is not None or alone(descriptor, fcntl.F_RDLCK)
            status = os.fstat(descriptor)
            digest = digest_of(descriptor, checksum)
        if lease:
            self._untouched.keep(path, lease, digest)
        return taken(path, digest, status, sole=sole)
