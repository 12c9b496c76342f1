# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The first process of a group of services: starts them, restarts what dies, and takes all with it.

Run as a script, as process 1 of its own pid namespace: when it ends, for whatever reason, the kernel ends every
process it ever started, down to the last container, and the mounts and interfaces of its namespaces go too.
It needs no socket: it reads ``desired.json`` when it gets SIGHUP and says how things are in ``actual.json``.
It imports the standard library only, and all of it at the start, because its mount namespace may later hide
the interpreter's files.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESTART_DELAY = 1.0  # seconds; a service that cannot start must not spin
STOP_GRACE = 5.0  # seconds from SIGTERM to SIGKILL
WATCHED = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT}


@dataclass
class Running:
    """One service: what it should be, and the process that it is now (None between restarts)."""

    spec: dict[str, Any]
    pid: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    start_after: float = 0.0
    stopping_since: float | None = None


@dataclass
class Supervisor:
    """Holds the services named in ``directory/desired.json``."""

    directory: Path
    services: dict[str, Running] = field(default_factory=dict)
    leaving: bool = False

    def run(self) -> int:
        """Serve until SIGTERM."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        desired = self._read()
        for argv in desired.get("setup", []):
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                self._say(f"{' '.join(argv)}: {done.stderr.strip()}")
                return 1
        self._reconcile(desired)
        while not (self.leaving and not any(s.pid for s in self.services.values())):
            self._step()
            self._say()
            if not (self.directory / "desired.json").exists():
                return 0  # somebody deleted the cluster's files: there is nothing left to run for
            got = signal.sigtimedwait(WATCHED, 0.5)
            if got and got.si_signo == signal.SIGHUP:
                self._reconcile(self._read())
            elif got and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                self.leaving = True
        return 0

    def _read(self) -> dict[str, Any]:
        desired: dict[str, Any] = json.loads((self.directory / "desired.json").read_text())
        return desired

    def _reconcile(self, desired: dict[str, Any]) -> None:
        wanted = {spec["name"]: spec for spec in desired["services"]}
        for name, service in self.services.items():
            if wanted.get(name) != service.spec and service.stopping_since is None:
                self._signal(service, signal.SIGTERM)
                service.stopping_since = time.monotonic()
        for name, spec in wanted.items():
            if name not in self.services:
                self.services[name] = Running(spec)

    def _step(self) -> None:
        """Reap, kill what does not stop, forget what was stopped, start what is due."""
        self._reap()
        now = time.monotonic()
        for name, service in list(self.services.items()):
            if self.leaving and service.stopping_since is None:
                self._signal(service, signal.SIGTERM)
                service.stopping_since = now
            if service.stopping_since is not None:
                if service.pid is None:
                    del self.services[name]
                    if not self.leaving:
                        self._reconcile(self._read())
                elif now - service.stopping_since > STOP_GRACE:
                    self._signal(service, signal.SIGKILL)
        for service in self.services.values():
            if service.pid is None and not self.leaving and now >= service.start_after:
                self._start(service)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service.pid == pid:
                    self._signal(service, signal.SIGKILL)  # what it left of its process group
                    service.pid = None
                    service.last_exit = os.waitstatus_to_exitcode(status)
                    service.restarts += 1
                    service.start_after = time.monotonic() + RESTART_DELAY

    def _start(self, service: Running) -> None:
        spec = service.spec
        log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open("/dev/null", os.O_RDONLY)
        try:
            service.pid = os.posix_spawnp(
                spec["argv"][0],
                spec["argv"],
                spec["env"],
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((null, 0), (log, 1), (log, 2))],
                setsigmask=[],
                setsid=True,
            )
        except OSError as error:
            os.write(log, f"{spec['argv'][0]}: {error.strerror}\n".encode())
            service.start_after = time.monotonic() + RESTART_DELAY
        finally:
            os.close(log)
            os.close(null)

    @staticmethod
    def _signal(service: Running, number: int) -> None:
        if service.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(service.pid, number)

    def _say(self, error: str | None = None) -> None:
        """Publish the state, whole or not at all."""
        actual = {
            "error": error,
            "services": {
                name: {"pid": s.pid, "restarts": s.restarts, "last_exit": s.last_exit, "spec": s.spec}
                for name, s in self.services.items()
                if s.stopping_since is None
            },
            "stopping": [name for name, s in self.services.items() if s.stopping_since is not None],
        }
        text = json.dumps(actual, indent=1)
        target = self.directory / "actual.json"
        with contextlib.suppress(OSError):
            if target.read_text() == text:
                return
        draft = self.directory / "actual.json.new"
        with contextlib.suppress(FileNotFoundError):
            draft.write_text(text)
            draft.replace(target)


if __name__ == "__main__":
    sys.exit(Supervisor(Path(sys.argv[1])).run())
