# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Running commands, knowing a process again, and waiting for something with a limit."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import ClusterError


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    stdin: str | None = None,
    timeout: float = 60,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` to its end, at most ``timeout`` seconds, and return what it printed.

    Raises ClusterError with the last line of its error output if it fails and ``check`` is set.
    """
    name = Path(os.fspath(argv[0])).name
    try:
        done = subprocess.run(
            [os.fspath(word) for word in argv],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(f"The command {name} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{name} did not finish within {timeout:.0f} s.") from None
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        command = " ".join(os.fspath(word) for word in argv[:6])
        raise ClusterError(f"`{command}` ended with {done.returncode}: {said}")
    return done


def start_time(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; None if it is gone or only a zombie.

    A pid alone is reused by the kernel; together with this it names one process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def children(pid: int) -> list[int]:
    """The direct children of ``pid`` (read from /proc, since CONFIG_PROC_CHILDREN may be off)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == pid:
                found.append(int(entry))
    return found


def wait_until(
    what: str, probe: Callable[[], bool], timeout: float, *, log: Path | None = None, interval: float = 0.1
) -> None:
    """Poll ``probe`` until it is true; after ``timeout`` seconds raise ClusterError naming ``what``."""
    deadline = time.monotonic() + timeout
    while not probe():
        if time.monotonic() > deadline:
            raise ClusterError(f"Gave up after {timeout:.0f} s waiting for {what}.", log)
        time.sleep(interval)


def write_if_changed(path: Path, text: str) -> None:
    """Put ``text`` into the private file ``path``, whole or not at all: its reader may be running."""
    if not path.exists() or path.read_text() != text:
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(text)
        draft.replace(path)


@contextmanager
def mutex(name: str, timeout: float) -> Iterator[None]:
    """Hold the machine-wide lock ``name``; it leaves no file and dies with its holder.

    An abstract Unix socket is such a lock: only one process can bind the name.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:

        def taken() -> bool:
            try:
                lock.bind(f"\0{name}")
            except OSError:
                return False
            return True

        wait_until(f"another cluster command to finish ({name})", taken, timeout)
        yield
