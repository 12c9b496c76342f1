# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell patterns: what they mean, told by regular expressions, and names that were made to keep them busy."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubeferry.pvc.plugins.module_utils._pattern import MOST_PLACES, Pattern

MEANT = {
    "**/": b"(?:.*/)?",
    "**": b".*",
    "*": b"[^/]*",
    "?": b"[^/]",
    "/": b"/",
    "a": b"a",
    "\\*": rb"\*",
    "[ab]": b"[ab]",
    "[!a]": b"(?!/)[^a]",
}
PARTS = re.compile(r"\*\*/|\*\*|\\\*|\[.*?\]|.")


def expected(glob, path):
    """What the regular expression of a pattern says about a path and the directories above it."""
    meant = b"" if "/" in glob.rstrip("/") else MEANT["**/"]
    meant += b"".join(MEANT[part] for part in PARTS.findall(glob.strip("/")))
    names = path.split(b"/")
    above = (b"/".join(names[:depth]) for depth in range(1, len(names) + 1))
    return any(re.fullmatch(meant, each, re.DOTALL) for each in above)


@given(
    st.lists(st.sampled_from(list(MEANT)), min_size=1, max_size=7)
    .map("".join)
    .filter(lambda g: g.strip("/")),
    st.lists(st.text("ab*", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join),
)
def test_a_pattern_means_what_its_regular_expression_means(glob, path):
    assert Pattern(glob, "include").matches(path.encode()) == expected(glob, path.encode())


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*_*_*_*_*_*_*.log", b"_" * 150),
        ("**_**_**_**_**_**.log", b"_" * 4_000),
        ("**_**/_**/_**/_**/.log", b"_/" * 2_000),
        ("*/**/*/**/*/**/*.log", b"a/" * 2_000 + b"a"),
    ],
)
def test_no_name_keeps_a_pattern_busy(glob, path):
    assert not Pattern(glob, "include").matches(path)


def test_no_names_make_a_pattern_grow():
    pattern = Pattern("*a" + "?" * 12 + "b", "include")
    for number in range(3_000):
        name = f"{number:012b}".replace("0", "a").replace("1", "c").encode()
        assert not pattern.matches(name)
        assert pattern.matches(b"a" + name + b"b")
        assert len(pattern._known) <= MOST_PLACES
