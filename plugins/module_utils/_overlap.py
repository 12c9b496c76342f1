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

from ._entry import DIR
from ._errors import UsageError
from ._manifest import Manifest
from ._row import number
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


def require_apart_inside(
    source: str, target: str, there: Facts, here: Facts, ours: Manifest, theirs: Manifest
) -> None:
    """The same by what walks found in them, `ours` at the source.

    A container that has a part of a volume mounted doesn't see what is above that.
    """
    _refuse(source, target, _found_in(here, there, ours), _found_in(there, here, theirs))


def require_apart_by_name(source: str, target: Origin) -> None:
    """Raises UsageError where a source with the origin `source`, as a text, and the target lie in one another."""
    path, holder, rest = source.rpartition(f" {target.holder}")
    if holder and not rest:
        ours, theirs = (PurePosixPath("/", each) for each in (target.path, path))
        _refuse(source, str(target), ours.is_relative_to(theirs), theirs.is_relative_to(ours))


def _inode_in(inner: Facts, outer: Facts) -> bool:
    return bool(outer.volume) and outer.volume in (inner.volume, *inner.above)


def _found_in(inner: Facts, outer: Facts, walked: Manifest) -> bool:
    """Whether the directory `inner` is among what was `walked` below `outer`, on the same machine."""
    boot, device, inode = (inner.volume or "::").split(":")
    machine, root, _inode = (outer.volume or "::").split(":")
    if not boot or boot != machine:
        return False
    # There are file systems that give just one link to a directory. Then no device is noted.
    on = f"coalesce(dev, {number(int(root))!r}) = {number(int(device))!r}"
    same = f"kind = '{DIR}' AND path <> x'2e' AND ino = {number(int(inode))!r} AND {on}"
    return next(walked.paths(same), None) is not None


def _refuse(source: str, target: str, target_in_source: bool, source_in_target: bool) -> None:
    if target_in_source and source_in_target:
        raise UsageError(f"{source} and {target} are the same directory: choose another target.")
    if target_in_source:
        raise UsageError(f"The target {target} lies in the source {source}: choose another path.")
    if source_in_target:
        raise UsageError(f"The source {source} lies in the target {target}: choose another path.")
