# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A directory that is reached by running commands: in a pod, or in tests on this machine."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from . import _scripts as scripts
from . import _shell_output as output
from . import _tar as tar
from ._asking import Question, begun
from ._entry import DIGEST_BYTES, NANOSECOND, SECOND, SYMLINK, Entry
from ._errors import ConnectionLost, EndpointError, ExecError, ProtocolError, ToolMissing
from ._hold import Hold
from ._look import Look
from ._manifest import Manifest
from ._names import display
from ._progress import Progress
from ._row import CHANGED
from ._runner import Process, Runner, done, is_full
from ._selection import Selection
from ._shell_pieces import ShellPieces, ShellPlace
from ._shell_steps import Steps
from ._store import Row, Store, batched
from ._tree import PART, Changes, Facts, Incoming
from ._xattrs import Xattrs, dumped

NEEDED = (
    *("sh", "head", "find", "xargs", "stat", "tar", "mkdir", "mv", "rm", "rmdir"),
    *("chmod", "chown", "touch", "readlink", "ln"),
)
T = TypeVar("T")

WALK_ROUNDS = 5
SEND_SIZE = 1 << 18
MOST_NAMES = 50_000_000
MOST_UNREADABLE = 100_000
"""What is taken from a pod. It could make up names without an end."""
UNASKED = 1_000
"""Members of an archive that were not asked for: tar sends what replaces a file that it was told to send."""
MOST_GROWTH = 1 << 30
"""Bytes that a file may have grown by since it was looked at, before its stream is given up."""
ASKED_AT_ONCE = 20_000
"""Names that one command is asked about."""


