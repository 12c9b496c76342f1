# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Which paths below an endpoint's directory a copy is about."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ._errors import UsageError
from ._names import parents, relative
from ._pattern import Pattern

WORK_DIR = b".kubeferry"
"""Directory below a target that holds what is on its way; never part of a tree."""

LOST_AND_FOUND = b"lost+found"
"""Made by the file system for itself at the root of a volume, and what a check of it finds is put there: neither extra
nor ever deleted."""


def work_path(path: bytes) -> bool:
    """Whether `path` is the work directory or lies in it."""
    return path == WORK_DIR or path.startswith(WORK_DIR + b"/")


@dataclass(frozen=True)
class Selection:
    """The paths that are copied or compared.

    `files` are relative paths, each with all that lies below it; empty means the whole tree. `include`
    and `exclude` hold compiled patterns; a path is taken when an include pattern matches it or one of
    its parents (or there is none) and no exclude pattern does.
    """

    files: tuple[bytes, ...] = ()
    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()

    @cached_property
    def _named(self) -> frozenset[bytes]:
        return frozenset(self.files)

    @property
    def whole(self) -> bool:
        """Whether the tree's own root is part of the selection."""
        return not self.files and not self.include

    @property
    def everything(self) -> bool:
        """Whether all of the tree is selected."""
        return not (self.files or self.include or self.exclude)

    def told(self) -> str:
        """All that makes up this selection, the same text for the same selection."""
        return repr((self.files, [p.glob for p in self.include], [p.glob for p in self.exclude]))

    def starts(self) -> tuple[bytes, ...]:
        """Where to start to walk down, relative to the root (`.` for all)."""
        return self.files or (b".",)

    @cached_property
    def alike(self) -> list[list[bytes]]:
        """Paths that lead to one thing where the file system doesn't tell upper from lower case, or accents."""
        groups: dict[str, list[bytes]] = {}
        for path in dict.fromkeys((*self.files, *self.parents())):
            groups.setdefault(unicodedata.normalize("NFKC", os.fsdecode(path)).casefold(), []).append(path)
        return [group for group in groups.values() if len(group) > 1]

    def parents(self) -> tuple[bytes, ...]:
        """Directories above `files`: needed at the target, but not selected themselves."""
        return tuple(dict.fromkeys(above for name in self.files for above in parents(name)))

    def holds(self, path: bytes) -> bool:
        """Whether a path found in any way is selected, by `files` and by the patterns."""
        return (not self.files or not self._named.isdisjoint(_chain(path))) and self.takes(path)

    def takes(self, path: bytes) -> bool:
        """Whether the path is selected by the patterns (`files` is applied by where the walk starts)."""
        if work_path(path):
            return False
        if path == b".":
            return self.whole
        return self._chosen(path)

    @property
    def misses_work(self) -> bool:
        """Whether the work directory would be selected, had it any other name."""
        return not self.files and self._chosen(WORK_DIR)

    def _chosen(self, path: bytes) -> bool:
        if self.include and not any(pattern.matches(path) for pattern in self.include):
            return False
        return not self._excludes(path)

    def _excludes(self, path: bytes) -> bool:
        return any(pattern.matches(path) for pattern in self.exclude)

    def reaches(self, path: bytes) -> bool:
        """Whether something that is selected may lie at the path or below it, which nobody could look at."""
        if path == LOST_AND_FOUND:
            return self.takes(path)
        return not (work_path(path) or self._excludes(path))


def select(
    root: str,
    files: Sequence[str] | None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
) -> Selection:
    """The selection that a user typed. Raises UsageError naming the option and the value."""
    if files is not None and not files:
        raise UsageError("files: the list is empty: leave it out to take the whole tree.")
    names = tuple(dict.fromkeys(relative(name, root, "files") for name in files or ()))
    for name in names:
        if work_path(name):
            raise UsageError(
                f"files: {WORK_DIR.decode()} is the collection's own work directory: leave it out."
            )
    return Selection(
        files=() if b"." in names else names,
        include=tuple(Pattern(text, "include") for text in include or ()),
        exclude=tuple(Pattern(text, "exclude") for text in exclude or ()),
    )


def _chain(path: bytes) -> tuple[bytes, ...]:
    """The path and its parents: `a/b/c` gives `a`, `a/b`, `a/b/c`."""
    return (*parents(path), path)
