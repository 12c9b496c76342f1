# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What asking a script of `_scripts` and `_pieces_scripts` has in common: what it reads, and how its answer begins."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from ._errors import ConnectionLost, EndpointError, ExecError, ProtocolError, Stuck, broke_off
from ._names import shown
from ._runner import Process, Runner, done, is_full, last_words
from ._scripts import BROKEN, FAILED, NO_DIRECTORY
from ._tar import ByteStream

T = TypeVar("T")

BANNER_LIMIT = 1 << 16
ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that is taken whole."""
ANSWER_SECONDS = 300.0
"""How long a command may take for what is next to nothing to do, as to begin. On a busy machine it takes seconds."""
SILENT_SECONDS = 3600.0
"""How long a command that reads may say nothing, and a second more for each name that it is asked about."""


class Question:
    """Data as standard input, and then, once all output has arrived, the line that lets the script end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._released = False

    def __len__(self) -> int:
        return len(self._data)

    @property
    def names(self) -> int:
        """How many names end in it."""
        return self._data.count(b"\0")

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces()
        while not self._released:
            yield b""
        yield b"\n"

    def pieces(self) -> Iterator[bytes]:
        """The data; an empty piece where there is nothing to be said yet."""
        yield self._data

    def release(self) -> None:
        self._released = True


class _Answer:
    """What a command says. `patience` is the seconds within which each piece must come once it is wanted.

    Until that is set, the deadline is that of the beginning.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self.patience: float | None = None
        process.deadline = time.monotonic() + ANSWER_SECONDS

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._next():
            yield piece

    def _next(self) -> bytes:
        if self.patience is not None:
            self._process.deadline = time.monotonic() + self.patience
        return self._process.read()


def begun(process: Process, mark: str, where: str, patience: float | None) -> ByteStream:
    """The script's output after its mark, which must come soon. Raises Stuck when it, or what follows, doesn't.

    `patience` is for what follows, in seconds for each piece; None where all of it must come soon. Raises EndpointError
    when the script couldn't enter the directory.
    """
    answer = _Answer(process)
    stream = ByteStream(answer)
    try:
        stream.until(mark.encode() + b"\n", BANNER_LIMIT)
    except ConnectionLost as exc:
        status, said = process.wait(), last_words(process)
        if status == NO_DIRECTORY:
            raise EndpointError(f"{where} can't be entered: {said}.") from exc
        # A server that lost all of the output says that it went well.
        kind = ExecError if status or said else ConnectionLost
        raise kind(f"{where} gave no answer (exit status {status}): {said or 'it said nothing'}.") from exc
    answer.patience = patience
    return stream


def full(where: str) -> EndpointError:
    return EndpointError(f"{where} is full: make room there, of inodes too, and run again.")


@dataclass(frozen=True)
class Asker:
    """Runs scripts in one directory at an endpoint. `mark` is what they print before all else."""

    runner: Runner
    path: str
    mark: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def where(self) -> str:
        return f"{shown(self.path)} in {self.runner.where}"

    def argv(self, script: str, *arguments: str) -> list[str]:
        return ["sh", "-c", script, "sh", self.path, self.mark, *arguments]

    def ask(self, script: str, names: Iterable[bytes], *arguments: str) -> tuple[Process, Question]:
        """Start a script that tells something about `names`, and stays until they are released."""
        asked = Question(b"".join(name + b"\0" for name in names))
        return self.runner.start(self.argv(script, str(len(asked)), *arguments), asked), asked

    @contextmanager
    def told(
        self, process: Process, asked: Question, doing: str, patience: float | None = None
    ) -> Iterator[ByteStream]:
        """What a script says that stays until all of it has arrived; at the end of the block it is let go.

        `doing` begins the sentence of the error for a stream that breaks off, makes no sense or comes to a stop.
        `patience` is for how many seconds it may say nothing, by default as many as SILENT_SECONDS says.
        """
        if patience is None:
            patience = SILENT_SECONDS + asked.names
        try:
            yield begun(process, self.mark, self.where, patience)
            asked.release()
            process.deadline = time.monotonic() + ANSWER_SECONDS
            process.wait()
        except Stuck as exc:
            raise self._stopped(doing, exc) from exc
        except (ConnectionLost, ProtocolError) as exc:
            raise broke_off(exc, f"{doing} {self.where}") from exc
        finally:
            process.close()

    def begun(self, process: Process) -> ByteStream:
        """What a script says that may be silent for as long as it likes once it has begun."""
        try:
            return begun(process, self.mark, self.where, math.inf)
        except Stuck as exc:
            raise self._stopped("Starting to work in", exc) from exc

    def _stopped(self, doing: str, exc: Stuck) -> Stuck:
        return Stuck(f"{doing} {self.where} came to a stop: {exc}")

    def run(self, script: str, *arguments: str, patience: float | None = None) -> bytes:
        """All that a script without input prints, which must come soon.

        With `patience` that is what has come when the script was silent for so many seconds. Raises ProtocolError where
        it is more than ANSWER_LIMIT, and Stuck where it takes more than ANSWER_SECONDS.
        """
        process = self.runner.start(self.argv(script, *arguments))
        try:
            stream = begun(process, self.mark, self.where, patience)
            return stream.rest(ANSWER_LIMIT, waits=patience is None)
        except Stuck as exc:
            raise self._stopped("Asking about", exc) from exc
        except ProtocolError as exc:
            raise ProtocolError(
                f"What {self.where} answered is no answer: {exc}. Check the tools of its container."
            ) from exc
        finally:
            process.close()

    def feed(
        self, script: str, stdin: Iterable[bytes], size: int, *arguments: str, soon: bool = False
    ) -> None:
        """Run a script with `size` bytes of input to its end. The exit status proves nothing: the next scan does.

        Raises EndpointError if the volume is full, ConnectionLost if a command was killed, and Stuck where it is to end
        `soon` and doesn't.
        """
        process = self.runner.start(self.argv(script, *arguments), stdin, size)
        process.deadline = time.monotonic() + (ANSWER_SECONDS if soon else math.inf)
        try:
            ended = done(process, FAILED, BROKEN)
            if is_full(process.stderr()):
                raise full(self.where)
            if ended == BROKEN:
                raise ConnectionLost(f"A command that wrote to {self.where} was killed, or its input cut.")
        except Stuck as exc:
            raise self._stopped("Writing below", exc) from exc
        finally:
            process.close()


def answers(told: Iterable[T], most: int) -> Iterator[T]:
    """What is told, of which there can't be more than was asked about. Raises ProtocolError."""
    for number, answer in enumerate(told):
        if number >= most:
            raise ProtocolError("more answers came than there were questions")
        yield answer
