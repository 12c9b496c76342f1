# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The parity report that an event has of a copy or a comparison, taken out of the module's result.

See plugins/module_utils/_report.py for what a result has, and `parity` in the events' schema for what is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._bounded import Bounded

_NAMES = ("missing", "extra")
_OBJECTS = ("mismatched", "metadata_differences", "unreadable", "changed_at_source")
_WORDS = ("source", "target", "checksum", "transport", "route")
_NUMBERS = ("files", "bytes", "seconds")
FIELDS = frozenset(("parity", "matched", "counts", "truncated", *_NAMES, *_OBJECTS, *_WORDS, *_NUMBERS))
# One path is cut here, as it is in a module's own message.
_LONGEST_PATH = 1_000


def is_report(result: Mapping[str, Any]) -> bool:
    """Whether a result is one of this collection's copies or comparisons that could be carried out."""
    counts = result.get("counts")
    return (
        isinstance(result.get("parity"), bool)
        and _is_count(result.get("matched"))
        and isinstance(counts, Mapping)
        and all(_is_count(count) for count in counts.values())
    )


def parity_data(result: Mapping[str, Any], bounded: Bounded) -> dict[str, Any]:
    """Return the report of a result that `is_report`, its lists cut where `bounded` has no more room."""
    report: dict[str, Any] = {
        "whole": result["parity"],
        "matched": result["matched"],
        "counts": {bounded.text(name, 100): count for name, count in result["counts"].items()},
    }
    report |= {name: bounded.text(result[name]) for name in _WORDS if isinstance(result.get(name), str)}
    report |= {name: result[name] for name in _NUMBERS if isinstance(result.get(name), (int, float))}
    for name in _OBJECTS:
        report[name] = _cut(result.get(name), bounded, _object)
    for name in _NAMES:
        report[name] = _cut(result.get(name), bounded, _path)
    report["truncated"] = bool(result.get("truncated")) or bounded.truncated
    return report


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _cut(items: object, bounded: Bounded, make: Callable[[Any, Bounded], Any]) -> list[Any]:
    kept: list[Any] = []
    for item in items if isinstance(items, (list, tuple)) else ():
        if not bounded.room:
            bounded.truncated = True
            break
        kept.append(make(item, bounded))
    return kept


def _path(item: object, bounded: Bounded) -> str:
    return bounded.text(item, _LONGEST_PATH)


def _object(item: Any, bounded: Bounded) -> dict[str, Any]:  # noqa: ANN401 (a result's entry)
    entry = item if isinstance(item, Mapping) else {"path": item}
    kept: dict[str, Any] = {"path": _path(entry.get("path", ""), bounded)}
    for name in ("reason", "what"):
        if name in entry:
            kept[name] = bounded.text(entry[name], _LONGEST_PATH)
    differs = entry.get("differs")
    if isinstance(differs, Mapping):
        # An attribute's value at the source and at the target.
        kept["differs"] = {bounded.text(name, 100): _words(both, bounded) for name, both in differs.items()}
    elif isinstance(differs, (list, tuple)):
        kept["differs"] = _words(differs, bounded)
    return kept


def _words(values: object, bounded: Bounded) -> list[str]:
    return [bounded.text(value, 100) for value in values] if isinstance(values, (list, tuple)) else []
