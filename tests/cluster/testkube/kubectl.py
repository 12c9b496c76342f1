# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Talking to a cluster through kubectl."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .build import binaries
from .errors import ClusterError
from .proc import run


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    program: Path
    kubeconfig: Path | str

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = 60, check: bool = True) -> str:
        """Run one kubectl command and return its output."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return run([self.program, *words], stdin=stdin, timeout=timeout, check=check, env=environment).stdout

    def succeeds(self, *words: str) -> bool:
        """Whether a command ends well within a few seconds."""
        try:
            self(*words, timeout=10)
        except ClusterError:
            return False
        return True

    def apply(self, objects: Sequence[dict[str, Any]], *words: str) -> None:
        """Create or update ``objects``."""
        if objects:
            items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
            self("apply", *words, "-f", "-", stdin=json.dumps(items))

    def get(self, *words: str) -> dict[str, Any]:
        """One object or list as a dictionary; empty if there is none."""
        said = self("get", *words, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(said) if said.strip() else {}
        return found


def find() -> Path:
    """The kubectl of the cache, or the machine's."""
    built = binaries() / "kubectl"
    if built.exists():
        return built
    if found := shutil.which("kubectl"):
        return Path(found)
    raise ClusterError("There is no kubectl: install it, or let `tests/cluster/cluster build` make one.")