class ShellTree:
    """Implements `TargetTree` with the constant scripts of `_scripts` over a `Runner`."""

    def __init__(self, runner: Runner, path: str, progress: Progress) -> None:
        self._runner = runner
        self._path = path
        self._progress = progress
        self._mark = secrets.token_hex(16)
        self._work = f"./.kubeferry/run-{secrets.token_hex(6)}"
        self._facts: Facts | None = None
        self._hold: Hold | None = None

    @property
    def where(self) -> str:
        return f"{self._path} in {self._runner.where}"

    @property
    def runner(self) -> Runner:
        return self._runner

    @property
    def path(self) -> str:
        return self._path

    @property
    def work_tree(self) -> str:
        """Where received files lie, as an absolute path."""
        return f"{self._path}/{self._work}/tree"

    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = self._look()
        return self._facts

    def scan(self, selection: Selection, store: Store | None = None, *, xattrs: bool = True) -> Manifest:
        facts = self.facts()
        manifest = Manifest(precision=facts.precision, root=self._path, store=store)
        manifest.xattrs = xattrs and facts.xattrs
        manifest.look = Look()
        manifest.add_selected(self._walk(scripts.SCAN, selection.starts(), manifest), selection)
        if parents := selection.parents():
            manifest.add_implied(self._walk(scripts.LOOK, parents, manifest))
        manifest.unreadable = {p: why for p, why in manifest.unreadable.items() if selection.takes(p)}
        self._read_links(manifest)
        if manifest.xattrs:
            self._read_xattrs(manifest)
        manifest.group_links()
        try:
            manifest.require_tree()
        except ValueError as exc:
            raise ProtocolError(f"{self.where} is no tree: {exc}. Run again when it is at rest.") from exc
        return manifest

    def fingerprint(self, selection: Selection) -> str:
        look = Look()
        for script, starts in ((scripts.SCAN, selection.starts()), (scripts.LOOK, selection.parents())):
            if starts:
                for batch in self._batches(script, _named(starts), look):
                    look.add(batch.raw)
        return self.fingerprint_of(look)

    def fingerprint_of(self, look: Look) -> str:
        return look.fingerprint

    def digests(self, paths: Sequence[bytes], checksum: str) -> Iterator[tuple[bytes, str]]:
        return self._digests(paths, checksum, b"./")

    def read(self, entries: Sequence[Entry]) -> Iterator[Incoming]:
        wanted = {entry.path: entry.size for entry in entries}
        unasked = 0
        verbatim = ("--no-unquote",) if "gnutar" in self.facts().tools else ()
        process, names = self._ask(scripts.PULL, [b"./" + entry.path for entry in entries], *verbatim)
        try:
            for member in tar.members(self._begun(process), self._mark.encode()):
                path = output.relative(member.name)
                # Whatever else a pod sends (`..`, absolute names, devices) was not asked for and is passed over.
                if path not in wanted or member.flag not in (b"0", b"\0"):
                    unasked += 1
                elif member.size > wanted.pop(path) + MOST_GROWTH:
                    raise ProtocolError(f"{display(path)} has grown to {member.size} bytes")
                else:
                    large = member.size > tar.SMALL
                    payload = self._payload(path, member.payload) if large else member.payload
                    yield Incoming(path, member.size, payload)
                if unasked > UNASKED:
                    raise ProtocolError("more files came than were asked for")
            names.release()
            process.wait()
        except (ConnectionLost, ProtocolError) as exc:
            raise type(exc)(f"Reading from {self.where} broke off: {exc}.") from exc
        finally:
            process.close()

    def _payload(self, path: bytes, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        try:
            yield from pieces
        except (ConnectionLost, ProtocolError) as exc:
            raise type(exc)(f"Reading {display(path)} from {self.where} broke off: {exc}.") from exc

    def begin(self) -> None:
        self._hold = Hold(
            self._runner, self._argv(scripts.HOLD, self._work, str(PART // 512 - 1)), self.where
        )
        self._hold.take()

    def receive(self, entries: Sequence[Entry], incoming: Iterable[Incoming], checksum: str) -> None:
        self._require_hold()
        size = sum(self._packed_size(entry) for entry in entries) + len(tar.end())
        pieces = _joined(self._archive({entry.path: entry for entry in entries}, incoming, size))
        self._finish(self._start(scripts.PUSH, pieces, size, self._work))

    def received(self, paths: Sequence[bytes], checksum: str) -> Iterator[tuple[bytes, str]]:
        return self._digests(paths, checksum, f"{self._work}/tree/".encode())

    def apply(self, changes: Changes) -> None:
        self._require_hold()
        archive = Steps(self._work.encode(), self._nanoseconds).archive(changes)
        self._finish(self._start(scripts.APPLY, (archive,), len(archive), self._work))

    def end(self, root: Entry | None) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None
        if root is not None:
            archive = tar.header(root, b"./", 0, self._nanoseconds) + tar.end()
            self._finish(self._start(scripts.FINISH, (archive,), len(archive)))

    def save(self, verified: Manifest, gone: Iterable[bytes]) -> None:
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
        process, names = self._ask(scripts.ADOPT, [b"./" + path for path in paths], self._work)
        try:
            for name, size in _answers(output.links(self._begun(process)), len(paths)):
                if size.isdigit():
                    sizes[output.relative(name)] = int(size)
            names.release()
            process.wait()
        finally:
            process.close()
        return sizes

    def pieces(self) -> ShellPieces:
        place = ShellPlace(self._runner, self._path, self._work, self._mark, self.facts().tools)
        return ShellPieces(place)

    # -- running scripts ------------------------------------------------------------------------

    @property
    def _nanoseconds(self) -> bool:
        return "gnutar" in self.facts().tools

    def _argv(self, script: str, *arguments: str) -> list[str]:
        return ["sh", "-c", script, "sh", self._path, self._mark, *arguments]

    def _start(self, script: str, stdin: Iterable[bytes], size: int, *arguments: str) -> Process:
        return self._runner.start(self._argv(script, *arguments), stdin, size)

    def _ask(self, script: str, names: Iterable[bytes], *arguments: str) -> tuple[Process, Question]:
        """Start a script that tells something about `names`, and stays until they are released."""
        asked = Question(b"".join(name + b"\0" for name in names))
        return self._runner.start(self._argv(script, str(len(asked)), *arguments), asked), asked

    def _run(self, script: str, *arguments: str) -> bytes:
        process = self._runner.start(self._argv(script, *arguments))
        try:
            return self._begun(process).rest()
        finally:
            process.close()

    def _begun(self, process: Process) -> tar.ByteStream:
        return begun(process, self._mark, self.where)

    def _finish(self, process: Process) -> None:
        """Run to the end. The exit status proves nothing: the next scan does. Raises EndpointError if it is full."""
        try:
            done(process, scripts.FAILED)
            if is_full(process.stderr()):
                raise EndpointError(f"{self.where} is full: make room there, of inodes too, and run again.")
        finally:
            process.close()

    def _require_hold(self) -> None:
        if self._hold is None or not self._hold.held:
            raise ConnectionLost(f"The hold on {self.where} was lost with its connection.")

    def _look(self) -> Facts:
        values, tools = output.values(self._run(scripts.PROBE, *scripts.TOOLS))
        if values.get("end") != "1":
            raise ExecError(f"{self.where} did not answer the first question whole: try again.")
        missing = [tool for tool in NEEDED if tool not in tools]
        if missing:
            raise ToolMissing(
                f"{self._runner.where} lacks {', '.join(missing)}: use a container that has them, or name the claim "
                "with pvc instead of a pod, and a helper pod is made."
            )
        fine = re.search(r"\.\d{9} ", values.get("fine", ""))
        inode, boot = values.get("inode", ""), values.get("boot", "")
        return Facts(
            kind=values.get("kind", "missing"),
            readable="readable" in values,
            writable="writable" in values,
            uid=int(values.get("uid") or 0),
            free_bytes=output.free(values.get("bytes", ""), 1024),
            free_inodes=output.free(values.get("inodes", ""), 1),
            volume=f"{boot}:{inode}" if inode and boot else "",
            precision=NANOSECOND if fine else SECOND,
            settable=NANOSECOND if fine and "gnutar" in tools else SECOND,
            tools=tools,
            xattrs="gnuattr" in tools,
        )

    # -- reading ----------------------------------------------------------------------------------

    def _walk(self, script: str, starts: Sequence[bytes], manifest: Manifest) -> Iterator[Row]:
        """The rows of what is below `starts`. A name that vanishes while it is looked at is looked at again."""
        look, unreadable = manifest.look or Look(), manifest.unreadable
        names = _named(starts)
        seen = 0
        for _round in range(WALK_ROUNDS):
            again: list[bytes] = []
            for batch in self._batches(script, names, look):
                seen += len(batch.names)
                if seen > MOST_NAMES or len(unreadable) > MOST_UNREADABLE:
                    raise EndpointError(
                        f"{self.where} shows more than {MOST_NAMES} names, or {MOST_UNREADABLE} that can't be read: "
                        "copy it in parts, with files."
                    )
                try:
                    rows = output.rows(batch)
                except ProtocolError as exc:
                    raise ProtocolError(f"Reading the names below {self.where} broke off: {exc}.") from exc
                if rows is None:
                    again += batch.names
                    continue
                look.add(batch.raw)
                look.changed(max((int(row[CHANGED]) for row in rows), default=0))
                yield from rows
                for name in batch.unreadable:
                    unreadable[output.relative(name)] = "permission denied"
            if not again:
                return
            script, names = scripts.LOOK, again
        for name in names:
            unreadable[output.relative(name)] = "vanishes and comes back while it is read"

    def _batches(
        self, script: str, names: Sequence[bytes], look: Look | None, *arguments: str
    ) -> Iterator[output.Batch]:
        """The answer about `names`: of a walk where there is a `look` to begin, else of digests."""
        process, asked = self._ask(script, names, *(arguments or (scripts.FORMAT,)))
        try:
            stream = self._begun(process)
            if look is not None:
                look.begin(output.clock(stream), self.facts().precision)
            yield from output.batches(stream, with_unreadable=look is not None)
            asked.release()
            process.wait()
            self._refuse_find_errors(process)
        except (ConnectionLost, ProtocolError) as exc:
            raise type(exc)(f"Reading the names below {self.where} broke off: {exc}.") from exc
        finally:
            process.close()

    def _refuse_find_errors(self, process: Process) -> None:
        """A directory that find could not read is a part of the tree that nobody would miss otherwise."""
        harmless = ("No such file or directory", "Permission denied")
        # A name in a message may hold newlines.
        for said in re.findall(
            rb"^find: (?:.(?!^find: |^find-status=))*", process.stderr(), re.DOTALL | re.MULTILINE
        ):
            message = display(said.rstrip(b"\n"))
            if not message.endswith(harmless):
                raise EndpointError(f"{self.where} can't be read whole: {message}.")

    def _read_links(self, manifest: Manifest) -> None:
        for paths in batched(manifest.paths(f"kind = '{SYMLINK}'"), ASKED_AT_ONCE):
            manifest.set_links(self._links(paths))

    def _links(self, paths: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        wanted = set(paths)
        process, names = self._ask(scripts.LINKS, [b"./" + path for path in paths])
        try:
            for name, target in _answers(output.links(self._begun(process)), len(paths)):
                path = output.relative(name)
                if path not in wanted:
                    raise ProtocolError("a link came that was not asked for")
                yield path, target
            names.release()
            process.wait()
        except (ConnectionLost, ProtocolError) as exc:
            raise type(exc)(f"Reading the links below {self.where} broke off: {exc}.") from exc
        finally:
            process.close()

    def _read_xattrs(self, manifest: Manifest) -> None:
        for paths in batched(manifest.paths(f"kind <> '{SYMLINK}'"), ASKED_AT_ONCE):
            manifest.set_xattrs(self._xattrs(paths))

    def _xattrs(self, paths: Sequence[bytes]) -> Iterator[tuple[bytes, Xattrs]]:
        process, names = self._ask(scripts.XATTRS, [b"./" + path for path in paths])
        try:
            for name, found in _answers(dumped(self._begun(process)), len(paths)):
                yield output.relative(name), found
            names.release()
            process.wait()
        except (ConnectionLost, ProtocolError) as exc:
            raise type(exc)(f"Reading the attributes below {self.where} broke off: {exc}.") from exc
        finally:
            process.close()

    def _digests(self, paths: Sequence[bytes], checksum: str, prefix: bytes) -> Iterator[tuple[bytes, str]]:
        if not paths:
            return
        tool = f"{checksum}sum"
        tools = self.facts().tools
        if "openssl" in tools:
            tool = "openssl"
        elif tool not in tools:
            have = sorted(name for name in DIGEST_BYTES if f"{name}sum" in tools)
            raise ToolMissing(
                f"{self._runner.where} has no {tool}: set checksum to one of {', '.join(have)}."
            )
        wanted = set(paths)
        told = 0
        for batch in self._batches(scripts.DIGEST, [prefix + path for path in paths], None, checksum, tool):
            told += len(batch.names)
            if told > len(paths):
                raise ProtocolError(f"{self.where} told digests of more files than it was asked for.")
            for name, digest in output.digests(batch, 2 * DIGEST_BYTES[checksum]):
                path = name.removeprefix(prefix)
                if path in wanted:
                    yield path, digest

    # -- writing ----------------------------------------------------------------------------------

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


def _answers(answers: Iterable[T], most: int) -> Iterator[T]:
    """The answers, of which there can't be more than questions. Raises ProtocolError."""
    for number, answer in enumerate(answers):
        if number >= most:
            raise ProtocolError("more answers came than there were questions")
        yield answer


def _named(starts: Sequence[bytes]) -> list[bytes]:
    return [b"./" + start if start != b"." else b"." for start in starts]


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
