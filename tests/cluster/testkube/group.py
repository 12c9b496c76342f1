# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A group of services under one supervisor, seen from the host: the control plane, or a node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from . import supervisor
from .errors import ClusterError
from .proc import children, run, start_time, wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Service:
    """One long-running process. A changed value means: restart it."""

    name: str
    argv: list[str]
    log: str
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH, "HOME": "/"})
    nonce: str = ""  # a digest of its configuration files
    bounce: int = 0  # how often it was restarted on request


@dataclass(frozen=True)
class Group:
    """The supervisor kept in ``directory`` and what runs under it.

    ``own_network`` gives it a network namespace and a host name of its own: a node, not the control plane.
    """

    directory: Path
    own_network: bool = False

    @property
    def log(self) -> Path:
        """What the supervisor itself has to say."""
        return self.directory / "supervisor.log"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self.directory / name).read_text())
        except (OSError, ValueError):
            return {}
        return value

    def _write(self, name: str, value: dict[str, Any]) -> None:
        draft = self.directory / f"{name}.new"
        draft.write_text(json.dumps(value, indent=1))
        draft.replace(self.directory / name)

    @property
    def pid(self) -> int | None:
        """The supervisor's pid as the host sees it, if it is the very process that was started."""
        known = self._read("pid.json")
        if known and start_time(known["inner"]) == known["inner_start"]:
            return int(known["inner"])
        return None

    def services(self) -> dict[str, Any]:
        """Name to state of every service, as the supervisor last said; empty if it does not run."""
        services: dict[str, Any] = self._read("actual.json").get("services", {}) if self.pid else {}
        return services

    def host_pid(self, pid: int) -> int | None:
        """The host's number for process ``pid`` of the group's pid namespace."""
        for candidate in children(self.pid or 0):
            status = Path(f"/proc/{candidate}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if int(numbers[-1]) == pid:
                return candidate
        return None

    def desired(self) -> list[Service]:
        """What was asked for last."""
        return [Service(**spec) for spec in self._read("desired.json").get("services", [])]

    def launch(self, setup: Sequence[Sequence[str]] = ()) -> None:
        """Start the supervisor with no services yet; ``setup`` runs first, inside its namespaces."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "actual.json").unlink(missing_ok=True)
        self._write("desired.json", {"setup": [list(a) for a in setup], "services": []})
        namespaces = ["--pid", "--mount-proc", "--fork", "--kill-child=KILL"]
        if self.own_network:
            namespaces += ["--net", "--uts", "--ipc"]
        program = [sys.executable, "-IS", supervisor.__file__, str(self.directory)]
        with self.log.open("a") as log:
            outer = subprocess.Popen(
                ["unshare", *namespaces, "--", *program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={"PATH": PATH, "HOME": "/"},
            )
        wait_until("a supervisor to start", lambda: bool(children(outer.pid)) or outer.poll() is not None, 10)
        inner = next(iter(children(outer.pid)), None)
        if inner is None:
            raise ClusterError("A supervisor ended as soon as it started.", self.log)
        self._write("pid.json", {"inner": inner, "inner_start": start_time(inner)})
        wait_until(
            "a supervisor to be ready",
            lambda: bool(self._read("actual.json")) or outer.poll() is not None,
            15,
            log=self.log,
        )
        if error := self._read("actual.json").get("error"):
            raise ClusterError(f"A supervisor could not prepare its namespaces: {error}", self.log)

    def apply(self, services: Sequence[Service]) -> None:
        """Make exactly ``services`` run; one that is already running as described is left alone."""
        bounces = {s.name: s.bounce for s in self.desired()}
        services = [replace(s, bounce=max(s.bounce, bounces.get(s.name, 0))) for s in services]
        pid = self.pid
        if pid is None:
            raise ClusterError(f"The supervisor in {self.directory} is not running.", self.log)
        desired = self._read("desired.json")
        self._write("desired.json", {**desired, "services": [asdict(s) for s in services]})
        os.kill(pid, signal.SIGHUP)

        def settled() -> bool:
            actual = self._read("actual.json")
            specs = {name: state["spec"] for name, state in actual.get("services", {}).items()}
            return not actual.get("stopping") and specs == {s.name: asdict(s) for s in services}

        wait_until("services to be started and stopped", settled, 30, log=self.log)

    def restart(self, name: str) -> None:
        """Stop one service and start it again."""
        self.apply([replace(s, bounce=s.bounce + 1) if s.name == name else s for s in self.desired()])

    def fault(self, services: Sequence[Service]) -> str | None:
        """In which way what runs is not exactly ``services``; None if it is."""
        if self.pid is None:
            return f"{self.directory.name} is not running"
        actual = self.services()
        for service in services:
            state = actual.pop(service.name, None)
            if state is None or state["pid"] is None:
                return f"{service.name} is not running"
            if {**state["spec"], "bounce": 0} != asdict(replace(service, bounce=0)):
                return f"{service.name} runs with an old configuration"
        return f"{min(actual)} should not run" if actual else None

    def enter(self, *argv: str | os.PathLike[str], timeout: float = 60, check: bool = True) -> str:
        """Run ``argv`` inside the group's namespaces (network and mounts) and return its output."""
        pid = self.pid
        if pid is None:
            raise ClusterError(f"The supervisor in {self.directory} is not running.", self.log)
        inside = ["nsenter", "-t", str(pid), "-m"] + (["-n"] if self.own_network else [])
        return run([*inside, "--", *argv], timeout=timeout, check=check).stdout


def kill_all(state: Path) -> None:
    """Kill every supervisor of the cluster in ``state``; the kernel kills all that runs under them.

    They are recognised by their exact arguments, so those whose files have been deleted are found as well.
    """
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        except OSError:
            continue
        # not the unshare that started it: the kernel ends one with the other
        if len(argv) != 4 or argv[1] != b"-IS" or not argv[2].endswith(b"/testkube/supervisor.py"):
            continue
        started = start_time(pid)
        if Path(os.fsdecode(argv[3])).parent == state and started is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until("a supervisor to die", partial(_is_gone, pid, started), 30)


def _is_gone(pid: int, started: int) -> bool:
    return start_time(pid) != started
