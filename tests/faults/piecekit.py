# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two directories between which large files move by pieces, and a runner that counts and cuts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import engine

from ansible_collections.kubeferry.pvc.plugins.module_utils import _pieces_scripts as scripts
from ansible_collections.kubeferry.pvc.plugins.module_utils._asking import Asker
from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import FILE, Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ConnectionLost
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_pieces import LocalPieces, LocalPlace
from ansible_collections.kubeferry.pvc.plugins.module_utils._pieces_transport import PiecesTransport
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_pieces import ShellPieces, ShellPlace

WORK = ".kubeferry/run-1"
MTIME = 1_500_000_000 * 1_000_000_000
TOOLS = {"busybox": ("md5sum", "sha256sum"), "gnu": ("md5sum", "sha256sum", "gnutar")}


@dataclass
class Meter:
    """A runner that counts the bytes of its streams by script, and cuts one of them, once.

    `cut` is the first word of a script's name in `_pieces_scripts`, the direction, and after how many bytes.
    """

    runner: object
    cut: tuple[str, str, int] | None = None
    carried: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def where(self):
        return self.runner.where

    def start(self, argv, stdin=None, stdin_size=None):
        name = next(
            name for name in ("PIECES", "BLOCKS", "READ", "WRITE") if getattr(scripts, name) == argv[2]
        )
        return Metered(self, name, self.runner.start(argv, self._passed(name, stdin), stdin_size))

    def _passed(self, name, stdin):
        for data in stdin:
            if self.count(name, "in", len(data)):
                yield data[: len(data) // 2]
                raise ConnectionLost("cut in the input")
            yield data

    def count(self, name, way, size) -> bool:
        """Count so many bytes. Whether the stream is to be cut within them."""
        total = self.carried[(name, way)] = self.carried.get((name, way), 0) + size
        if self.cut is None or self.cut[:2] != (name, way) or total <= self.cut[2]:
            return False
        self.cut = None
        return True


class Metered:
    """A process whose output is counted."""

    def __init__(self, meter, name, process):
        self._meter, self._name, self._process = meter, name, process
        self._cut = False
        self.stderr, self.close = process.stderr, process.close

    def read(self):
        data = self._process.read()
        self._cut = self._cut or self._meter.count(self._name, "out", len(data))
        if self._cut:
            raise ConnectionLost("cut in the output")
        return data

    def wait(self):
        while self.read():
            pass
        return self._process.wait()


class Ferry:
    """A source and a target directory, each reached as its kind says: `local`, or the box of that name."""

    def __init__(self, boxes, place, source="local", target="local"):
        self.boxes = boxes
        self.source, self.target = place / "source", place / "target"
        self.work = self.target / WORK / "tree"
        self.meters = {}
        for path in (self.source, self.work):
            path.mkdir(parents=True)
        self.transport = self.between(source, target)

    def between(self, source, target, cut=None) -> PiecesTransport:
        ends = [self.end(self.source, source, cut), self.end(self.target, target, cut)]
        return PiecesTransport(*ends, "sha256", engine.progress())

    def end(self, path, kind, cut=None):
        if kind == "local":
            return LocalPieces(LocalPlace(os.fsencode(path), WORK.encode()))
        meter = self.meters[path] = Meter(self.boxes[kind].runner(str(path)), cut)
        return ShellPieces(ShellPlace(Asker(meter, str(path), "mark"), f"./{WORK}", frozenset(TOOLS[kind])))

    def entry(self, name, size=None) -> Entry:
        path = os.fsencode(name)
        size = os.stat(os.path.join(os.fsencode(self.source), path)).st_size if size is None else size
        return Entry(path, FILE, size, 0o644, 0, 0, MTIME)

    def move(self, *names, basis=None) -> int:
        return self.transport.move([self.entry(name) for name in names], basis or {})

    def carried(self) -> int:
        """The bytes that all streams have carried, in and out."""
        return sum(size for meter in self.meters.values() for size in meter.carried.values())

    def arrived(self, name="file") -> bytes:
        return content(self.work, name)

    def same(self, name="file") -> bool:
        return self.arrived(name) == content(self.source, name)

    def place(self, root, name, data) -> int:
        """Write a file, and return its size."""
        full = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as stream:
            stream.write(data)
        return len(data)


def content(root, name) -> bytes:
    with open(os.path.join(os.fsencode(root), os.fsencode(name)), "rb") as stream:
        return stream.read()


def allocated(root, name="file") -> int:
    """The bytes that a file takes up."""
    return os.stat(os.path.join(os.fsencode(root), os.fsencode(name))).st_blocks * 512


def sparse(path, size, *data) -> None:
    """A file of `size` bytes with just the data given as (offset, bytes)."""
    with open(path, "wb") as stream:
        for offset, some in data:
            stream.seek(offset)
            stream.write(some)
        stream.truncate(size)


def changed(data, *places) -> bytes:
    """`data` with a byte changed at each of these places."""
    new = bytearray(data)
    for place in places:
        new[place] ^= 0xFF
    return bytes(new)
