# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Remove a run's helper pods when its ansible-playbook is gone.

A helper pod is made by one task and removed by a later one, in `always`. An ansible-playbook that is told to
end by a signal, or is killed, doesn't get there. So `start` leaves a small process behind that waits for
the end of ansible-playbook, whatever ends it, and then deletes what is left of the run. It ends when there's
nothing left to delete, too, so it never outlives the playbook by more than a moment.

It is there as long as the module that has started it, and ends that first when ansible-playbook is gone: an orphan
goes on with its work, and what it makes after the guard has looked would be left behind.

It is a fork of the module: the credentials stay in memory, out of arguments, environment and files. It
closes every inherited file descriptor, since Ansible waits for the end of the module's output.
"""

from __future__ import annotations

import hashlib
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from types import FrameType

from ._errors import Interrupted, KubeferryError

_CHECK_SECONDS = 60.0
_END_SECONDS = 30.0
_TRIES = 8
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Watch:
    """What a guard does: `abandon` deletes the run's pods, `left` tells whether there are any.

    `name` is that of the run in its cluster and namespace; `detach` drops the connections that a forked
    process must not use. `left` is asked each `every` seconds.
    """

    name: str
    seconds: float
    left: Callable[[], bool]
    abandon: Callable[[], None]
    detach: Callable[[], None]
    every: float = _CHECK_SECONDS


@dataclass(frozen=True)
class _Processes:
    """The pidfds of ansible-playbook and of the module that has started the guard."""

    controller: int
    module: int


def start(watch: Watch) -> bool:
    """Leave a guard behind; False where ansible-playbook can't be watched from here.

    That is so when the module runs on another host, under `become`, or as an asynchronous task. Raises
    Interrupted when ansible-playbook is gone already: what this process makes would be left behind.
    """
    controller = find_controller()
    if controller is None:
        return False
    try:
        processes = _Processes(os.pidfd_open(controller), os.pidfd_open(os.getpid()))
    except ProcessLookupError:
        raise _gone() from None
    except (OSError, AttributeError):
        return False
    child = os.fork()
    if child:
        for descriptor in astuple(processes):
            os.close(descriptor)
        os.waitpid(child, 0)
        return True
    try:
        os.setsid()
        # The second fork's parent ends at once: the guard becomes a child of init, which reaps it.
        if not os.fork():
            _guard(watch, processes)
    finally:
        os._exit(0)


def notify(name: str) -> None:
    """Have the guard of that name, if there is one, look whether it's still needed."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", _address(name))


def find_controller() -> int | None:
    """The process of ansible-playbook, if it is on this machine and recognisable. Raises Interrupted if it's gone.

    Each of its workers is a fork of it and makes a process group of its own (`_detach` in `WorkerProcess`). So
    the leader of our group must be one, and the leader's parent is what we look for.
    """
    try:
        leader = os.getpgrp()
        if leader in {0, os.getpid()} or not _is_ansible(leader):
            return None
        parent = _parent(leader)
        if _is_ansible(parent) and _program(parent) == _program(leader):
            return parent
    except (OSError, ValueError, IndexError):
        return None
    raise _gone()


def _gone() -> Interrupted:
    return Interrupted("The ansible-playbook that this task is of has ended: run it again.")


def _is_ansible(process: int) -> bool:
    """Whether it is `ansible-playbook …` by its path, or `python -m ansible playbook …`; workers are, too."""
    command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[:4]
    return any(os.path.basename(word).startswith(b"ansible") for word in command)


def _program(process: int) -> Path:
    return Path(f"/proc/{process}/exe").readlink()


def _parent(process: int) -> int:
    # proc(5): the name in parentheses may itself hold spaces and parentheses.
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _address(name: str) -> str:
    """An abstract socket's: it goes with its process, and only one process can have it."""
    return f"\0kubeferry-guard-{os.getuid()}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _guard(watch: Watch, processes: _Processes) -> None:
    _settle(watch, astuple(processes))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bell:
        try:
            bell.bind(_address(watch.name))
        except OSError:
            return  # another one watches already
        if _wait(watch, processes, bell):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _end_orphan(processes)
            _abandon(watch)


def _settle(watch: Watch, keep: Collection[int]) -> None:
    """Let go of everything that belongs to the module."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise _Told

    watch.detach()
    for each in (signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):
                os.close(int(name))
    # A core dump would put the credentials into a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/comm").write_text("kubeferry-guard")


class _Told(Exception):
    """SIGTERM: the machine shuts down, most likely."""


def _wait(watch: Watch, processes: _Processes, bell: socket.socket) -> bool:
    """Wait for the end of ansible-playbook; False if there is nothing to delete any more."""
    deadline = time.monotonic() + watch.seconds
    poll = select.poll()
    for each in (*astuple(processes), bell):
        poll.register(each, select.POLLIN)
    at_work, over = True, False
    try:
        while time.monotonic() < deadline:
            ready = [number for number, _event in poll.poll(watch.every * 1000)]
            if processes.controller in ready:
                return True
            if processes.module in ready:
                poll.unregister(processes.module)
                at_work = False
            if bell.fileno() in ready:
                bell.recv(1)
            with suppress(KubeferryError):  # the server may be away for a while
                # At the module's end, it looks again only if there was nothing before.
                over = (ready != [processes.module] or over) and not watch.left()
                if over and not at_work:
                    return False
    except _Told:
        pass
    return True


def _end_orphan(processes: _Processes) -> None:
    """Have the module clean up and end if ansible-playbook is gone; one that doesn't in time is killed."""
    if not _ends(processes.controller, 0):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(processes.module, number)
        if _ends(processes.module, _END_SECONDS):
            return


def _ends(process: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _abandon(watch: Watch) -> None:
    pause = 1.0
    for _attempt in range(_TRIES):
        with suppress(KubeferryError):
            watch.abandon()
            return
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
