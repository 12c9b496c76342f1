# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Clean up when a signal ends the module.

Told to end, ansible-playbook passes SIGTERM or SIGINT on to its workers, and each worker to its process group, so
that the module gets it; then they die at once, without `always`. The module may take the time to clean up,
which is why the signal becomes an exception here.

A task's `timeout` sends no signal: Ansible just stops listening, and goes on with the play while the module works on.
So a module whose result nobody would read any more ends itself in the same way.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ._errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STDOUT = 1


class _Signalled(BaseException):
    """Not an Exception, so that nothing on the way takes it for an error it knows how to handle."""


class _Quiet:
    """How many blocks are not to be disturbed now, and the signal that waits for their end."""

    def __init__(self) -> None:
        self.blocks = 0
        self.waiting = ""


_quiet = _Quiet()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait for the end of the block: a request that is given up may still be carried out later.

    They aren't blocked: the system would hand them to another thread, and Python to this one all the same.
    """
    _quiet.blocks += 1
    try:
        yield
    finally:
        _quiet.blocks -= 1
        if _quiet.waiting and not _quiet.blocks:
            name, _quiet.waiting = _quiet.waiting, ""
            raise _Signalled(name)


@contextmanager
def _listened_to() -> Iterator[None]:
    """Send this process SIGTERM when whoever reads its standard output stops doing so during the block."""
    ended, ending = os.pipe()

    def watch() -> None:
        poll = select.poll()
        # Nothing is asked for: a pipe without a reader is an error, and one without a writer a hang-up, in any case.
        for descriptor in (_STDOUT, ended):
            poll.register(descriptor, 0)
        if poll.poll() == [(_STDOUT, select.POLLERR)]:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, name="kubeferry-listened", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(ending)
        thread.join()
        os.close(ended)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first SIGTERM, SIGINT or SIGHUP unwind the block, which leaves it as Interrupted; so does a lost reader.

    Further ones are ignored: the cleaning up that the first one has started is to be finished. Outside the
    main thread, where Python handles no signals, the block is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        name = signal.Signals(number).name
        if not _quiet.blocks:
            raise _Signalled(name)
        _quiet.waiting = name

    before = {each: signal.signal(each, handle) for each in _SIGNALS}
    try:
        with _listened_to():
            yield
    except _Signalled as exc:
        raise Interrupted(f"{exc} ended the task before its work was done: run it again to finish.") from None
    finally:
        for each, old in before.items():
            signal.signal(each, old)
