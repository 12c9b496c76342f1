# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Run a command somewhere: the one interface between the engine and the world, and its local form.

The engine knows :class:`Runner` and :class:`Process` only. `_exec` implements them over the API
server's exec WebSocket, :class:`LocalRunner` with a child process, so that everything a pod is asked
to do can be tested against a directory on this machine.
"""

from __future__ import annotations

import math
import os
import selectors
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias, Union

from ._errors import CommandNotFound, ConnectionLost, ExecError, Stalled, silent_for

READ_SIZE = 1 << 18
STDERR_LIMIT = 4 << 20
"""Bytes. A walk over a tree may complain of each directory that it can't enter."""
SAID = 2_000
"""Bytes of what a command said that are quoted."""
CLOSED = -1


Stdin: TypeAlias = Union[Iterable[bytes], int]  # noqa: UP007 -- `|` at run time fails ansible-test's import checks
"""What a command reads: pieces made on demand, or the descriptor of a pipe or socket."""


class Process(Protocol):
    """A started command. One thread drives it: `read()` also feeds the standard input.

    Read until `b""`, then ask `wait()`. Leave early with `close()`, which ends the stream at once.

    `deadline` is when it must have said more, by the monotonic clock: infinite, until whoever asks sets it.
    """

    deadline: float

    def read(self) -> bytes:
        """Next piece of standard output in bytes, `b""` once the output has ended.

        Raises ConnectionLost or Stalled if the stream breaks, Stuck after the deadline, and whatever the `stdin`
        iterable raises.
        """

    def wait(self) -> int:
        """The command's exit status (0..255). Discards output not yet read."""

    def stderr(self) -> bytes:
        """What has come on standard error so far: the last STDERR_LIMIT bytes of it."""

    def close(self) -> None:
        """Give the stream up. Harmless when it has ended, and when called twice."""


class Runner(Protocol):
    """A place that runs commands. Safe to use from several threads at once."""

    @property
    def where(self) -> str:
        """The place in words, for error messages: `pod ns/name, container c` or `this machine`."""

    def start(
        self, argv: Sequence[str], stdin: Stdin | None = None, stdin_size: int | None = None
    ) -> Process:
        """Start `argv` there.

        `stdin` yields what the command reads; its end is the command's end of file. `stdin_size` is the
        total number of bytes that it will yield: without it, a command in a pod may never see the end of
        its input, since version 4 of the exec protocol can't close one direction and needs the input
        bounded by a count. A file descriptor is read only when it has something, and isn't closed. An empty
        piece means that there is nothing yet: the next one is asked for when more output has been read.

        Raises PodNotRunning, ContainerNotFound, CommandNotFound, Forbidden, Unauthorized,
        Unreachable, Throttled or ConnectionLost, at once or from the first `read()`.
        """


