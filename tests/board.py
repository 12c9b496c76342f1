# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Commands that run beside each other, some at a time, each as soon as it may."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, eq=False)
class Job:
    """A command. `name` is like no other's.

    `after` names the job that has to end before it, `alone` what just one job at a time may have.
    """

    name: str
    argv: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    after: str = ""
    alone: str = ""


class Board:
    """Runs jobs, in their order as far as they allow it; `told` is called at the end of each, one at a time.

    `told` gets the job, its exit status, and the file with what it printed.
    """

    def __init__(
        self, jobs: Sequence[Job], place: Path, told: Callable[[Job, int, Path], None], at_once: int
    ) -> None:
        self._waiting = list(jobs)
        self._running: dict[Job, subprocess.Popen[bytes] | None] = {}
        self._place = place
        self._told = told
        self._changed = threading.Condition()
        self._telling = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _each in range(at_once)]

    def work(self) -> None:
        """Run them all. However this ends, nothing goes on."""
        for thread in self._threads:
            thread.start()
        try:
            for thread in self._threads:
                thread.join()
        finally:
            with self._changed:
                self._waiting.clear()
                for process in filter(None, self._running.values()):
                    process.send_signal(signal.SIGINT)
                self._changed.notify_all()
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        while job := self._take():
            try:
                self._run(job)
            finally:
                with self._changed:
                    del self._running[job]
                    self._changed.notify_all()

    def _take(self) -> Job | None:
        """The next job that may run now, or None when there is nothing left to wait for."""
        with self._changed:
            while self._waiting:
                ready = next(filter(self._may_run, self._waiting), None)
                if ready:
                    self._waiting.remove(ready)
                    self._running[ready] = None
                    return ready
                self._changed.wait()
            return None

    def _may_run(self, job: Job) -> bool:
        unfinished = {other.name for other in (*self._running, *self._waiting)}
        taken = {other.alone for other in self._running} - {""}
        return job.after not in unfinished and job.alone not in taken

    def _run(self, job: Job) -> None:
        output = self._place / job.name
        with output.open("wb") as out:
            process = subprocess.Popen(
                job.argv,
                env={**os.environ, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            with self._changed:
                self._running[job] = process
            status = process.wait()
        with self._telling:
            self._told(job, status, output)
