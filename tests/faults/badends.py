# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends that misbehave on command: streams that break, lie or are polluted, files that change while they are copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ansible_collections.kubeferry.pvc.plugins.module_utils import _scripts
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ConnectionLost
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._tree import Incoming

CUT, LOST, FLIP, BANNER, NOISE = "cut", "lost", "flip", "banner", "noise"


@dataclass
class Fault:
    """What goes wrong in the stream of the script called `script`, in its output (`out`) or its input (`in`).

    `cut` ends the stream at byte `at` with status 0, `lost` raises ConnectionLost there, `flip` changes that byte,
    `banner` puts text there. It happens `times` times.
    """

    script: str
    way: str
    kind: str
    at: int
    times: int = 1
    happened: int = 0


@dataclass
class BadRunner:
    """A runner whose streams have a fault; records how many bytes each script's streams carried."""

    runner: object
    fault: Fault | None = None
    carried: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return self.runner.where

    def start(self, argv, stdin=None, stdin_size=None):
        name = next(
            (name for name in dir(_scripts) if name.isupper() and getattr(_scripts, name) == argv[2]), ""
        )
        name = "RSYNC" if argv[0] == "rsync" else name
        fault = self.fault
        if fault is None or fault.script != name or fault.happened >= fault.times:
            fault = None
        if fault is not None and fault.way == "in" and not isinstance(stdin, int):
            stdin = self._through(fault, stdin or ())
        elif stdin is not None and not isinstance(stdin, int):
            stdin = self._recorded(name, stdin)
        process = self.runner.start(argv, stdin, stdin_size)
        seen: list[bytes] = []
        self.carried.setdefault((name, "out"), seen)
        return BadProcess(process, fault if fault is not None and fault.way == "out" else None, fault, seen)

    def _recorded(self, name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        seen: list[bytes] = []
        self.carried.setdefault((name, "in"), seen)
        for piece in pieces:
            seen.append(bytes(piece))
            yield piece

    def _through(self, fault: Fault, pieces: Iterable[bytes]) -> Iterator[bytes]:
        position = 0
        for piece in pieces:
            data, ended = spoil(fault, bytes(piece), position)
            position += len(piece)
            yield data
            if ended:
                return


class BadProcess:
    """A process whose output has a fault."""

    def __init__(self, process, fault: Fault | None, any_fault: Fault | None, seen: list[bytes]) -> None:
        self._process = process
        self._fault = fault
        self._any_fault = any_fault
        self._seen = seen
        self._position = 0
        self._ended = self._lost = False

    def read(self) -> bytes:
        if self._lost:
            raise ConnectionLost("The connection to the source or target is no more.")
        while not self._ended:
            data = self._process.read()
            self._seen.append(data)
            if self._fault is None or not data:
                return data
            try:
                data, self._ended = spoil(self._fault, data, self._position)
            except ConnectionLost:
                self._lost = True
                self._process.close()
                raise
            self._position += len(data)
            if self._ended:
                self._process.close()
            if data:
                return data
        return b""

    def wait(self) -> int:
        while self.read():
            pass
        if self._ended:
            return 0
        status = self._process.wait()
        return 0 if self._any_fault is not None else status

    def stderr(self) -> bytes:
        return self._process.stderr()

    def close(self) -> None:
        self._process.close()


def spoil(fault: Fault, data: bytes, position: int) -> tuple[bytes, bool]:
    """The bytes that get through of those at `position`, and whether the stream ends there."""
    if fault.happened >= fault.times or not position <= fault.at < position + max(1, len(data)):
        return data, False
    fault.happened += 1
    offset = fault.at - position
    if fault.kind == CUT:
        return data[:offset], True
    if fault.kind == LOST:
        raise ConnectionLost("The connection to the source or target was cut by the test.")
    if fault.kind == FLIP:
        return data[:offset] + bytes([data[offset] ^ 0x5A]) + data[offset + 1 :] if data else data, False
    return data[:offset] + b"Welcome to the machine!\n\0" + data[offset:], False


class LiveTree(LocalTree):
    """A source in which something happens: `act(path)` at the moment `moment`, once."""

    def __init__(self, path: str, progress, moment: str, act: Callable[[], None]) -> None:
        super().__init__(path, progress)
        self._moment = moment
        self._act = act
        self.acted = 0
        self.times = 1

    def happen(self, moment: str, path: bytes = b"") -> None:
        if moment == self._moment and self.acted < self.times and path in (b"", b"live"):
            self.acted += 1
            self._act()

    def scan(self, selection, store=None, *, xattrs=True):
        self.happen("before scan")
        found = super().scan(selection, store, xattrs=xattrs)
        self.happen("after scan")
        return found

    def digests(self, paths, checksum):
        for path in paths:
            self.happen("before digest", path)
            yield from super().digests([path], checksum)
            self.happen("after digest", path)

    def read(self, entries):
        for entry in entries:
            self.happen("before read", entry.path)
            for item in super().read([entry]):
                yield Incoming(item.path, item.size, self._payload(item))
            self.happen("after read", entry.path)

    def _payload(self, item: Incoming) -> Iterator[memoryview]:
        first = True
        for piece in item.payload:
            half = len(piece) // 2
            yield piece[:half]
            if first:
                self.happen("amid read", item.path)
            first = False
            yield piece[half:]