def output(runner: Runner, argv: Sequence[str], stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Run `argv` to its end: exit status, standard output, standard error."""
    process = runner.start(
        argv,
        stdin=None if stdin is None else (stdin,),
        stdin_size=None if stdin is None else len(stdin),
    )
    try:
        out = b"".join(chunks(process))
        return process.wait(), out, process.stderr()
    finally:
        process.close()


def chunks(process: Process) -> Iterator[bytes]:
    """The standard output of `process`, piece by piece."""
    while piece := process.read():
        yield piece


def last_words(process: Process) -> str:
    """The end of what a command said on standard error, for people."""
    return process.stderr()[-SAID:].decode("utf-8", "replace").strip()


def is_full(said: bytes) -> bool:
    """Whether a command complained of a full volume on standard error."""
    return any(text in said for text in (b"No space left on device", b"Disk quota exceeded"))


def done(process: Process, *gives_up: str) -> str:
    """Run a command that is fed to its end. Where one of the lines `gives_up` comes, it will never end, and is left.

    Returns that line, which is empty where the command has ended.
    """
    marks, tail = {line: f"\n{line}\n".encode() for line in gives_up}, b""
    longest = max(map(len, marks.values()))
    while piece := process.read():
        tail = (tail + piece)[-longest:]
        for line, mark in marks.items():
            if tail.endswith(mark):
                return line
    process.wait()
    return ""


class LocalRunner:
    """Runs commands as child processes of this one, in `cwd`."""

    def __init__(self, cwd: str | None = None, stall_seconds: float = 300.0) -> None:
        self._cwd = cwd
        self._stall_seconds = stall_seconds

    @property
    def where(self) -> str:
        return "this machine"

    def start(
        self, argv: Sequence[str], stdin: Stdin | None = None, stdin_size: int | None = None
    ) -> LocalProcess:
        try:
            child = subprocess.Popen(
                list(argv),
                cwd=self._cwd,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise CommandNotFound(f"{argv[0]!r} isn't installed on {self.where}: install it.") from exc
        except OSError as exc:
            raise ExecError(f"{argv[0]!r} could not be started on {self.where}: {exc.strerror}.") from exc
        return LocalProcess(child, stdin, self._stall_seconds)


class LocalProcess:
    """A child process whose three pipes are pumped by `read()`."""

    def __init__(self, child: subprocess.Popen[bytes], stdin: Stdin | None, stall_seconds: float) -> None:
        self.deadline = math.inf
        self._spoke = time.monotonic()
        self._child = child
        self._source = stdin if isinstance(stdin, int) else CLOSED
        self._pieces = iter(() if stdin is None or isinstance(stdin, int) else stdin)
        self._pending = memoryview(b"")
        self._stderr = bytearray()
        self._stall_seconds = stall_seconds
        self._selector = selectors.DefaultSelector()
        self._stdin, self._stdout, self._diagnostics = (
            CLOSED if pipe is None else pipe.fileno() for pipe in (child.stdin, child.stdout, child.stderr)
        )
        for pipe in (self._stdin, self._stdout, self._diagnostics):
            if pipe != CLOSED:
                os.set_blocking(pipe, False)
        for pipe in (self._stdout, self._diagnostics):
            self._selector.register(pipe, selectors.EVENT_READ)
        self._await_stdin()

    def read(self) -> bytes:
        stalled = time.monotonic() + self._stall_seconds
        self._await_stdin()
        while self._stdout != CLOSED or self._diagnostics != CLOSED:
            ready = {key.fd for key, _events in self._selector.select(timeout=1.0)}
            if ready or self._source != CLOSED:
                stalled = time.monotonic() + self._stall_seconds
            elif time.monotonic() > stalled:
                raise Stalled(f"A command on this machine was silent for {self._stall_seconds:.0f} s.")
            if self._stdin in ready or self._source in ready:
                self._feed()
            if self._diagnostics in ready:
                self._take_diagnostics()
            if self._stdout in ready and (data := self._take_output()):
                self._spoke = time.monotonic()
                return data
            if time.monotonic() > self.deadline:
                raise silent_for(time.monotonic() - self._spoke)
        return b""

    def wait(self) -> int:
        while self.read():
            pass
        self._end_input()
        try:
            status = self._child.wait(timeout=self._stall_seconds)
        except subprocess.TimeoutExpired as exc:
            raise Stalled("A command on this machine closed its output but did not end.") from exc
        if status < 0:
            raise ConnectionLost(f"A command on this machine was killed by signal {-status}.")
        return status

    def stderr(self) -> bytes:
        return bytes(self._stderr)

    def close(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()
        self._selector.close()

    def _take_output(self) -> bytes:
        data = os.read(self._stdout, READ_SIZE)
        if not data:
            self._selector.unregister(self._stdout)
            self._stdout = CLOSED
        return data

    def _take_diagnostics(self) -> None:
        data = os.read(self._diagnostics, READ_SIZE)
        self._stderr += data
        del self._stderr[:-STDERR_LIMIT]
        if not data:
            self._selector.unregister(self._diagnostics)
            self._diagnostics = CLOSED

    def _await_stdin(self) -> None:
        """Listen for what the next step of feeding needs: room in the pipe, or input from the descriptor."""
        if self._stdin == CLOSED:
            return
        wanted, other = (
            (self._stdin, self._source)
            if self._pending or self._source == CLOSED
            else (self._source, self._stdin)
        )
        watched = self._selector.get_map()
        if other != CLOSED and other in watched:
            self._selector.unregister(other)
        if wanted not in watched:
            self._selector.register(
                wanted, selectors.EVENT_WRITE if wanted == self._stdin else selectors.EVENT_READ
            )

    def _feed(self) -> None:
        try:
            if not self._pending:
                piece = self._next_piece()
                if piece is None:
                    self._end_input()
                    return
                self._pending = memoryview(piece)
                if not piece:
                    self._selector.unregister(self._stdin)
                    return
            if self._source == CLOSED or self._stdin in self._selector.get_map():
                self._pending = self._pending[os.write(self._stdin, self._pending) :]
            self._await_stdin()
        except BlockingIOError:
            self._await_stdin()
        except BrokenPipeError:
            # The command stopped reading; its exit status says why.
            self._end_input()

    def _next_piece(self) -> bytes | None:
        if self._source != CLOSED:
            return os.read(self._source, READ_SIZE) or None
        return next(self._pieces, None)

    def _end_input(self) -> None:
        if self._stdin == CLOSED:
            return
        for descriptor in (self._stdin, self._source):
            if descriptor != CLOSED and descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        self._stdin = self._source = CLOSED
        if self._child.stdin is not None:
            self._child.stdin.close()
