# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list, or the text that a survey has in its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any


def lines(given: object) -> object:
    """The lines of a text that aren't blank, with their blanks; a list, or what isn't one, as it is."""
    if given is None:
        return []
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        return given
    return [line for line in re.split(r"[\r\n]+", str(given)) if line.strip()]


class FilterModule:
    """Registers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"lines": lines}
