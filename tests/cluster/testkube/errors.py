# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The one exception that ends a command with a sentence instead of a traceback."""

from __future__ import annotations

from pathlib import Path


class ClusterError(Exception):
    """What went wrong, in one sentence a person can act on.

    ``log`` names the file to look at, when there is one.
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        sentence = super().__str__()
        return f"{sentence} Log: {self.log}" if self.log else sentence
