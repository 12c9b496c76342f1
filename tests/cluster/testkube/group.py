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
from dataclasses import asdict, dataclass, field
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
    nonce: str = ""  # a digest of its configuration files, or anything else that should restart it


@dataclass(frozen=True)
class Group:
    """The supervisor kept in ``directory`` and what runs under it.

    ``own_network`` gives it a network namespace and a host name of its own: a node, rather than the control plane.
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

    def desired(self) -> list[Service]:
        """What was asked for last."""
        return [Service(**spec) for spec in self._read("desired.json").get("services", [])]

    def launch(self, setup: Sequence[Sequence[str]] = ()) -> None:
        """Start the supervisor with no services yet; ``setup`` runs first, inside its namespaces."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "actual.json").unlink(missing_ok=True)
        self._write("desired.json", {"generation": 0, "setup": [list(a) for a in setup], "services": []})
        namespaces = ["--pid", "--mount-proc", "--fork", "--kill-child=KILL"]
        if self.own_network:
            namespaces += ["--net", "--uts", "--ipc"]
        with self.log.open("a") as log:
            outer = subprocess.Popen(
                ["unshare", *namespaces, "--", sys.executable, "-IS", supervisor.__file__, str(self.directory)],
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
        pid = self.pid
        if pid is None:
            raise ClusterError(f"The supervisor in {self.directory} is not running.", self.log)
        desired = self._read("desired.json")
        generation = desired["generation"] + 1
        self._write("desired.json", {**desired, "generation": generation, "services": [asdict(s) for s in services]})
        os.kill(pid, signal.SIGHUP)

        def settled() -> bool:
            actual = self._read("actual.json")
            same = {name: s["spec"] for name, s in actual["services"].items()}
            return (
                actual["generation"] >= generation
                and not actual["stopping"]
                and same == {s.name: asdict(s) for s in services}
            )

        wait_until("services to be started and stopped", settled, 30, log=self.log)

    def enter(self, *argv: str | os.PathLike[str], timeout: float = 60, check: bool = True) -> str:
        """Run ``argv`` inside the group's namespaces (network and mounts) and return its output."""
        pid = self.pid
        if pid is None:
            raise ClusterError(f"The supervisor in {self.directory} is not running.", self.log)
        inside = ["nsenter", "-t", str(pid), "-m"] + (["-n"] if self.own_network else [])
        return run([*inside, "--", *argv], timeout=timeout, check=check).stdout

    def stop(self) -> None:
        """End the supervisor and, with it, everything that runs under it."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        try:
            wait_until("services to stop", lambda: self.pid is None, 2 * supervisor.STOP_GRACE)
        except ClusterError:
            os.kill(pid, signal.SIGKILL)
            wait_until("the supervisor to die", lambda: self.pid is None, 10, log=self.log)
