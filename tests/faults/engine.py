# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine in one call, for tests."""

from __future__ import annotations

import codecs
import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.kubeferry.pvc.plugins.module_utils._copy import Copy, Options, Outcome
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._progress import Progress
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import select as chosen
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._staged_tree import StagedTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._transport import choose

SILENT = ""
NOBODY = 65534


def progress() -> Progress:
    return Progress(path=SILENT)


def local(path) -> LocalTree:
    return LocalTree(os.fspath(path), progress())


def shell(box, path, where: str = "") -> ShellTree:
    return ShellTree(box.runner(where), os.fspath(path), progress())


def end(boxes, kind: str, path):
    """This machine's, where the kind is `local`, or else that kind of box's."""
    return local(path) if kind == "local" else shell(boxes[kind], path)


def staged(path, manifest, *, as_source: bool) -> StagedTree:
    return StagedTree(os.fspath(path), os.fspath(manifest), progress(), as_source)


def copy(
    source, target, *, transport: str = "tar", files=None, include=None, exclude=None, **options
) -> Outcome:
    """Copy from a tree to another; `options` are those of `Options`."""
    selection = chosen(source.path, files, include, exclude)
    means = choose(transport, source, target, progress())
    return Copy(source, target, selection, Options(**options), means, progress()).run()


def whole(outcome: Outcome, metadata: str = "strict") -> bool:
    """Whether the engine says that the target is a whole copy."""
    return outcome.parity.holds(metadata)


class Killed(Exception):
    """The child was ended by a signal."""


def in_child(work: Callable[[], Any], *, uid: int | None = None, seconds: float = 60.0) -> Any:
    """The result of `work` in a fork of this process, as the user `uid` where this is root.

    Raises what `work` raises, and Killed when a signal ended it. The child is killed after `seconds`.
    """
    # Loaded now, as that user may not be allowed to read Python's own files.
    codecs.lookup("ascii")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            if uid is not None and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            try:
                answer: tuple[bool, Any] = (True, work())
            except Exception as exc:  # noqa: BLE001 (raised again in the parent)
                answer = (False, exc)
            data = pickle.dumps(answer)
            while data:
                data = data[os.write(writing, data) :]
        finally:
            os._exit(0)
    os.close(writing)
    try:
        data = _all(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
        _end(child)
    if not data:
        raise Killed
    good, answer = pickle.loads(data)
    if good:
        return answer
    raise answer


def _all(descriptor: int, deadline: float) -> bytes:
    data = b""
    while True:
        ready, _writable, _other = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError("the child took too long")
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return data
        data += piece


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(child, 0)
