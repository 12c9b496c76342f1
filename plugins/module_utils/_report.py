# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The report file: evidence that stays after the run. Each hop in it is what the task returned, with full lists."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from ._errors import UsageError
from ._parity import REPORT_LIMIT, SCHEMA, Parity


@dataclass
class Hop:
    """One comparison of a target with its source: a copy, or a verification."""

    source: str
    target: str
    checksum: str
    whole: bool
    parity: Parity
    numbers: dict[str, float] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)

    def as_dict(self, limit: int = REPORT_LIMIT) -> dict[str, Any]:
        """As JSON; `limit` cuts the lists for what a task returns."""
        return {
            "source": self.source,
            "target": self.target,
            "checksum": self.checksum,
            "parity": self.whole,
            **self.numbers,
            **self.words,
            **self.parity.as_dict(limit),
        }


def record(path: str, name: str, hop: Hop) -> None:
    """Put the hop called `name` into the report file, beside the others that are there.

    Raises UsageError when the file is something else or can't be written.
    """
    path = os.path.expanduser(path)
    try:
        hops = _hops(path)
        hops[name] = hop.as_dict()
        report = {"schema": SCHEMA, "parity": all(each["parity"] for each in hops.values()), "hops": hops}
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        temporary = f"{path}.{os.getpid()}.part"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=2)
            stream.write("\n")
        os.replace(temporary, path)
    except OSError as exc:
        raise UsageError(f"report: {path} can't be written ({exc.strerror}): choose another path.") from exc


def _hops(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            report = json.load(stream)
        hops = report["hops"] if report["schema"] == SCHEMA else None
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        hops = None
    if not isinstance(hops, dict):
        raise UsageError(f"report: {path} exists and isn't a report: choose another path, or remove it.")
    return hops
