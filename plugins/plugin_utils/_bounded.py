# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Any value of a result as plain JSON data of bounded size, without what stands behind a secret name."""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring_ascii

from ._redact import MASK, Redactor, with_kinds

# One event stays far below what the server accepts. Characters are those of the JSON that is made of it, where a letter
# beyond ASCII takes six or twelve.
LONGEST_TEXT = 4_000
LONGEST_LIST = 200
DEEPEST = 8
MOST_CHARACTERS = 24_000
# What any value takes with its punctuation, or a list of lists of nothing would have no end.
LEAST = 8
CUT = "…"
# Of a result: arguments, facts and variables (where secrets live), differences (contents of files), tracebacks, and
# what a module said that could not be read, which may be any of them.
UNTOLD = frozenset(
    ("invocation", "ansible_facts", "add_host", "diff", "exception", "module_stdout", "module_stderr")
)


class Bounded:
    """One event's worth of data; says afterwards whether anything was taken out or cut."""

    def __init__(self, redactor: Redactor, characters: int = MOST_CHARACTERS) -> None:
        self._redactor = redactor
        self._left = characters
        self.redacted = False
        self.truncated = False

    @property
    def room(self) -> bool:
        """Whether anything more has a place."""
        return self._left > 0

    def text(self, value: object, longest: int = LONGEST_TEXT) -> str:
        text = value if isinstance(value, str) else str(value)
        if len(text) <= longest and (size := len(encode_basestring_ascii(text))) <= self._left:
            self._left -= max(size, LEAST)
            return text
        kept = self._redactor.cut(text, max(0, min(longest, self._left)))
        self.redacted |= not text.startswith(kept)
        self.truncated = True
        while kept and len(encode_basestring_ascii(kept)) > self._left:
            kept = kept[: len(kept) // 2]
        self._left -= max(len(encode_basestring_ascii(kept)), LEAST)
        return kept + CUT

    def in_words(self, value: object, longest: int = LONGEST_TEXT) -> str:
        """Return any value as a text. It is searched before, while each text in it is as it was."""
        if not isinstance(value, str):
            value = self._redactor.scrubbed(self.value(value, depth=3))
        return self.text(value, longest)

    def value(self, value: object, depth: int = DEEPEST) -> object:
        """Return the value as dict, list, str, int, float, bool or None."""
        if isinstance(value, str):
            return self.text(value)
        self._left -= LEAST
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            number = _number(value)
            return self.mask(number) if self._redactor.is_known(str(number)) else number
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple)):
            return self._list(value, depth)
        return f"<{type(value).__name__}>"

    def _mapping(self, value: Mapping[object, object], depth: int) -> object:
        if depth <= 0 or self._left <= 0:
            self.truncated = True
            return CUT
        kept: dict[str, object] = {}
        value = with_kinds(value)
        hidden = self._redactor.hidden_fields(value)
        untold = UNTOLD if "changed" in value else ()
        for key, inner in value.items():
            if len(kept) >= LONGEST_LIST or self._left <= 0:
                self.truncated = True
                break
            name = key if isinstance(key, str) else str(key)
            if name in untold:
                continue
            if len(name) > 256:
                name, self.truncated = self._redactor.cut(name, 256) + CUT, True
            self._left -= len(encode_basestring_ascii(name))
            if name in hidden and isinstance(inner, Mapping):
                kept[name] = {
                    self.text(part, 256): self.mask(secret) for part, secret in inner.items() if self.room
                }
            elif name in hidden or self.hides(name, inner):
                kept[name] = self.mask(inner)
            else:
                kept[name] = self.value(inner, depth - 1)
        return kept

    def hides(self, name: str, value: object) -> bool:
        """Whether a value stands behind a secret name; a flag or nothing at all is no secret."""
        return self._redactor.is_secret_key(name) and not (
            value is None or value == "" or isinstance(value, bool)
        )

    def mask(self, value: object) -> str:
        self._redactor.learn(value)
        self.redacted = True
        self._left -= len(MASK) + LEAST
        return MASK

    def _list(self, value: list[object] | tuple[object, ...], depth: int) -> object:
        if depth <= 0 or self._left <= 0:
            self.truncated = True
            return CUT
        kept: list[object] = []
        secret_follows = False
        for inner in value:
            if len(kept) >= LONGEST_LIST or self._left <= 0:
                self.truncated = True
                break
            kept.append(
                self.mask(inner)
                if secret_follows and isinstance(inner, str)
                else self.value(inner, depth - 1)
            )
            secret_follows = isinstance(inner, str) and self._redactor.is_secret_option(inner)
        return kept


def _number(value: float) -> float | str:
    """Return what JavaScript's numbers hold exactly, and text of all others."""
    if isinstance(value, int):
        # Python refuses to write out thousands of digits.
        return int(value) if abs(value) < 2**53 else str(value) if value.bit_length() < 1_000 else "<int>"
    return value if value - value == 0 else str(value)
