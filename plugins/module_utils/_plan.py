# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What must be done to make the target equal the source: the one place where two trees are compared.

`changed`, check mode, diff mode and the parity report all come from a plan. A plan without changes is
the proof that the two match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ._errors import EndpointError
from ._manifest import BLOCK, CHAR, DIR, FILE, SYMLINK, Entry, Manifest, group_links
from ._names import display

CREATE, REPLACE, METADATA, DELETE = "create", "replace", "metadata", "delete"


LOST_AND_FOUND = b"lost+found"
"""Made by the file system for itself at the root of a volume: neither extra nor ever deleted."""


@dataclass(frozen=True)
class Rules:
    """What counts as a difference besides type, content and link target.

    `precision` in nanoseconds is the unit in which modification times are compared: the coarser one
    of what the two ends can tell.
    """

    mode: bool = True
    owner: bool = True
    mtime: bool = True
    precision: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One path to act on: `reasons` say what differs; `want` is the source's entry, `have` the target's."""

    path: bytes
    action: str
    reasons: tuple[str, ...]
    want: Entry | None = None
    have: Entry | None = None


@dataclass
class Plan:
    """All changes in the order of the path's bytes, and what was found on the way.

    `extra` are paths that only the target has (planned for deletion only where asked). `matched` is
    the number of the source's entries that need nothing.
    """

    changes: list[Change] = field(default_factory=list)
    extra: list[bytes] = field(default_factory=list)
    matched: int = 0

    def by_action(self, *actions: str) -> list[Change]:
        return [change for change in self.changes if change.action in actions]

    def content(self) -> list[Entry]:
        """Source entries whose bytes must be moved."""
        wanted = (change.want for change in self.by_action(CREATE, REPLACE))
        return [entry for entry in wanted if entry is not None and needs_content(entry)]

    def content_bytes(self) -> int:
        return sum(entry.size for entry in self.content())


def needs_content(entry: Entry | None) -> bool:
    """Whether bytes have to be moved to make this entry (further hard links need none)."""
    return entry is not None and entry.kind == FILE and not entry.hardlink


def differences(want: Entry, have: Entry, rules: Rules) -> tuple[str, ...]:
    """What differs between the source's entry and the target's, most important first; empty if they match.

    Digests must have been taken on both sides when type and size are equal: without one, the content
    counts as different.
    """
    if want.kind != have.kind:
        return ("type",)
    if want.implied:
        return ()
    found = [*_content_differences(want, have)]
    if rules.mode and want.kind != SYMLINK and want.mode != have.mode:
        found.append("mode")
    if rules.owner:
        found += [name for name in ("uid", "gid") if getattr(want, name) != getattr(have, name)]
    if rules.mtime and want.mtime // rules.precision != have.mtime // rules.precision:
        found.append("mtime")
    return tuple(found)


REPLACING = frozenset({"type", "size", "content", "link", "hardlink", "device"})
"""The differences that can't be mended by setting attributes."""


def _content_differences(want: Entry, have: Entry) -> Iterator[str]:
    if want.kind == FILE:
        if want.size != have.size:
            yield "size"
        elif not want.digest or want.digest != have.digest:
            yield "content"
        if want.hardlink != have.hardlink:
            yield "hardlink"
    elif want.kind == SYMLINK and want.link != have.link:
        yield "link"
    elif want.kind in (CHAR, BLOCK) and want.device != have.device:
        yield "device"


def undecided(source: Manifest, target: Manifest) -> list[bytes]:
    """Regular files of equal size on both sides: only their digests can tell whether they match."""
    pairs = ((entry, target.get(entry.path)) for entry in source if entry.kind == FILE)
    return [
        want.path for want, have in pairs if have is not None and have.kind == FILE and have.size == want.size
    ]


def make_plan(source: Manifest, target: Manifest, rules: Rules, delete: bool = False) -> Plan:
    """Compare two manifests. Raises EndpointError when a directory with content stands in the way."""
    shared = {path: target.entries[path] for path in source.entries if path in target.entries}
    group_links(shared)
    plan = Plan()
    for want in source:
        have = shared.get(want.path)
        reasons = ("missing",) if have is None else differences(want, have, rules)
        if not reasons:
            plan.matched += 1
            continue
        action = CREATE if have is None else METADATA if REPLACING.isdisjoint(reasons) else REPLACE
        plan.changes.append(Change(want.path, action, reasons, want, have))
    known = source.entries.keys() | {LOST_AND_FOUND}
    plan.extra = [entry.path for entry in target if entry.path not in known and not entry.implied]
    if delete:
        plan.changes += [Change(path, DELETE, ("extra",), have=target.entries[path]) for path in plan.extra]
    else:
        _refuse_conflicts(plan)
    return plan


def _refuse_conflicts(plan: Plan) -> None:
    """A directory that must give way to something else would take its files with it: only if asked."""
    doomed = {c.path + b"/" for c in plan.by_action(REPLACE) if c.have is not None and c.have.kind == DIR}
    if doomed:
        for path in plan.extra:
            parents = (path[: index + 1] for index, byte in enumerate(path) if byte == 0x2F)
            if any(parent in doomed for parent in parents):
                raise EndpointError(
                    f"{display(path)} lies in a directory of the target where the source has no directory: "
                    "move it away, or set delete to true to have it removed."
                )


def batches(changes: Iterable[Change], max_bytes: int, max_entries: int) -> Iterator[list[Change]]:
    """Slices of the creating and replacing changes, in order, of bounded size (a larger file is a slice of its own).

    A directory always comes before what lies in it.
    """
    batch: list[Change] = []
    size = 0
    for change in changes:
        if change.want is None or change.action not in (CREATE, REPLACE):
            continue
        weight = change.want.size if needs_content(change.want) else 0
        if batch and (size + weight > max_bytes or len(batch) >= max_entries):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += weight
    if batch:
        yield batch
