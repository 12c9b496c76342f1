# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Proofs of earlier runs: pairs of trees that were compared byte by byte, known again by their looks.

A copy over trees of which nobody has touched anything since then needs only a walk down each. A proof holds for the
looks that both sides had: inodes, sizes, times, and among these the time of the last change, which no program can set.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

FORMAT = 5
KEPT = 500
"""Proofs; the oldest goes first."""
MOST_EXTRA = 1_000
"""Names that a proof holds of what only the target has. With more it isn't kept."""


@dataclass(frozen=True)
class Proof:
    """What was found whole. `when` is in seconds since the epoch, `extra` are names as the report has them.

    `uncopied` are the extended attributes that were seen and are no part of a copy.
    """

    when: float
    matched: int
    files: int
    bytes: int
    extra: list[str]
    uncopied: list[str] = field(default_factory=list)


def key(*parts: object) -> str:
    """The name of a proof about these fingerprints, options and so on."""
    return hashlib.sha256(json.dumps([FORMAT, *map(str, parts)]).encode()).hexdigest()


class Proofs:
    """A directory of proofs; None remembers nothing."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    def about(self, start: str) -> bool:
        """Whether there is a proof whose name begins so."""
        if self._directory is None:
            return False
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            return any(entry.name.startswith(start) for entry in entries)
        return False

    def find(self, name: str) -> Proof | None:
        """The proof called `name`. A file that can't be one counts as none."""
        if self._directory is None:
            return None
        try:
            with open(os.path.join(self._directory, name), encoding="utf-8") as stream:
                proof = Proof(**json.load(stream))
        except (OSError, ValueError, TypeError):
            return None
        return proof

    def keep(self, name: str, proof: Proof) -> None:
        """Remember a proof. Where that can't be done, the next run reads everything again."""
        if self._directory is None or len(proof.extra) > MOST_EXTRA:
            return
        path = os.path.join(self._directory, name)
        temporary = f"{path}.{os.getpid()}.part"
        with contextlib.suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as stream:
                json.dump(asdict(proof), stream)
            os.replace(temporary, path)
            self._thin(os.listdir(self._directory))

    def _thin(self, names: Sequence[str]) -> None:
        if self._directory is None or len(names) <= KEPT:
            return
        paths = [os.path.join(self._directory, name) for name in names]
        for path in sorted(paths, key=os.path.getmtime)[:-KEPT]:
            with contextlib.suppress(OSError):
                os.unlink(path)


def directory() -> str | None:
    """Where this user's proofs are (XDG Base Directory Specification), or None where the user has no such place."""
    home = os.environ.get("HOME")
    base = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
    return os.path.join(base, "kubeferry", "proofs") if os.path.isabs(base) else None


def now() -> float:
    return round(time.time(), 3)


def utc(seconds: float) -> str:
    """A time for people (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
