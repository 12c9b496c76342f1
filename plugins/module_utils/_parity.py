# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The parity report: what was compared, and everything that doesn't match.

The lists go to the report file, up to REPORT_LIMIT names each; what a task returns is cut at LIST_LIMIT names. The true
count is always beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, TypeVar

from ._entry import SOCKET, Entry
from ._manifest import CHANGED, VANISHED, Manifest
from ._names import display
from ._plan import CREATE, DELETE, EXTRA, METADATA, REPLACE, Change, Plan
from ._selection import LOST_AND_FOUND

V = TypeVar("V")

SCHEMA = 1
LIST_LIMIT = 100
REPORT_LIMIT = 100_000


@dataclass
class Parity:
    """The outcome of comparing a target with its source. Paths are for people (see `_names.display`).

    `mismatched` maps a path to what differs (type, size, content, link, hardlink, device), `metadata` to the attributes
    that differ with both values, `unreadable` to the reason; `changed` maps what didn't stay as it was at the source
    during the copy to what became of it (changed, vanished). Each list ends after REPORT_LIMIT paths; `counts` has the
    whole number by the list's name in the report. With `forgiving`, what vanished from the source doesn't count.
    """

    matched: int = 0
    missing: list[str] = field(default_factory=list)
    mismatched: dict[str, list[str]] = field(default_factory=dict)
    metadata: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    forgiving: bool = False

    def holds(self, metadata: str, extra_allowed: bool = True) -> bool:
        """Whether the target is a whole copy. `metadata` other than `strict` forgives attributes."""
        counts = self.true_counts()
        broken = counts["missing"] or counts["mismatched"] or counts["unreadable"] or self.vanished
        attributes = metadata == "strict" and counts["metadata_differences"]
        return not (broken or attributes or (counts["extra"] and not extra_allowed))

    @property
    def vanished(self) -> list[str]:
        """What vanished from the source, so that nobody can say whether it arrived."""
        return [path for path, what in self.changed.items() if what == VANISHED and not self.forgiving]

    def at_rest(self) -> Parity:
        """The same without what the source didn't leave as it was."""

        def kept(items: dict[str, V]) -> dict[str, V]:
            return {path: item for path, item in items.items() if path not in self.changed}

        missing = [path for path in self.missing if path not in self.changed]
        found = replace(
            self,
            missing=missing,
            mismatched=kept(self.mismatched),
            metadata=kept(self.metadata),
            unreadable=kept(self.unreadable),
            forgiving=True,
        )
        forgiven = {name: len(items) - len(found.lists()[name]) for name, items in self.lists().items()}
        found.counts = {name: count - forgiven[name] for name, count in self.counts.items()}
        return found

    def true_counts(self) -> dict[str, int]:
        """The length of each list, before it was cut."""
        return {name: self.counts.get(name, len(items)) for name, items in self.lists().items()}

    def lists(self) -> dict[str, list[Any]]:
        """The lists as the report has them."""
        return {
            "missing": self.missing,
            "mismatched": [{"path": path, "differs": differs} for path, differs in self.mismatched.items()],
            "metadata_differences": [
                {"path": path, "differs": differs} for path, differs in self.metadata.items()
            ],
            "extra": self.extra,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable.items()],
            "changed_at_source": [{"path": path, "what": what} for path, what in self.changed.items()],
        }

    def as_dict(self, limit: int = REPORT_LIMIT) -> dict[str, Any]:
        """Counts and lists; the lists are cut after `limit` paths, and `truncated` says so."""
        lists = self.lists()
        counts = self.true_counts()
        cut = {name: items[:limit] for name, items in lists.items()}
        return {
            "matched": self.matched,
            **cut,
            "counts": {"matched": self.matched, **counts},
            "truncated": any(len(cut[name]) < counts[name] for name in lists),
        }


