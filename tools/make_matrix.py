# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Environments of each ansible-core, Python and Kubernetes client that the collection supports.

`COMBINATIONS` names them all and `OLDEST` the oldest of everything, which nothing else tests; `make` makes one in
.cache/matrix, or does nothing where it is up to date.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from make_cores import CONSTRAINTS, NotHere, pythons
from make_venv import CACHE, INSTALL, ROOT

# Which Pythons run a version of ansible-core on the controller, among those that the collection supports.
CORES = {
    "2.19": ("3.11", "3.12", "3.13"),
    "2.20": ("3.12", "3.13"),
    "2.21": ("3.12", "3.13"),
}
CLIENT = ("kubernetes", "websocket-client")


@dataclass(frozen=True)
class Combination:
    """`client` is `oldest`, the lowest versions that meta/ee-requirements.txt allows, or `newest`, the pinned ones."""

    core: str
    python: str
    client: str

    def __str__(self) -> str:
        return f"core-{self.core}-python-{self.python}-client-{self.client}"

    def packages(self) -> list[str]:
        source, sign = (
            (ROOT / "meta/ee-requirements.txt", ">=") if self.client == "oldest" else (CONSTRAINTS, "==")
        )
        versions = dict(re.findall(rf"^([\w-]+){sign}([\w.]+)$", source.read_text(), re.MULTILINE))
        client = [f"{name}=={versions[name]}" for name in CLIENT]
        return [f"ansible-core~={self.core}.0", *client, "requests-oauthlib", "jsonpatch"]


def _all() -> Iterator[Combination]:
    for core, versions in CORES.items():
        for python in versions:
            for client in ("oldest", "newest"):
                yield Combination(core, python, client)


COMBINATIONS = tuple(_all())
OLDEST = COMBINATIONS[0]


def make(combination: Combination) -> Path:
    """Return the directory with the environment's commands. Raises NotHere."""
    python = next(pythons(combination.python), None)
    if python is None:
        raise NotHere(f"{combination} needs Python {combination.python}, and it isn't here")
    target = CACHE / "matrix" / str(combination)
    key = hashlib.sha256(f"{python}\0{ROOT}\0{combination.packages()}".encode()).hexdigest()
    stamp = target / ".key"
    if not (stamp.exists() and stamp.read_text() == key):
        pip: list[str | Path] = [target / "bin" / "pip", *INSTALL]
        steps: list[list[str | Path]] = [
            [python, "-m", "venv", "--clear", target],
            [*pip, *combination.packages()],
        ]
        for command in steps:
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                raise NotHere(f"{combination} could not be installed")
        stamp.write_text(key)
    return target / "bin"
