# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The failures of a kubeconfig's credential plugin, of which `kubernetes` writes to the log and goes on as nobody."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ENDED = re.compile(r"exec: process returned (-?\d+)")


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
