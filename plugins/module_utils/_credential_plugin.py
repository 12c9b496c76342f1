# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A kubeconfig's credential plugin: how long it may take, and its failures.

Of these, `kubernetes` writes to the log and goes on as nobody.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

SECONDS = 60.0
"""How long a plugin may take that nobody sits in front of."""

_SILENT = "exec: no answer of "
_ENDED = re.compile(r"exec: process returned (-?\d+)")


def bounded() -> None:
    """Let no plugin that `kubernetes` starts in this process run for longer, nor outlive the wait for its answer."""
    from kubernetes.config import exec_provider  # noqa: PLC0415 -- may be missing, which the caller tells

    exec_provider.subprocess = SimpleNamespace(Popen=_Plugin, PIPE=subprocess.PIPE)


class _Plugin(subprocess.Popen[str]):
    """A plugin with a process group of its own. One that may ask somebody, at a terminal, is left as it is."""

    def __init__(self, args: list[str], **options: Any) -> None:  # noqa: ANN401
        self._alone = options.get("stdin") is None
        self._command = args[0]
        super().__init__(args, process_group=0 if self._alone else None, **options)

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002
        if not self._alone:
            return super().communicate(input, timeout)
        try:
            return super().communicate(input, SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{_SILENT}{self._command}") from None
        finally:
            if self.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):
                    self.wait(1)
                for stream in filter(None, (self.stdout, self.stderr)):
                    stream.close()


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What is logged about plugins in the block, by this thread. It goes nowhere else: a plugin may print a token."""
    heard = _Heard()
    logger = logging.getLogger()
    logger.addHandler(heard)
    try:
        yield heard.said
    finally:
        logger.removeHandler(heard)


def why(said: str) -> str:
    """The reason, without what the plugin has printed."""
    ended = _ENDED.match(said)
    if ended:
        return f"it ended with status {ended[1]}"
    if said.startswith(_SILENT):
        return f"its command {said.removeprefix(_SILENT)} hasn't answered for {SECONDS:.0f} s"
    if said.startswith("[Errno"):
        return "it can't be started"
    if said.startswith("exec: malformed request"):
        return "its entry there lacks a key"
    return "it printed no credential"


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.module == "kube_config" and record.thread == self._thread:
            self.said.append(record.getMessage())
