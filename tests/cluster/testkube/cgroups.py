# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The control groups that hold the pods, in whichever hierarchy version the machine has."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .proc import wait_until

ROOT = Path("/sys/fs/cgroup")


def _unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    """The top of every hierarchy: one for v2, one per controller for v1."""
    if _unified():
        return [ROOT]
    return sorted(path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink())


def make(name: str) -> None:
    """Make the cgroup ``name`` (such as ``parent/node``); the kubelet insists that its root is there."""
    for top in _hierarchies():
        path = top
        for part in name.split("/"):
            if _unified():
                _delegate(path)
            path = path / part
            path.mkdir(exist_ok=True)
            if not _unified():
                _fill_cpuset(path)
        if _unified():
            _delegate(path)


def _fill_cpuset(path: Path) -> None:
    """Let a new v1 cpuset have its parent's processors: it starts out empty, and nothing can join an empty one."""
    for setting in ("cpuset.cpus", "cpuset.mems"):
        file = path / setting
        if file.exists() and not file.read_text().strip():
            file.write_text((path.parent / setting).read_text())


def _delegate(path: Path) -> None:
    """Let the children of a v2 cgroup use the controllers that it has."""
    for controller in (path / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (path / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(name: str) -> None:
    """Remove the cgroup ``name`` and all below it; its processes are dead, but the kernel may take a moment."""

    def gone() -> bool:
        left = False
        for top in _hierarchies():
            tree = top / name
            if tree.is_dir():
                for path in sorted((p for p in tree.rglob("*") if p.is_dir()), reverse=True):
                    with contextlib.suppress(OSError):
                        path.rmdir()
                with contextlib.suppress(OSError):
                    tree.rmdir()
                left = left or tree.exists()
        return not left

    wait_until(f"the cgroup {name} to empty", gone, 15)
