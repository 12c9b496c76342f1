# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A directory that is reached by running commands: in a pod, or in tests on this machine."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from . import _scripts as scripts
from . import _shell_output as output
from . import _tar as tar
from ._asking import ANSWER_LIMIT, Asker, answers
from ._complaints import Complaint
from ._entry import Entry, Taken, provable
from ._errors import ConnectionLost, ProtocolError, Stuck, broke_off
from ._file_system import WRITTEN_OUT, Shown, what_shows
from ._hold import Hold
from ._look import Look
from ._manifest import Manifest
from ._names import display
from ._progress import Progress
from ._runner import Runner
from ._selection import Selection
from ._shell_pieces import ShellPieces, ShellPlace
from ._shell_reading import RESTLESS, ShellReading, named
from ._shell_steps import Steps
from ._store import Store
from ._tree import FLUSH_SECONDS, PART, Changes, Facts, Incoming
from ._xattrs import dump

SEND_SIZE = 1 << 18
SCAN_ROUNDS = 3
"""Walks of a tree that changes so that something couldn't be looked at."""
UNASKED = 1_000
"""Members of an archive that were not asked for: tar sends what replaces a file that it was told to send."""
GATHERED = 1 << 20
"""Bytes of a file. Where files are larger on average, it doesn't pay to gather what tar says of them."""
MOST_GROWTH = 1 << 30
"""Bytes that a file may have grown by since it was looked at, before its stream is given up."""


