# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A token in a file in which it is replaced from time to time, as those of service accounts are."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

SECONDS = 60.0
"""For how long a token counts that was read; client-go reads it anew as often."""


class TokenFile:
    """The token in the file `path`; empty where that can't be read."""

    def __init__(self, path: str) -> None:
        self.token = ""
        self._path = path
        self._until = 0.0
        self._read()

    def expire(self) -> None:
        """Have the file read at the next request."""
        self._until = 0.0

    def refresh(self, configuration: Any) -> None:  # noqa: ANN401
        """What `kubernetes` calls before a request: gives its `configuration` the token."""
        if time.monotonic() >= self._until:
            self._read()
        # Which of the two counts depends on the release of `kubernetes`.
        configuration.api_key = dict.fromkeys(("BearerToken", "authorization"), f"Bearer {self.token}")

    def _read(self) -> None:
        """Read the file anew. While it is just being replaced, the token stays that there was."""
        with suppress(OSError), open(self._path, encoding="utf-8", errors="replace") as stream:
            if token := stream.read().strip():
                self.token, self._until = token, time.monotonic() + SECONDS
