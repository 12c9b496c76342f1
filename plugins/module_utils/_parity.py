# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The parity report: what was compared, and everything that doesn't match.

The full lists go to the report file; what a task returns is cut at LIST_LIMIT names, with the true count beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._manifest import Entry, Manifest
from ._names import display
from ._plan import CREATE, METADATA, REPLACE, Change, Plan

SCHEMA = 1
LIST_LIMIT = 100
ATTRIBUTES = ("mode", "uid", "gid", "mtime")


@dataclass
class Parity:
    """The outcome of comparing a target with its source. Paths are for people (see `_names.display`).

    `mismatched` maps a path to what differs (type, size, content, link, hardlink, device), `metadata` to the attributes
    that differ with both values, `unreadable` to the reason.
    """

    matched: int = 0
    missing: list[str] = field(default_factory=list)
    mismatched: dict[str, list[str]] = field(default_factory=dict)
    metadata: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def holds(self, metadata: str, extra_allowed: bool = True) -> bool:
        """Whether the target is a whole copy. `metadata` other than `strict` forgives attributes."""
        broken = self.missing or self.mismatched or self.unreadable
        return not (broken or (metadata == "strict" and self.metadata) or (self.extra and not extra_allowed))

    def as_dict(self, limit: int | None = None) -> dict[str, Any]:
        """Counts and lists; with a `limit` the lists are cut, and `truncated` says so."""
        lists: dict[str, Any] = {
            "missing": self.missing,
            "mismatched": [{"path": path, "differs": differs} for path, differs in self.mismatched.items()],
            "metadata_differences": [
                {"path": path, "differs": differs} for path, differs in self.metadata.items()
            ],
            "extra": self.extra,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable.items()],
        }
        cut = {name: items if limit is None else items[:limit] for name, items in lists.items()}
        return {
            "matched": self.matched,
            **cut,
            "counts": {"matched": self.matched, **{name: len(items) for name, items in lists.items()}},
            "truncated": any(len(cut[name]) < len(lists[name]) for name in lists),
        }


def parity(plan: Plan, source: Manifest, target: Manifest) -> Parity:
    """What a plan that should have been empty says about the copy."""
    unreadable = {
        display(path): reason for path, reason in {**target.unreadable, **source.unreadable}.items()
    }
    return Parity(
        matched=plan.matched,
        missing=[display(change.path) for change in plan.by_action(CREATE)],
        mismatched={display(change.path): list(change.reasons) for change in plan.by_action(REPLACE)},
        metadata={display(change.path): _both(change) for change in plan.by_action(METADATA)},
        extra=[display(path) for path in plan.extra],
        unreadable=unreadable,
    )


def _both(change: Change) -> dict[str, list[str]]:
    return {
        name: [attribute(entry, name) for entry in (change.want, change.have) if entry is not None]
        for name in change.reasons
    }


def attribute(entry: Entry, name: str) -> str:
    """An attribute as people write it: modes in octal, times in seconds."""
    if name == "mode":
        return f"{entry.mode:04o}"
    if name == "mtime":
        seconds, fraction = divmod(abs(entry.mtime), 1_000_000_000)
        return f"{'-' if entry.mtime < 0 else ''}{seconds}.{fraction:09d}"
    return str(getattr(entry, name))


def sentence(found: Mapping[str, Any], metadata: str, extra: bool = False) -> str:
    """What doesn't match, in words that name the first paths of each kind, and nothing that is allowed."""
    words = {
        "missing": "missing at the target",
        "mismatched": "different",
        "unreadable": "unreadable",
    }
    if extra:
        words["extra"] = "only at the target"
    if metadata == "strict":
        words["metadata_differences"] = "different in owner, mode or time"
    parts = []
    for name, what in words.items():
        items = found[name]
        if items:
            names = ", ".join(item if isinstance(item, str) else str(item["path"]) for item in items[:3])
            parts.append(f"{found['counts'][name]} {what} ({names}{', …' if len(items) > 3 else ''})")
    return "; ".join(parts)
