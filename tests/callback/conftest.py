# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Real runs of ansible-playbook with the callback, against a server that records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from .recorder import Recorder

ROOT = Path(__file__).parent.parent.parent
DATA = Path(__file__).parent / "data"
SCHEMA = ROOT / "roles/event_server/files/kubeferry_events/schema/events-v1.schema.json"
CURRENT = "2.19"


@dataclass
class Run:
    """What became of a run. `seconds` is how long the command took."""

    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def warnings(self) -> list[str]:
        lines = self.stderr.replace("\n ", " ").splitlines()
        return [line for line in lines if "kubeferry.pvc.events" in line]


@pytest.fixture(scope="session")
def cores() -> dict[str, str]:
    """Each version's ansible-playbook, or the reason why there is none."""
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "make_cores.py"], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in made.stdout.splitlines())


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder().start()
    yield server
    server.stop()


class Playbooks:
    """Starts ansible-playbook as a user would, with nothing of the caller's Ansible settings."""

    def __init__(self, folder: Path, cores: dict[str, str]) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self._cores = cores
        self.settings: dict[str, str] = {}

    def environment(self, url: str | None = None, **extra: str) -> dict[str, str]:
        kept = ("PATH", "HOME", "LANG", "TERM", "USER")
        made = {name: os.environ[name] for name in kept if name in os.environ} | {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "src"),
            "ANSIBLE_CALLBACKS_ENABLED": "kubeferry.pvc.events",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_RETRY_FILES_ENABLED": "false",
            "KUBEFERRY_EVENTS_SPOOL": str(self.spool),
            "KUBEFERRY_EVENTS_TOKEN": "publish-token",
            "KUBEFERRY_PROGRESS": "never",
        }
        if url:
            made["KUBEFERRY_EVENTS_URL"] = url
        return made | self.settings | extra

    def command(self, playbook: str | Path, *arguments: str, core: str = CURRENT) -> list[str]:
        command = self._cores[core]
        if not command.startswith("/"):
            pytest.skip(command)
        inventory = self.folder / "hosts.ini"
        if not inventory.exists():
            inventory.write_text((DATA / "hosts.ini").read_text())
        return [command, "-i", str(inventory), *arguments, str(DATA / playbook)]

    def run(
        self, playbook: str | Path, *arguments: str, url: str | None = None, core: str = CURRENT, **extra: str
    ) -> Run:
        started = time.monotonic()
        done = subprocess.run(
            self.command(playbook, *arguments, core=core),
            cwd=self.folder,
            env=self.environment(url, **extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def written(self, text: str) -> Path:
        """Return a playbook made of a text."""
        path = self.folder / "playbook.yml"
        path.write_text(text)
        return path

    def spooled(self) -> str:
        return "".join(path.read_text() for path in sorted(self.spool.rglob("*.jsonl")))


@pytest.fixture
def playbooks(tmp_path: Path, cores: dict[str, str]) -> Playbooks:
    return Playbooks(tmp_path, cores)


@pytest.fixture(scope="session")
def check_schema() -> Callable[[list[dict[str, object]]], None]:
    whole = json.loads(SCHEMA.read_text())
    by_type = {
        name.removeprefix("event."): jsonschema.Draft7Validator(
            {"$ref": f"#/definitions/{name}", "definitions": whole["definitions"]}
        )
        for name in whole["definitions"]
        if name.startswith("event.")
    }

    def check(events: list[dict[str, object]]) -> None:
        for event in events:
            kind = str(event["type"]).removeprefix("kubeferry.v1.")
            by_type[kind if kind in by_type else kind.partition(".")[0]].validate(event)

    return check
