# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Tokens that nobody set: made at the first start, and kept beside the history for those that follow.

A server that is started again in the middle of a run is then the same for its pages and for the playbook that tells it.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from .settings import MIN_TOKEN, Settings

NAMES = ("publish_token", "view_token")


def place(settings: Settings) -> Path | None:
    """The file, for the owner's eyes only; None where the history is no file, or not only this machine can connect."""
    if not settings.is_loopback or "://" in settings.history:
        return None
    return Path(f"{settings.history}.tokens")


def with_kept(settings: Settings) -> Settings:
    """Fill in the tokens that are not set and were kept."""
    path = place(settings)
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return settings  # the first start, or a file that isn't ours
    found = {name: kept[name] for name in NAMES if isinstance(kept, dict) and isinstance(kept.get(name), str)}
    missing = {
        name: token
        for name, token in found.items()
        if not getattr(settings, name) and len(token) >= MIN_TOKEN
    }
    return replace(settings, **missing)


def keep(settings: Settings, made: set[str]) -> Path | None:
    """Keep the tokens that were made, and return where; None where they can't be kept."""
    path = place(settings)
    if path is None or not made:
        return None
    text = json.dumps({name: getattr(settings, name) for name in sorted(made)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except OSError:
        return None  # the history will say what is wrong with the place
    return path
