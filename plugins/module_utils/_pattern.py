# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Shell patterns over paths.

A regular expression could be kept busy for ever by a name that was made for it. So a pattern is an automaton: it looks
at each byte of a path once, whatever the path is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ._errors import UsageError
from ._names import display, encode

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
SLASH = 0x2F
ANY = bytes(range(256))
IN_NAME = ANY.replace(b"/", b"")
MOST_PLACES = 250
"""Sets of places that are kept in memory: paths could be made up that lead to ever other ones."""


class Place(NamedTuple):
    """A place in a pattern.

    There are bytes that leave one there, and bytes that lead to the next one; `free` is how much further one is without
    a byte.
    """

    stays: bytes = b""
    goes: bytes = b""
    free: tuple[int, ...] = ()


STAR = (Place(stays=IN_NAME, free=(1,)),)
DEEP = (Place(stays=ANY, free=(1,)),)
DIRECTORIES = (Place(free=(1, 2)), Place(stays=ANY, goes=b"/"))


class Pattern:
    """A shell pattern over the relative path. Safe to use from several threads at once.

    `*` and `?` stay within one name, `**` crosses directories, `[...]` is a set. A pattern without a
    slash matches a name at any depth; a leading slash ties it to the root.
    """

    def __init__(self, text: str, option: str) -> None:
        """Raises UsageError naming the option and the value."""
        try:
            self.glob = encode(text)
        except UnicodeEncodeError as exc:
            raise UsageError(f"{option}: {text!r} isn't a valid pattern ({exc.reason}).") from exc
        if not self.glob.strip(b"/"):
            raise UsageError(
                f"{option}: {text!r} matches nothing: give a pattern such as '*.log' or 'cache/**'."
            )
        try:
            self._places = _places(self.glob)
        except re.error as exc:
            raise UsageError(f"{option}: {text!r} isn't a valid pattern ({exc}).") from exc
        self._known: dict[int, _Places] = {}
        self._start = self.reached(1)

    def matches(self, path: bytes) -> bool:
        """Whether the pattern matches the path, or a directory above it."""
        places = self._start
        for name in path.split(b"/"):
            for byte in name:
                places = places[byte]
            if places.end:
                return True
            places = places[SLASH]
        return False

    def reached(self, bits: int) -> _Places:
        """The set of places for the ones in `bits`, and for those that one is at without a byte more."""
        for number, place in enumerate(self._places):
            if bits >> number & 1:
                for further in place.free:
                    bits |= 1 << number + further
        found = self._known.get(bits)
        if found is None:
            if len(self._known) >= MOST_PLACES:
                self._forget()
            found = self._known[bits] = _Places(self, bits, bool(bits >> len(self._places) & 1))
        return found

    def after(self, bits: int, byte: int) -> _Places:
        """Where one is after one more byte."""
        reached = 0
        for number, place in enumerate(self._places):
            if bits >> number & 1:
                reached |= (byte in place.stays) << number | (byte in place.goes) << number + 1
        return self.reached(reached)

    def _forget(self) -> None:
        # They refer to each other.
        for places in list(self._known.values()):
            places.clear()
        self._known = {}


class _Places(dict[int, "_Places"]):
    """Where in a pattern one may be after some bytes: `places[byte]` is where after one more."""

    __slots__ = ("_bits", "_pattern", "end")

    def __init__(self, pattern: Pattern, bits: int, end: bool) -> None:
        super().__init__()
        self.end = end
        self._pattern = pattern
        self._bits = bits

    def __missing__(self, byte: int) -> _Places:
        found = self[byte] = self._pattern.after(self._bits, byte)
        return found


def _places(glob: bytes) -> tuple[Place, ...]:
    """The places of a pattern. Raises re.error for a set that makes no sense."""
    found: tuple[Place, ...] = () if b"/" in glob.rstrip(b"/") else DIRECTORIES
    glob = glob.strip(b"/")
    position = 0
    while position < len(glob):
        part, position = _part(glob, position)
        found += part
    return found


def _part(glob: bytes, position: int) -> tuple[tuple[Place, ...], int]:
    """The places for the part of `glob` at `position`, and where the next part starts."""
    if glob.startswith(b"**/", position):
        return DIRECTORIES, position + 3
    if glob.startswith(b"**", position):
        return DEEP, position + 2
    char = glob[position : position + 1]
    if char == b"*":
        return STAR, position + 1
    if char == b"?":
        return (Place(goes=IN_NAME),), position + 1
    if char == b"\\" and position + 1 < len(glob):
        return (Place(goes=glob[position + 1 : position + 2]),), position + 2
    if found := SET.match(glob, position):
        return (Place(goes=_members(found)),), found.end()
    return (Place(goes=char),), position + 1


def _members(found: re.Match[bytes]) -> bytes:
    """The bytes that are in a set. A slash never is."""
    body = ITEM.sub(_item, found[2]).replace(b"--", rb"-\-")
    return b"".join(re.findall(b"[" + (b"^" if found[1] else b"") + body + b"]", IN_NAME, re.DOTALL))


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
