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
    """What became of a run. `seconds` is how long the command took, `after` how much of that the last recap left."""

    status: int
    stdout: str
    stderr: str
    seconds: float
    after: float

    @property
    def warnings(self) -> list[str]:
        lines = self.stderr.replace("\n ", " ").splitlines()
        return [line for line in lines if "kubeferry.pvc.events" in line]


class Going:
    """A run that is going on. Its output goes to files, so that nothing waits for whoever else holds a pipe open."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._started = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    def wait(self) -> Run:
        recap, recaps = None, 0
        while self.process.poll() is None:
            if (count := self._out.read_text(errors="replace").count("PLAY RECAP")) > recaps:
                recap, recaps = time.monotonic(), count
            if time.monotonic() - self._started > 100:
                self.process.kill()
                raise AssertionError("the run did not end: " + self._out.read_text(errors="replace"))
            time.sleep(0.02)
        ended = time.monotonic()
        # Not read as text, which would turn carriage returns into line ends.
        out, err = (path.read_bytes().decode(errors="replace") for path in (self._out, self._err))
        return Run(self.process.returncode, out, err, ended - self._started, ended - (recap or ended))

    def helper(self) -> int:
        """Return the process number of the helper."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                command = stat.with_name("cmdline").read_bytes()
            except OSError:
                continue
            if parent == self.process.pid and b"_helper_main.py" in command:
                return int(stat.parent.name)
        raise AssertionError("there is no helper")


_CORES = pytest.StashKey[dict[str, str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the versions of ansible-core before the first test: that may take longer than a test is given."""
    folder = Path(__file__).parent
    if session.config.option.collectonly or not any(folder in item.path.parents for item in session.items):
        return
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "make_cores.py"], stdout=subprocess.PIPE, text=True, check=True
    )
    session.config.stash[_CORES] = dict(line.split(" ", 1) for line in made.stdout.splitlines())


@pytest.fixture(scope="session")
def cores(pytestconfig: pytest.Config) -> dict[str, str]:
    """Each version's ansible-playbook, or the reason why there is none."""
    return pytestconfig.stash[_CORES]


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
        self.started: list[Going] = []

    def environment(self, url: str | None = None, **extra: str) -> dict[str, str]:
        kept = ("PATH", "HOME", "LANG", "TERM", "USER")
        made = {name: os.environ[name] for name in kept if name in os.environ} | {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "src"),
            "ANSIBLE_CALLBACKS_ENABLED": "kubeferry.pvc.events",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_ASYNC_DIR": str(self.folder / "async"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_RETRY_FILES_ENABLED": "false",
            "KUBEFERRY_EVENTS_SPOOL": str(self.spool),
            "KUBEFERRY_EVENTS_TOKEN": "publish-token",
            "KUBEFERRY_PROGRESS": "never",
        }
        if url:
            made["KUBEFERRY_EVENTS_URL"] = url
        # An empty text takes a variable away.
        return {name: value for name, value in (made | self.settings | extra).items() if value}

    def command(self, playbook: str | Path, *arguments: str, core: str = CURRENT) -> list[str]:
        command = self._cores[core]
        if not command.startswith("/"):
            pytest.skip(command)
        inventory = self.folder / "hosts.ini"
        if not inventory.exists():
            inventory.write_text((DATA / "hosts.ini").read_text())
        return [command, "-i", str(inventory), *arguments, str(DATA / playbook)]

    def start(
        self, playbook: str | Path, *arguments: str, url: str | None = None, core: str = CURRENT, **extra: str
    ) -> Going:
        return Going(
            self.command(playbook, *arguments, core=core), self.folder, self.environment(url, **extra)
        )

    def run(
        self, playbook: str | Path, *arguments: str, url: str | None = None, core: str = CURRENT, **extra: str
    ) -> Run:
        return self.start(playbook, *arguments, url=url, core=core, **extra).wait()

    def written(self, text: str) -> Path:
        """Return a playbook made of a text."""
        path = self.folder / "playbook.yml"
        path.write_text(text)
        return path

    def spooled(self) -> str:
        return "".join(path.read_text() for path in sorted(self.spool.rglob("*.jsonl")))


@pytest.fixture
def playbooks(tmp_path: Path, cores: dict[str, str]) -> Iterator[Playbooks]:
    made = Playbooks(tmp_path, cores)
    yield made
    for going in made.started:
        going.process.kill()
        going.process.wait()


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