class ShellTree:
    """Implements `TargetTree` with the constant scripts of `_scripts` over a `Runner`."""

    near = False

    def __init__(self, runner: Runner, path: str, progress: Progress) -> None:
        self._asker = Asker(runner, path)
        self._reading = ShellReading(self._asker)
        self._progress = progress
        self._work = f"./.kubeferry/run-{secrets.token_hex(6)}"
        self._hold: Hold | None = None

    @property
    def where(self) -> str:
        return self._asker.where

    @property
    def runner(self) -> Runner:
        return self._asker.runner

    @property
    def path(self) -> str:
        return self._asker.path

    @property
    def work_tree(self) -> str:
        """Where received files lie, as an absolute path."""
        return f"{self.path}/{self._work}/tree"

    def facts(self) -> Facts:
        return self._reading.facts()

    def scan(self, selection: Selection, store: Store | None = None, *, xattrs: bool = True) -> Manifest:
        manifest, missed = self._walked(selection, store)
        earlier: set[Complaint] = set()
        rounds = 1
        # Until it is nothing, or what stays like this.
        while missed - earlier and rounds < SCAN_ROUNDS:
            earlier |= missed
            rounds += 1
            manifest, missed = self._walked(selection, store)
        for complaint in missed:
            if complaint.denied:
                manifest.unreadable[complaint.path] = "permission denied"
            elif complaint in earlier or complaint.path in manifest:
                manifest.unreadable[complaint.path] = RESTLESS
        manifest.xattrs = xattrs and self.facts().xattrs
        self._reading.read_links(manifest)
        if manifest.xattrs:
            self._reading.read_xattrs(manifest)
        manifest.group_links()
        try:
            manifest.require_tree()
        except ValueError as exc:
            advice = "correct files if one is named by way of a link; else run" if selection.files else "run"
            raise ProtocolError(
                f"{self.where} is no tree ({exc}): {advice} again when it is at rest."
            ) from exc
        return manifest

    def _walked(self, selection: Selection, store: Store | None) -> tuple[Manifest, set[Complaint]]:
        """What a walk finds, and what it couldn't list of what may matter."""
        manifest = Manifest(precision=self.facts().precision, root=self.path, store=store)
        manifest.look = Look()
        complaints: list[Complaint] = []
        walk = partial(self._reading.walk, manifest=manifest, missed=complaints)
        manifest.add_selected(walk(scripts.SCAN, selection.starts()), selection)
        if parents := selection.parents():
            manifest.add_implied(walk(scripts.LOOK, parents))
        manifest.unreadable = {p: why for p, why in manifest.unreadable.items() if selection.takes(p)}
        missed = _missed(complaints, selection)
        if missed:
            manifest.look.torn()
        return manifest, missed

    def fingerprint(self, selection: Selection) -> str:
        look = Look()
        missed: list[Complaint] = []
        for script, starts in ((scripts.SCAN, selection.starts()), (scripts.LOOK, selection.parents())):
            if starts:
                for batch in self._reading.walked(script, named(starts), look, missed):
                    look.add(batch.raw)
        if _missed(missed, selection):
            look.torn()
        return self.fingerprint_of(look)

    def flush(self) -> Shown | None:
        kinds = " ".join(WRITTEN_OUT)
        try:
            answer = self._asker.run(scripts.FLUSH, kinds, patience=FLUSH_SECONDS)
        except Stuck:
            return None
        stream = tar.ByteStream((answer,))
        began, _inode, _device = output.beginning(stream)
        number, _blank, flushed = stream.rest(ANSWER_LIMIT).decode("ascii", "replace").partition(" ")
        return what_shows(number, began if flushed == "flushed" else 0)

    def fingerprint_of(self, look: Look) -> str:
        return look.fingerprint

    def digests(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        return self._reading.digests(paths, checksum, b"./")

    def read(self, entries: Sequence[Entry]) -> Iterator[Incoming]:
        wanted = {entry.path: entry.size for entry in entries}
        unasked = 0
        verbatim = ("--no-unquote",) if "gnutar" in self.facts().tools else ()
        small = sum(wanted.values()) < len(entries) * GATHERED
        how = ("gather" if small else "pass", *verbatim)
        process, names = self._asker.ask(scripts.PULL, [b"./" + entry.path for entry in entries], *how)
        with self._asker.told(process, names, "Reading from") as stream:
            for member in tar.members(stream, self._asker.mark.encode()):
                path = output.relative(member.name)
                # Whatever else a pod sends (`..`, absolute names, devices) was not asked for and is passed over.
                if path not in wanted or member.flag not in (b"0", b"\0"):
                    if member.size > MOST_GROWTH:
                        raise ProtocolError(f"{member.size} bytes came that were not asked for")
                    unasked += 1
                elif member.size > wanted.pop(path) + MOST_GROWTH:
                    raise ProtocolError(f"{display(path)} has grown to {member.size} bytes")
                else:
                    large = member.size > tar.SMALL
                    payload = self._payload(path, member.payload) if large else member.payload
                    yield Incoming(path, member.size, payload)
                if unasked > UNASKED:
                    raise ProtocolError("more files came than were asked for")

    def _payload(self, path: bytes, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        try:
            yield from pieces
        except (ConnectionLost, ProtocolError) as exc:
            raise broke_off(exc, f"Reading {display(path)} from {self.where}") from exc

    def begin(self) -> None:
        self._hold = Hold(
            self.runner, self._asker.argv(scripts.HOLD, self._work, str(PART // 512 - 1)), self.where
        )
        self._hold.take()

    def receive(self, entries: Sequence[Entry], incoming: Iterable[Incoming], checksum: str) -> None:
        self._require_hold()
        size = sum(self._packed_size(entry) for entry in entries) + len(tar.end())
        by_path = {entry.path: entry for entry in self._provable(entries)}
        pieces = _joined(self._archive(by_path, incoming, size))
        self._asker.feed(scripts.PUSH, pieces, size, self._work)

    def received(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        return self._reading.digests(paths, checksum, f"{self._work}/tree/".encode())

    def apply(self, changes: Changes) -> None:
        self._require_hold()
        held = replace(
            changes,
            bare=self._provable(changes.bare),
            create=self._provable(changes.create),
            attributes=self._provable(changes.attributes),
        )
        archive = Steps(self._work.encode(), self._nanoseconds).archive(held)
        self._asker.feed(scripts.APPLY, (archive,), len(archive), self._work)

    def placed(self) -> Iterable[Taken]:
        return ()

    def end(self, root: Entry | None) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None
        if root is not None:
            (root,) = self._provable((root,))
            xattrs = dump([(b".", root.xattrs)]) if root.xattrs and self.facts().xattrs else b""
            data = xattrs + tar.header(root, b"./", 0, self._nanoseconds) + tar.end()
            first = "xattrs" if xattrs else ""
            mode = f"{root.mode:04o}"
            self._asker.feed(scripts.FINISH, (data,), len(data), mode, first, soon=True)

    def save(self, verified: Manifest, gone: Iterable[bytes], restless: Iterable[bytes]) -> None:
        """A pod's file system holds the attributes itself."""

    def close(self, *, keep: bool = True) -> None:
        if self._hold is not None:
            self._hold.release(keep=keep)
            self._hold = None

    def adopt(self, paths: Sequence[bytes]) -> dict[bytes, int]:
        if not paths:
            return {}
        self._require_hold()
        sizes: dict[bytes, int] = {}
        process, names = self._asker.ask(scripts.ADOPT, [b"./" + path + b"//" for path in paths], self._work)
        with self._asker.told(process, names, "Taking up what was received before below") as stream:
            for name, size in answers(output.links(stream), len(paths)):
                if re.fullmatch(rb"\d{1,19}", size):
                    sizes[output.relative(name)] = int(size)
        return sizes

    def pieces(self) -> ShellPieces:
        return ShellPieces(ShellPlace(self._asker, self._work, self.facts().tools))

    @property
    def _nanoseconds(self) -> bool:
        return "gnutar" in self.facts().tools

    def _require_hold(self) -> None:
        if self._hold is None or not self._hold.held:
            raise ConnectionLost(f"The hold on {self.where} was lost with its connection.")

    # -- writing ----------------------------------------------------------------------------------

    def _provable(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries as the user there can hold them."""
        user = self.facts().rights
        return [provable(entry, user) for entry in entries]

    def _packed_size(self, entry: Entry) -> int:
        return (
            tar.header_size(entry, entry.path, self._nanoseconds) + entry.size + -entry.size % tar.BLOCK_SIZE
        )

    def _archive(
        self, entries: Mapping[bytes, Entry], incoming: Iterable[Incoming], size: int
    ) -> Iterator[bytes | memoryview]:
        """An archive of exactly `size` bytes, whatever comes in.

        A file that comes in shorter than planned is filled up with zeros and a longer one is cut, since its header is
        already on its way; its digest will not match, and it is sent again.
        """
        left = size
        for item in incoming:
            entry = entries[item.path]
            yield tar.header(entry, entry.path, entry.size, self._nanoseconds)
            missing = entry.size
            for piece in item.payload:
                yield piece[:missing]
                missing -= min(missing, len(piece))
                self._progress.advance(len(piece))
            yield from _zeros(missing)
            yield tar.padding(entry.size)
            self._progress.advance(0, files=1)
            left -= self._packed_size(entry)
        yield from _zeros(left)


def _missed(complaints: Iterable[Complaint], selection: Selection) -> set[Complaint]:
    """Those about what may matter. A file that was named and isn't there, or in no directory, is missed by its name."""
    named = {*selection.files, *selection.parents()}
    return {
        each
        for each in complaints
        if selection.reaches(each.path) and (each.denied or each.path not in named)
    }


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, SEND_SIZE))
        count -= SEND_SIZE


def _joined(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: each one costs a frame and a system call."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= SEND_SIZE:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
