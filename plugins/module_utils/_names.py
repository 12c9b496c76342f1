# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""File names are bytes; people read and type text. The way from one to the other."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from ._errors import UsageError

SHOWN = 3
"""How many paths a sentence names."""
SHOWN_BYTES = 1_000
"""How much of each: a deep path would be all that one sees of the sentence."""


def display(name: bytes) -> str:
    r"""`name` for people: printable UTF-8 as it is, all else as `\n`, `\\` or `\xNN`; never ambiguous."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    simple = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    if simple is not None:
        return simple
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def encode(text: str) -> bytes:
    """A name that a user typed, as bytes. Bytes that came in as surrogates go out as they were."""
    return text.encode("utf-8", "surrogateescape")


def shown(path: str) -> str:
    """A path that a user typed, for people."""
    return display(encode(path))


def to_json(name: bytes) -> str | dict[str, str]:
    """`name` as JSON: a string where it is UTF-8, else `{"base64": "..."}`."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(name).decode("ascii")}


def from_json(value: object) -> bytes:
    """The reverse of `to_json`. Raises ValueError for anything that `to_json` doesn't make."""
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, dict) and isinstance(value.get("base64"), str):
        return base64.b64decode(value["base64"], validate=True)
    raise ValueError("a name must be a string or {'base64': string}")


def relative(text: str, root: str, option: str) -> bytes:
    """A path below `root` that a user typed in `option`, as clean relative bytes.

    An absolute path is taken when it lies below `root`. Raises UsageError for anything that would
    leave the tree.
    """
    base = encode(root).rstrip(b"/") + b"/"
    try:
        name = encode(text).removeprefix(base)
    except UnicodeEncodeError:
        name = b""
    if not name or b"\0" in name:
        raise UsageError(f"{option}: {text!r} isn't a file name: give paths relative to {root}.")
    if name.startswith(b"/"):
        raise UsageError(f"{option}: {text!r} isn't below {root}: give paths relative to it.")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UsageError(
            f"{option}: {text!r} holds '..', which could leave {root}: give the path without it."
        )
    return b"/".join(parts) or b"."


def parents(path: bytes) -> list[bytes]:
    """The directories above a relative path, from the top: `a/b/c` has `a` and `a/b`."""
    return [path[: slash.start()] for slash in re.finditer(b"/", path)]


def some(paths: Sequence[bytes], count: int | None = None) -> str:
    """The first three of some paths for people, and how many more there are (`count` in all, if `paths` are fewer)."""
    names = ", ".join(display(path[:SHOWN_BYTES]) + "…" * (len(path) > SHOWN_BYTES) for path in paths[:SHOWN])
    more = (len(paths) if count is None else count) - SHOWN
    return f"{names} and {more} more" if more > 0 else names
