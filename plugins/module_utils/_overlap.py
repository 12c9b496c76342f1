# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A source and a target of which one lies in the other: a copy would grow into itself, or delete what it is made from.

Two rules tell. On one machine a directory has the same inode in every container and by every path. Elsewhere it is
known by its names. These also last from one copy to the next; the number of a volume's device may be another's by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from ._errors import UsageError
from ._tree import Facts


@dataclass(frozen=True)
class Origin:
    """What a tree is, in words that are the same for each way to it: a path, and the claim, pod or machine it is in."""

    path: str
    holder: str

    def __str__(self) -> str:
        return f"{self.path} {self.holder}"


def require_apart(source: str, target: str, there: Facts, here: Facts) -> None:
    """Raises UsageError where the looks at source and target, which are called so, say that one lies in the other."""
    _refuse(source, target, _inode_in(here, there), _inode_in(there, here))


def require_apart_by_name(source: str, target: Origin) -> None:
    """Raises UsageError where a source with the origin `source`, as a text, and the target lie in one another."""
    path, holder, rest = source.rpartition(f" {target.holder}")
    if holder and not rest:
        ours, theirs = (PurePosixPath("/", each) for each in (target.path, path))
        _refuse(source, str(target), ours.is_relative_to(theirs), theirs.is_relative_to(ours))


def _inode_in(inner: Facts, outer: Facts) -> bool:
    return bool(outer.volume) and outer.volume in (inner.volume, *inner.above)


def _refuse(source: str, target: str, target_in_source: bool, source_in_target: bool) -> None:
    if target_in_source and source_in_target:
        raise UsageError(f"{source} and {target} are the same directory: choose another target.")
    if target_in_source:
        raise UsageError(f"The target {target} lies in the source {source}: choose another path.")
    if source_in_target:
        raise UsageError(f"The source {source} lies in the target {target}: choose another path.")