def parity(
    plan: Plan,
    source: Manifest,
    target: Manifest,
    drift: Iterable[tuple[bytes, str]] = (),
    *,
    extra_counts: bool = True,
) -> Parity:
    """What a plan that should have been empty says about the copy. `drift` is what changed at the source meanwhile.

    Unless what only the target has counts, neither does it what couldn't be read there beside what the source has.
    """
    drifting = chain(drift, ((path, CHANGED) for path in source.restless))
    changed = {display(path): what for path, what in islice(drifting, REPORT_LIMIT)}
    more_changed = sum(1 for _more in drifting)
    unreadable = {
        path: why
        for path, why in target.unreadable.items()
        if source.covers(path) or (extra_counts and path != LOST_AND_FOUND)
    } | source.unreadable
    unreadable |= dict.fromkeys(source.restless, "changed at the source while it was staged")
    lacking = plan.unmade
    missing = (path for path in plan.paths(CREATE) if path not in lacking)
    attributes = {display(c.path): _both(c) for c in islice(plan.changes(METADATA), REPORT_LIMIT)}
    unmade = {
        display(path): {"socket" if kind == SOCKET else "device": ["there", "missing"]}
        for path, kind in islice(sorted(lacking.items()), REPORT_LIMIT)
    }
    return Parity(
        matched=plan.matched,
        missing=[display(path) for path in islice(missing, REPORT_LIMIT)],
        mismatched={display(c.path): list(c.reasons) for c in islice(plan.changes(REPLACE), REPORT_LIMIT)},
        metadata=dict(islice({**attributes, **unmade}.items(), REPORT_LIMIT)),
        extra=[display(path) for path in islice(plan.paths(DELETE, EXTRA), REPORT_LIMIT)],
        unreadable={display(path): why for path, why in islice(unreadable.items(), REPORT_LIMIT)},
        changed=changed,
        counts={
            "missing": plan.count(CREATE) - len(lacking),
            "mismatched": plan.count(REPLACE),
            "metadata_differences": plan.count(METADATA) + len(lacking),
            "extra": plan.count(DELETE, EXTRA),
            "unreadable": len(unreadable),
            "changed_at_source": len(changed) + more_changed,
        },
    )


def _both(change: Change) -> dict[str, list[str]]:
    return {
        name: [attribute(entry, name) for entry in (change.want, change.have) if entry is not None]
        for name in change.reasons
    }


def attribute(entry: Entry, name: str) -> str:
    """An attribute as people write it: modes in octal, times in seconds, extended attributes by their names."""
    if name == "mode":
        return f"{entry.mode:04o}"
    if name == "mtime":
        seconds, fraction = divmod(abs(entry.mtime), 1_000_000_000)
        return f"{'-' if entry.mtime < 0 else ''}{seconds}.{fraction:09d}"
    if name == "xattrs":
        return ", ".join(display(attribute) for attribute, _value in entry.xattrs)
    return str(getattr(entry, name))


_ATTRIBUTES = {
    "mode": "mode",
    "uid": "owner",
    "gid": "group",
    "mtime": "time",
    "xattrs": "extended attributes",
}


def _named(found: Parity) -> str:
    """The attributes that differ in words, of which there are some; all of them where not each difference is listed."""
    differing = {name for each in found.metadata.values() for name in each}
    if not differing <= set(_ATTRIBUTES) or found.true_counts()["metadata_differences"] > len(found.metadata):
        return "owner, mode, time or the like"
    *others, last = (word for name, word in _ATTRIBUTES.items() if name in differing)
    return f"{', '.join(others)} and {last}" if others else last


def sentence(found: Parity, metadata: str, extra: bool = False) -> str:
    """What doesn't match, in words that name the first paths of each kind, and nothing that is allowed."""
    words = {
        "missing": "missing at the target",
        "mismatched": "different",
        "unreadable": "unreadable",
    }
    if extra:
        words["extra"] = "only at the target"
    if metadata == "strict" and found.metadata:
        words["metadata_differences"] = f"different in {_named(found)}"
    parts = []
    lists, counts = found.lists(), found.true_counts()
    for name, what in words.items():
        items = lists[name]
        if items:
            names = ", ".join(item if isinstance(item, str) else str(item["path"]) for item in items[:3])
            parts.append(f"{counts[name]} {what} ({names}{', …' if len(items) > 3 else ''})")
    if gone := found.vanished:
        parts.append(
            f"{len(gone)} vanished at the source meanwhile ({', '.join(gone[:3])}{', …' * (len(gone) > 3)})"
        )
    return "; ".join(parts)
