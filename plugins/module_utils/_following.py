# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Read files back while they are being written, so that their digests are there soon after their last bytes.

A command at the target reads what it is told has arrived. Whatever goes wrong with it costs nothing but time: of a file
without a digest one is taken afterwards.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from select import PIPE_BUF

from . import _pieces_scripts as scripts
from ._beside import Beside
from ._entry import Entry
from ._errors import KubeferryError, ProtocolError
from ._pieces import Span
from ._pieces_scripts import BLOCK
from ._shell_pieces import MAX_LINE, ShellPlace, blocks, digest_lines, digest_tool, escaped

STEPS = 256
"""In how many parts a file is read back at most."""
ROOM = 32 * (STEPS + 3)
"""Bytes that are said of one file at most, beside its name."""


class Follower:
    """Follows files at `place` that are written one after the other, each from its beginning to its end.

    `digests` has what was found, by path, after the block of `following`. `descriptor` is of a pipe. No more is ever
    said than the pipe holds, as nobody may be there to read it: files for which that doesn't do aren't followed.
    """

    def __init__(self, place: ShellPlace, checksum: str, descriptor: int) -> None:
        self.digests: dict[bytes, str] = {}
        self._place = place
        self._checksum = checksum
        self._descriptor = descriptor
        self._room = _capacity(descriptor) - ROOM
        self._followed: list[bytes] = []
        self._path = b""
        self._open = False
        self._told = self._step = 0

    def arrived(self, entry: Entry, span: Span) -> None:
        """A span of a file has been written.

        It is read when the next one has been: the last one may be longer than the file until that is cut.
        """
        if entry.path != self._path:
            self._end(f"{self._told} rest")
            self._path, self._told, self._step = entry.path, 0, entry.size // BLOCK // STEPS
            name = escaped(f"{self._place.work}/tree/".encode() + entry.path).decode("ascii")
            self._open = len(name) + ROOM < self._room
            if self._open:
                self._followed.append(entry.path)
                self._say(name)
        start, _count = blocks(span)
        if self._open and start - self._told > self._step:
            self._say(f"{self._told} {start - self._told}")
            self._told = start

    def finish(self, *, whole: bool) -> None:
        """No more will be written; `whole` tells whether the last file got all that it should have."""
        self._end(f"{self._told} rest" if whole else "quit")
        self._say("end")
        self._say("")  # it is waited for when all has been said

    def listen(self, descriptor: int) -> None:
        """Run the command, with what `descriptor` gives as its input, until it has told all digests."""
        asker = self._place.asker
        argv = asker.argv(scripts.FOLLOW, self._checksum, digest_tool(self._place, self._checksum))
        process = asker.runner.start(argv, descriptor)
        try:
            stream = asker.begun(process)
            count = 0
            while (answer := stream.until(b"\0", MAX_LINE)) != b"end":
                if count >= len(self._followed):
                    raise ProtocolError("more digests came than files were named")
                said = digest_lines(answer, self._checksum)
                if len(said) == 1:
                    self.digests[self._followed[count]] = said[0]
                count += 1
            process.wait()
        finally:
            process.close()

    def _end(self, how: str) -> None:
        if self._open:
            self._say(how)
        self._open = False

    def _say(self, line: str) -> None:
        self._room -= os.write(self._descriptor, f"{line}\n".encode("ascii"))


def _capacity(descriptor: int) -> int:
    """How many bytes can be written to a pipe that nobody reads."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    except (AttributeError, OSError):
        return PIPE_BUF  # not Linux: what each system has


@contextmanager
def following(place: ShellPlace, checksum: str) -> Iterator[Follower]:
    """A follower for the time in which files are written. Never raises what it meets itself."""
    reader, writer = os.pipe()
    follower = Follower(place, checksum, writer)
    try:
        with Beside(lambda: follower.listen(reader)) as listening:
            try:
                yield follower
            except BaseException:
                follower.finish(whole=False)
                raise
            follower.finish(whole=True)
            try:
                listening.result()
            except KubeferryError:
                follower.digests.clear()
    finally:
        os.close(writer)
        os.close(reader)
