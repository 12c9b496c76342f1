# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The exceptions of the server. Every message is one sentence for a person and holds no token and no event data."""

from __future__ import annotations


class ServerError(Exception):
    """Root of the tree."""


class SettingsError(ServerError):
    """The server can't start with these settings; the message says which and what to do."""


class StoreError(ServerError):
    """The history can't be read or written."""


class DamagedRun(StoreError):
    """A run's events can't be read, now or later; those of other runs can."""

    def __init__(self, history: str, run: str, seq: int) -> None:
        super().__init__(
            f"{history} is damaged: event {seq} of run {run} can't be read. The other runs go on. For this one, stop "
            "the server and put a copy of the history back, or leave it until it is dropped for its age."
        )
        self.run = run


class EpochChanged(StoreError):
    """The shared history was replaced by another one: everything held in memory is stale."""


class MessageError(ServerError):
    """A message can't be answered as its sender hoped: `code` and the message go back to it."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    @property
    def message(self) -> str:
        return str(self)


class WrongFormat(MessageError):
    """The message is not JSON, has no known type, or isn't of its type's shape."""

    def __init__(self, why: str = "", request: str | None = None) -> None:
        details = {"request": request} if request else {}
        super().__init__("wrong_format", f"Wrong format: {why}" if why else "Wrong format", **details)


class LoginError(ServerError):
    """Signing in failed; the message is shown to the user and names no token and no code."""
