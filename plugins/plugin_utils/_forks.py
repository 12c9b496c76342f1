# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What happens in each worker that Ansible forks, before anything else does."""

from __future__ import annotations

import json
import os
import socket

# What a module is told of its task, to hand it back with its progress (plugins/module_utils/_progress.py).
CONTEXT_VARIABLE = "KUBEFERRY_PROGRESS_CONTEXT"

_closed_in_forks: set[int] = set()
_told: set[str] = set()
_context = ""


def close_in_forks(descriptor: int) -> None:
    """A worker that outlives a killed playbook would keep the pipe open, and the helper would wait for its end."""
    _closed_in_forks.add(descriptor)


def keep_in_forks(descriptor: int) -> None:
    _closed_in_forks.discard(descriptor)


def tell_of_forks(path: str) -> None:
    """Tell the progress socket which task each worker has, for modules that lose their environment (`become`)."""
    _told.add(path)


def set_context(context: str) -> None:
    """Say what the next worker has to do, right before Ansible forks it; nothing for one that has no progress to tell.

    Every other worker is spared the note: in a process just forked it costs half a millisecond.
    """
    global _context  # noqa: PLW0603 (one process has one)
    if context == _context:
        return
    _context = context
    if context:
        os.environ[CONTEXT_VARIABLE] = context
    else:
        os.environ.pop(CONTEXT_VARIABLE, None)


def _in_fork() -> None:
    for descriptor in _closed_in_forks:
        os.close(descriptor)
    _closed_in_forks.clear()
    if not _context:
        return
    note = json.dumps({"v": 1, "worker": os.getpid(), "context": _context}).encode()
    for path in _told:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(note, path)
        except OSError:
            pass  # progress is a courtesy
    _told.clear()


os.register_at_fork(after_in_child=_in_fork)
