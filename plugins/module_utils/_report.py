# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The report file: evidence that stays. Each hop in it is what the task returned, with full lists, and when it did."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ._errors import UsageError
from ._local_files import open_regular
from ._names import shown
from ._parity import REPORT_LIMIT, SCHEMA, Parity

MOST_BYTES = 1 << 28
"""How large a report may be. It has up to REPORT_LIMIT names in each list of each hop."""


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


def require_report(path: str | None) -> None:
    """Raises UsageError where `path` can't be a report's: better before the work than after. Nothing is made."""
    if not path:
        return
    path = os.path.expanduser(path)
    _hops(path)
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"report: {shown(path)} can't be written, since user {os.geteuid()} can't make files in "
            f"{shown(folder)}: choose another path."
        )


def record(path: str, name: str, hop: Hop) -> None:
    """Put the hop called `name` into the report file, beside the others that are there.

    Raises UsageError when the file is something else or can't be written.
    """
    path = os.path.expanduser(path)
    _put(path, _hops(path), name, hop.as_dict())


def record_failure(path: str, name: str, why: str) -> None:
    """Have the hop called `name` say why the task failed before there was anything to compare.

    No report is made for it, and what can't be written is left: there is another error to be told.
    """
    path = os.path.expanduser(path)
    with contextlib.suppress(UsageError):
        if hops := _hops(path):
            _put(path, hops, name, {"parity": False, "msg": why})


def _put(path: str, hops: dict[str, Any], name: str, hop: Mapping[str, Any]) -> None:
    """Write the report with `hop` among its `hops`, as finished now."""
    hops[name] = {"finished": datetime.now(UTC).isoformat(timespec="seconds"), **hop}
    report = {"schema": SCHEMA, "parity": all(each["parity"] for each in hops.values()), "hops": hops}
    temporary = f"{path}.{os.getpid()}.part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=2)
            stream.write("\n")
        os.replace(temporary, path)
    except RecursionError as exc:
        raise _no_report(path) from exc
    except OSError as exc:
        raise UsageError(
            f"report: {shown(path)} can't be written ({exc.strerror}): choose another path."
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _hops(path: str) -> dict[str, Any]:
    """What the report file holds so far. Raises UsageError where it is none."""
    try:
        with open(path, "rb", opener=_opened) as stream:
            hops = _checked(json.load(stream))
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise UsageError(
            f"report: {shown(path)} can't be read ({exc.strerror}): choose another path."
        ) from exc
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise _no_report(path) from exc
    return hops


def _opened(path: str, flags: int) -> int:
    """A descriptor of a file that may be a report. Raises ValueError for a huge one."""
    descriptor = open_regular(path, flags)
    if os.fstat(descriptor).st_size <= MOST_BYTES:
        return descriptor
    os.close(descriptor)
    raise ValueError("huge")


def _checked(report: dict[str, Any]) -> dict[str, Any]:
    """The hops of a report. Raises ValueError, KeyError or TypeError where it is none."""
    hops = report["hops"]
    if report["schema"] != SCHEMA or not isinstance(hops, dict):
        raise ValueError("no report")
    if not all(isinstance(hop["parity"], bool) for hop in hops.values()):
        raise ValueError("no hop")
    return hops


def _no_report(path: str) -> UsageError:
    return UsageError(f"report: {shown(path)} exists and isn't a report: choose another path, or remove it.")
