# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The process beside a playbook that delivers its events and shows its progress.

It reads the callback's lines from its standard input, which ends with the playbook, however that ends; it hears the
modules on a unix socket; a thread of its own talks to the server. What it has to say to the user it writes to standard
output, where the callback finds it, and the progress line to standard error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import shutil
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ._event_line import LEARN, LOST, envelope, event_line
from ._helper_process import REST
from ._leftovers import Leftovers
from ._meter import Meter
from ._progress_line import ProgressLine
from ._progress_socket import ProgressSocket
from ._redact import Redactor
from ._session import Server, Session
from ._spool import HAS_MEMORY, SUFFIX, Spool, make_folder

TICK = 0.05
IDLE_TICK = 0.5
NAP = 0.05
# The server is not there after so long: tell the user.
PATIENCE_SECONDS = 3.0
# How long a run's end waits for events to be delivered, and for a server that says nothing.
DRAIN_SECONDS = 1.4
STUCK_SECONDS = 0.6
# A connection that isn't made after so long is not waited for any more at a run's end.
HANDSHAKE_SECONDS = 1.0
_NEXT_RUN = "for the next run that publishes to this URL"
_EACH_ITS_OWN = "give every run a KUBEFERRY_RUN of its own, or none"


class Helper:
    """One run's helper. `settings` is the callback's first line."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._run = str(settings.get("run") or uuid.uuid4())
        # Whether the user chose that number; another run may have it then.
        self._chosen = bool(settings.get("run_chosen"))
        self._playbook = int(settings.get("pid") or os.getppid())
        self._redactor = Redactor(settings.get("redact_keys") or (), settings.get("redact_values") or ())
        self._line = ProgressLine(2, bool(settings.get("force_line")))
        self._line.enabled = self._line.enabled and bool(settings.get("line"))
        self._meter = Meter(self._redactor)
        self._progress_events = 0
        self._session: Session | None = None
        self._spool: Spool | None = None
        self._warned = self._told_refusal = self._told_memory = False
        self._selector = selectors.DefaultSelector()
        self._socket: ProgressSocket | None = None
        self._private = Path(str(settings["place"])) if settings.get("place") else None
        if settings.get("socket") is not None:
            self._socket = ProgressSocket(int(settings["socket"]))
            self._selector.register(self._socket.socket, selectors.EVENT_READ)
        if settings.get("url"):
            self._connect(settings)

    def _connect(self, settings: dict[str, Any]) -> None:
        self._place = place(str(settings["url"]))
        server = Server(
            str(settings["url"]),
            str(settings.get("token") or ""),
            settings.get("ca"),
            bool(settings.get("verify")),
        )
        limit = int(settings.get("spool_bytes") or 0)
        named = hashlib.sha256(server.url.encode()).hexdigest()[:16]
        self._folder = Path(str(settings["spool"])) / named
        try:
            self._spool = self._opened(limit // 2)
            self._session = Session(server, self._spool, Leftovers(self._folder, limit // 2))
        except BlockingIOError:
            self._warn(
                f"a run {self._run} is going on already, so this one is not published: {_EACH_ITS_OWN}"
            )
        except OSError as error:
            self._warn(f"cannot keep events in {self._folder} ({error.strerror}), so none are sent")
        else:
            self._session.start()

    def _opened(self, limit: int) -> Spool:
        """Return the run's spool, in memory where there can't be a file. Raises OSError."""
        path = self._folder / f"{self._run}{SUFFIX}"
        try:
            make_folder(self._folder)
            return Spool(path, limit)
        except BlockingIOError:
            raise
        except OSError as error:
            if not HAS_MEMORY:
                raise
            spool = Spool.without_disk(path, limit)
            self._tell_memory(f"{self._folder} ({error.strerror})")
            return spool

    def _warn(self, text: str, again: bool = False) -> None:
        if again or not self._warned:
            self._warned = True
            os.write(1, f"{text}\n".encode(errors="replace"))

    def work(self) -> None:
        """Read until the playbook ends its side of the pipe, or is gone."""
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ)
        rest = b""
        while True:
            # Who writes into a pipe that nobody is waiting at has nobody to wake, and that is most of what an event
            # would cost the playbook.
            time.sleep(NAP)
            tick = TICK if self._meter.copies else IDLE_TICK
            ready = {key.fd for key, _mask in self._selector.select(tick)}
            if 0 in ready:
                try:
                    chunk = os.read(0, 1_048_576)
                except BlockingIOError:
                    continue
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                self._take(lines)
            if self._socket is not None and self._socket.socket.fileno() in ready:
                self._hear(self._socket)
            self._tell()
            if not ready and os.getppid() != self._playbook:
                break
        # What follows the last line end is a line that a killed playbook did not finish.
        self._take((rest + self._overflow()).split(b"\n")[:-1])
        self._finish()

    def _overflow(self) -> bytes:
        """Return what the callback could not write into the pipe before it ended."""
        if self._private is None:
            return b""
        try:
            return (self._private / REST).read_bytes()
        except OSError:
            return b""  # as a rule it could write everything

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"["):
                word, *given = json.loads(line)
                self._obey(word, given[0] if given else 0)
            elif line.startswith(b"{") and self._spool is not None:
                self._spool.append(line + b"\n")
        if self._session is not None:
            self._session.wake()

    def _obey(self, word: str, given: str | int) -> None:
        if word == LEARN:
            self._redactor.learn(given)
        elif word == LOST and self._spool is not None:
            self._spool.lost(int(given))

    def _hear(self, progress: ProgressSocket) -> None:
        for _datagram in range(1_000):
            received = progress.receive(self._playbook)
            if received is None:
                return
            said, sender = received
            if said:
                self._meter.hear(said, sender, time.monotonic())

    def _tell(self, everything: bool = False) -> None:
        now = time.monotonic()
        due = self._meter.due(now, everything)
        if self._session is not None and self._spool is not None:
            if self._spool.disputed:
                self._warn(self._disputed())
            self._tell_refusal(self._session)
            if self._spool.in_memory:
                self._tell_memory(f"{self._folder}, where the disk is full")
            for key, data in due:
                line = event_line("progress", data, self._redactor)
                self._progress_events += 1
                self._session.progress(
                    key, envelope(self._run, self._spool.last, line, self._progress_events)
                )
            problem = self._session.problem
            if problem and not self._session.connected and now - self._session.parted > PATIENCE_SECONDS:
                kept = (
                    f"kept in {self._folder} and sent when the server answers, in this run or in the next one that "
                    "publishes to this URL"
                )
                if self._spool.in_memory:
                    kept = "sent when the server answers before it ends"
                self._warn(f"{self._place}: {problem}. The run goes on; its events are {kept}")
        if due and self._line.enabled:
            self._line.show([json.loads(self._shown(copy.data)) for copy in self._meter.copies.values()])

    def _tell_memory(self, where: str) -> None:
        if not self._told_memory:
            self._told_memory = True
            self._warn(
                f"cannot keep events in {where}: until the server has them they are in memory", again=True
            )

    def _tell_refusal(self, session: Session) -> None:
        if session.refusal and not self._told_refusal:
            self._told_refusal = True
            self._warn(
                f"{self._place}: {session.refusal}. A gap stands for every such event there, and the run goes on",
                again=True,
            )

    def _shown(self, data: dict[str, Any]) -> str:
        """Return progress as JSON without secrets; the line on the terminal may be in a log."""
        encoded = json.dumps(data)
        return json.dumps(self._redactor.scrub(data)) if self._redactor.suspects(encoded) else encoded

    def _finish(self) -> None:
        self._tell(everything=True)
        self._line.erase()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
        if self._session is None or self._spool is None:
            return
        self._spool.finish("interrupted")
        self._session.end()
        self._drain(self._session)
        self._tell_refusal(self._session)
        if self._spool.disputed:
            self._warn(self._disputed())
            if self._chosen:
                with contextlib.suppress(OSError):
                    self._spool.set_aside()
        elif left := self._spool.undelivered:
            why = self._session.problem or "no answer"
            self._warn(
                f"{self._place}: {why}. {left} events were not delivered; {self._left(self._spool)}",
                again=self._spool.in_memory,
            )
        elif self._spool.delivered:
            self._spool.close()

    def _left(self, spool: Spool) -> str:
        """Say where the events are that were not delivered."""
        lost = spool.unkept
        if not lost:
            return f"the events are kept in {self._folder} {_NEXT_RUN}"
        if lost == spool.undelivered:
            return "they are lost, since they were in memory alone"
        return f"{lost} of them are lost, the others are kept in {self._folder} {_NEXT_RUN}"

    def _disputed(self) -> str:
        said = f"{self._place}: it acknowledges events of run {self._run} that it was not sent, so it gets no more"
        if self._chosen:
            said = f"{said}. If there is such a run already, {_EACH_ITS_OWN}"
        return f"{said}{self._kept}"

    @property
    def _kept(self) -> str:
        return (
            "" if self._spool is None or self._spool.in_memory else f"; the events are kept in {self._folder}"
        )

    def _drain(self, session: Session) -> None:
        """Wait for what is left to be delivered, as long as there is hope."""
        ended, attempts = time.monotonic(), session.attempts
        while not session.done and (waited := time.monotonic() - ended) < DRAIN_SECONDS:
            if session.connected:
                if waited > STUCK_SECONDS and time.monotonic() - session.moved > STUCK_SECONDS:
                    return
            elif session.attempts > attempts or _hangs(session):
                return
            time.sleep(0.005)
        # What the server refused it says right after the acknowledgement.
        time.sleep(0.005)


def _hangs(session: Session) -> bool:
    """Whether a connection is waited for that most likely won't come."""
    began = session.trying
    return began is not None and time.monotonic() - began > HANDSHAKE_SECONDS


def place(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{address}{parts.path}"


def main() -> None:
    settings = b""
    while not settings.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return
        settings += byte
    Helper(json.loads(settings)).work()
    # The session's thread may be stuck in a connection; nothing of it has to be tidied.
    os._exit(0)
