# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Who signed in: tokens of people, in memory only, behind a cookie that page scripts can't read."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SESSIONS = 1_000
MAX_SECONDS = 12 * 3600.0


@dataclass
class Session:
    """One person's sign-in. The token stays here and is sent to the Kubernetes API server.

    `revocable` goes to the issuer at sign-out, and nowhere else; for OpenShift it is the token itself.
    """

    user: str
    token: str = field(repr=False)
    expires: float
    revocable: str = field(repr=False)
    # The connections that hang on it: told when it ends.
    listeners: set[Callable[[], None]] = field(default_factory=set, repr=False)


class Sessions:
    """Sessions by the secret in their cookie. Times are Unix seconds."""

    def __init__(self) -> None:
        self._by_key: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, user: str, token: str, expires: float, revocable: str, now: float) -> str:
        """Begin a session and return its key. The oldest makes room where there are too many."""
        self.expire(now)
        while len(self._by_key) >= MAX_SESSIONS:
            self.end(next(iter(self._by_key)))
        key = secrets.token_urlsafe(32)
        self._by_key[key] = Session(user, token, min(expires, now + MAX_SECONDS), revocable)
        return key

    def get(self, key: str | None, now: float) -> Session | None:
        session = self._by_key.get(key or "")
        return session if session is not None and session.expires > now else None

    def end(self, key: str | None) -> Session | None:
        """End a session, tell its connections and forget the token."""
        session = self._by_key.pop(key or "", None)
        if session is not None:
            session.expires = 0.0
            for listener in list(session.listeners):
                listener()
            session.listeners.clear()
        return session

    def expire(self, now: float) -> None:
        for key in [key for key, session in self._by_key.items() if session.expires <= now]:
            self.end(key)
