# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Which paths below an endpoint's directory a copy is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ._errors import UsageError
from ._names import display, encode, relative

WORK_DIR = b".kubeferry"
"""Directory below a target that holds what is on its way; never part of a tree."""

LONG = rb"\[:.*?:\]|\[\..*?\.\]|\[=.*?=\]|\\."
"""Parts of a set in a shell pattern that are longer than one character: classes, and what a backslash comes before."""
ITEM = re.compile(LONG + rb"|.", re.DOTALL)
SET = re.compile(rb"\[([!^]?+)(\]?+(?:%b|[^\]\\])*)\]" % LONG, re.DOTALL)
CLASSES = {
    b"[:alnum:]": b"0-9A-Za-z",
    b"[:alpha:]": b"A-Za-z",
    b"[:blank:]": rb" \t",
    b"[:cntrl:]": rb"\x00-\x1f\x7f",
    b"[:digit:]": b"0-9",
    b"[:graph:]": b"!-~",
    b"[:lower:]": b"a-z",
    b"[:print:]": b" -~",
    b"[:punct:]": rb"!-/:-@\[-`{-~",
    b"[:space:]": rb" \t-\r",
    b"[:upper:]": b"A-Z",
    b"[:xdigit:]": b"0-9A-Fa-f",
}


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
    include: tuple[re.Pattern[bytes], ...] = ()
    exclude: tuple[re.Pattern[bytes], ...] = ()

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
        return repr((self.files, [p.pattern for p in self.include], [p.pattern for p in self.exclude]))

    def starts(self) -> tuple[bytes, ...]:
        """Where to start to walk down, relative to the root (`.` for all)."""
        return self.files or (b".",)

    def parents(self) -> tuple[bytes, ...]:
        """Directories above `files`: needed at the target, but not selected themselves."""
        found: dict[bytes, None] = {}
        for name in self.files:
            parts = name.split(b"/")
            for depth in range(1, len(parts)):
                found[b"/".join(parts[:depth])] = None
        return tuple(found)

    def holds(self, path: bytes) -> bool:
        """Whether a path found in any way is selected, by `files` and by the patterns."""
        return (not self.files or not self._named.isdisjoint(_chain(path))) and self.takes(path)

    def takes(self, path: bytes) -> bool:
        """Whether the path is selected by the patterns (`files` is applied by where the walk starts)."""
        if work_path(path):
            return False
        if path == b".":
            return self.whole
        chain = _chain(path) if self.include or self.exclude else ()
        if self.include and not any(p.fullmatch(part) for p in self.include for part in chain):
            return False
        return not any(p.fullmatch(part) for p in self.exclude for part in chain)

    def reaches(self, path: bytes) -> bool:
        """Whether something that is selected may lie at the path or below it, which nobody could look at."""
        if path == LOST_AND_FOUND:
            return self.takes(path)
        return not (work_path(path) or any(p.fullmatch(part) for p in self.exclude for part in _chain(path)))


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
        include=tuple(_pattern(text, "include") for text in include or ()),
        exclude=tuple(_pattern(text, "exclude") for text in exclude or ()),
    )


def _chain(path: bytes) -> tuple[bytes, ...]:
    """The path and its parents: `a/b/c` gives `a`, `a/b`, `a/b/c`."""
    parts = path.split(b"/")
    return tuple(b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def _pattern(text: str, option: str) -> re.Pattern[bytes]:
    """A shell pattern over the relative path, as a regular expression.

    `*` and `?` stay within one name, `**` crosses directories, `[...]` is a set. A pattern without a
    slash matches a name at any depth; a leading slash ties it to the root.
    """
    try:
        glob = encode(text)
    except UnicodeEncodeError as exc:
        raise UsageError(f"{option}: {text!r} isn't a valid pattern ({exc.reason}).") from exc
    if not glob.strip(b"/"):
        raise UsageError(f"{option}: {text!r} matches nothing: give a pattern such as '*.log' or 'cache/**'.")
    anchored = b"/" in glob.rstrip(b"/")
    glob = glob.strip(b"/")
    out = b"" if anchored else b"(?:.*/)?"
    position = 0
    try:
        while position < len(glob):
            piece, position = _translate(glob, position)
            out += piece
        return re.compile(out, re.DOTALL)
    except re.error as exc:
        raise UsageError(f"{option}: {text!r} isn't a valid pattern ({exc}).") from exc


def _translate(glob: bytes, position: int) -> tuple[bytes, int]:
    """The regular expression for the part of `glob` at `position`, and where the next part starts."""
    if glob.startswith(b"**/", position):
        return b"(?:.*/)?", position + 3
    if glob.startswith(b"**", position):
        return b".*", position + 2
    char = glob[position : position + 1]
    if char == b"*":
        return b"[^/]*", position + 1
    if char == b"?":
        return b"[^/]", position + 1
    if char == b"\\" and position + 1 < len(glob):
        return re.escape(glob[position + 1 : position + 2]), position + 2
    if found := SET.match(glob, position):
        body = ITEM.sub(_item, found[2]).replace(b"--", rb"-\-")
        return b"(?!/)[" + (b"^" if found[1] else b"") + body + b"]", found.end()
    return re.escape(char), position + 1


def _item(found: re.Match[bytes]) -> bytes:
    """One part of a set, as it is written in a regular expression's. Raises re.error where it isn't known."""
    part = found[0]
    if len(part) == 1:
        return b"\\" + part if part in rb"\[]&~|" else part
    if part.startswith(b"\\"):
        return re.escape(part[1:])
    if part not in CLASSES:
        raise re.error(f"{display(part)} isn't known")
    return CLASSES[part]
