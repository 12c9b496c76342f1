# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Files of a run on this machine, such as its report: none may be another one, nor a part of what is copied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations, product

from ._endpoint import End
from ._errors import UsageError
from ._names import encode, shown
from ._selection import WORK_DIR, Selection, work_path


def require_different(files: Mapping[str, str]) -> None:
    """Raises UsageError where two of the files, by the options that name them, are the same."""
    for (option, path), (other, also) in combinations(files.items(), 2):
        if _same(_place(path), _place(also)):
            raise UsageError(
                f"{option} and {other} are the same file, {shown(path)}: give each one of its own."
            )


def require_outside(files: Mapping[str, str], ends: Mapping[str, End], selection: Selection) -> None:
    """Raises UsageError where one of the files would be a part of what is selected at an end on this machine."""
    for end, option in product(ends, files):
        if ends[end].place is not None:
            continue
        tree, path = ends[end].tree, files[option]
        name = _within(tree.path, path)
        if name is None:
            continue
        if work_path(name):
            raise UsageError(
                f"{option}: {shown(path)} is in {WORK_DIR.decode()} of the {end}, the collection's own work directory: "
                "choose another path."
            )
        if name == b"." or selection.holds(name):
            raise UsageError(
                f"{option}: {shown(path)} lies in the {end} {tree.where}, among what is selected there: choose a path "
                "outside of it."
            )


def _within(directory: str, path: str) -> bytes | None:
    """The name that a file has in a directory, by whichever way it lies there; None where it doesn't."""
    above, name = _place(path), ""
    while not _same(above, directory):
        parent, last = os.path.split(above)
        if parent == above:
            return None
        above, name = parent, os.path.join(last, name) if name else last
    return encode(name) or b"."


def _place(path: str) -> str:
    """Where a file is, or would be put: in the place of a symbolic link that has its name."""
    directory, name = os.path.split(os.path.expanduser(path))
    return os.path.join(os.path.realpath(directory), name)


def _same(one: str, other: str) -> bool:
    """Whether two paths lead to one thing, or would, were something there."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
