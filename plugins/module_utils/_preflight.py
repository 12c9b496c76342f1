# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What must be true of both ends before anything is touched."""

from __future__ import annotations

from itertools import chain

from ._beside import Beside
from ._entry import DIR
from ._errors import EndpointError
from ._manifest import Manifest
from ._names import display
from ._overlap import require_apart
from ._plan import CREATE, Plan
from ._tree import Facts, SourceTree, TargetTree


def preflight(source: SourceTree, target: TargetTree) -> tuple[Facts, Facts]:
    """Look at both ends before anything is touched. Raises EndpointError, and UsageError for two that overlap."""
    with Beside(target.facts) as looking:
        there, here = source.facts(), looking.result()
    require_directory(there, source.where)
    if not there.readable:
        raise EndpointError(
            f"{source.where} can't be read by user {there.rights.uid}: run as a user who may read it."
        )
    if here.kind == "missing" and here.above and not here.writable:
        raise EndpointError(
            f"{target.where} doesn't exist and can't be made by user {here.rights.uid}: mount its file system "
            "writable, run as another user, or correct the path."
        )
    if here.kind != "missing" or not here.writable:
        require_directory(here, target.where)
    if not here.writable:
        raise EndpointError(
            f"{target.where} can't be written to by user {here.rights.uid}: mount it writable, or run as another."
        )
    require_apart(source.where, target.where, there, here)
    return there, here


def require_directory(facts: Facts, where: str) -> None:
    why = {
        "missing": "doesn't exist: correct the path",
        "removed": "was removed, and what is still mounted there isn't it any more: bring it back, and restart what "
        "has it mounted",
        "block": "is a block device, no file system: only claims with volumeMode Filesystem can be copied",
        "other": "isn't a directory: give the directory and name the file in files",
    }.get(facts.kind)
    if why is not None:
        raise EndpointError(f"{where} {why}.")


def require_one_volume(plan: Plan, target: Manifest, facts: Facts, where: str) -> None:
    """Raises EndpointError where something would be put onto, or removed from, what is mounted in the target.

    Nothing can be renamed into it, and what is copied into it appears there piece by piece. And where it is mounted
    can't be removed: all that it holds would go for nothing. The device tells of one whose mount point nobody told.
    """
    device = facts.volume.split(":")[1:2]
    others = f"kind = '{DIR}' AND dev IS NOT NULL AND dev <> {int(device[0])}" if device else "0"
    for path in chain(facts.mounts, target.paths(others)):
        if plan.touches(path):
            raise EndpointError(
                f"{display(path)} in {where} is mounted there, or is on another volume than the rest, which would be "
                "copied into or emptied: exclude it, and copy what belongs there by itself."
            )


def require_room(plan: Plan, facts: Facts, where: str, batch: int) -> None:
    """Raises EndpointError where the plan needs more than the target has; `batch` bytes are replaced at a time."""
    replaced, new = plan.replaced_bytes(), plan.room()
    needed = max(0, new - replaced) + min(batch, replaced)
    if facts.free_bytes is not None and needed > facts.free_bytes:
        raise EndpointError(
            f"{where} has {facts.free_bytes} bytes free and the copy needs {needed}: "
            "make room or take a larger volume; nothing was copied."
        )
    made = plan.count(CREATE)
    if facts.free_inodes is not None and made > facts.free_inodes:
        raise EndpointError(
            f"{where} has room for {facts.free_inodes} more files and the copy makes {made}: "
            "take a volume with more inodes; nothing was copied."
        )
