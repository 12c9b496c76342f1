# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which paths a list of files and patterns selects."""

from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import select

ROOT = "/mnt/pvc-0"


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.log", [b"a.log", b"x/a.log", b"x.log/below", b"a\n.log"], [b"a.log2", b"a.lo"]),
        ("/*.log", [b"a.log"], [b"x/a.log"]),
        ("x/*.log", [b"x/a.log"], [b"y/x/a.log", b"x/y/a.log"]),
        ("x/**/*.log", [b"x/a.log", b"x/y/z/a.log"], [b"a.log"]),
        ("**/cache", [b"cache", b"a/cache/x"], [b"cached"]),
        ("cache/**", [b"cache/a", b"cache/a/b"], [b"cache"]),
        ("cache/", [b"cache", b"x/cache/y"], [b"cached"]),
        ("a?c", [b"abc", b"a\xffc"], [b"ac", b"a/c", b"abbc"]),
        ("[ab]x", [b"ax", b"bx"], [b"cx", b"[ab]x"]),
        ("[!ab]x", [b"cx", b"!x"], [b"ax"]),
        ("[^ab]x", [b"cx"], [b"bx"]),
        ("[]a]x", [b"]x", b"ax"], [b"bx"]),
        ("[!]a]x", [b"bx"], [b"]x", b"ax"]),
        ("[a-c]x", [b"bx"], [b"dx", b"-x"]),
        ("[[&~|]x", [b"[x", b"&x", b"~x", b"|x"], [b"ax"]),
        ("[a&&b]x", [b"ax", b"&x"], [b"cx"]),
        ("a[+-9]b", [b"a,b", b"a5b"], [b"a/b"]),
        ("a[!x]b", [b"ayb"], [b"a/b"]),
        ("[[:digit:]_]x", [b"1x", b"_x"], [b":x", b"dx", b"[x"]),
        ("[![:alpha:]]x", [b"1x"], [b"ax", b"/x"]),
        ("[[:punct:][:space:]]x", [b"!x", b"~x", b"[x", b" x", b"\tx"], [b"ax", b"1x"]),
        ("a[\\]]b", [b"a]b"], [b"ab", b"a\\b", b"a\\]b"]),
        ("a[\\-x\\\\]b", [b"a-b", b"axb", b"a\\b"], [b"a]b", b"aab"]),
        ("[--0]x", [b"-x", b"0x"], [b"ax"]),
        ("[!]", [b"[!]"], [b"!", b"a"]),
        ("[x", [b"[x"], [b"x"]),
        ("[]", [b"[]"], [b""]),
        ("\\*x", [b"*x"], [b"ax"]),
        ("a\\", [b"a\\"], [b"a"]),
        ("(a|b)+.", [b"(a|b)+."], [b"a", b"ab"]),
        ("a\nb", [b"a\nb"], [b"a"]),
        ("\udcff*", [b"\xffabc"], [b"abc"]),
    ],
)
def test_patterns(pattern, taken, left):
    included, excluded = select(ROOT, None, [pattern]), select(ROOT, None, None, [pattern])
    assert [path for path in taken if not included.takes(path)] == []
    assert [path for path in left if included.takes(path)] == []
    assert [path for path in taken if excluded.takes(path)] == []
    assert [path for path in left if not excluded.takes(path)] == []


def test_exclude_wins():
    selection = select(ROOT, None, ["*.log"], ["tmp"])
    assert selection.takes(b"a/x.log")
    assert not selection.takes(b"tmp/x.log")


def test_files_select_what_lies_below_them():
    selection = select(ROOT, ["a/11", "b", "/mnt/pvc-0/a/11", "./c//d/"])
    assert selection.files == (b"a/11", b"b", b"c/d")
    assert set(selection.parents()) == {b"a", b"c"}
    assert [path for path in (b"a/11", b"a/11/x", b"b/y") if not selection.holds(path)] == []
    assert [path for path in (b"a", b"a/111", b"a/1", b"bb", b".") if selection.holds(path)] == []
    assert not selection.whole


def test_the_whole_tree():
    for selection in (select(ROOT, None), select(ROOT, ["a", "."])):
        assert selection.whole
        assert selection.starts() == (b".",)
        assert selection.holds(b".")
        assert selection.holds(b"any/thing")
    assert not select(ROOT, None, ["*.log"]).whole


def test_the_work_directory_is_never_selected():
    selection = select(ROOT, None)
    assert not selection.takes(b".kubeferry")
    assert not selection.holds(b".kubeferry/lock")
    assert selection.holds(b"a/.kubeferry")
    assert selection.holds(b".kubeferry2")
    with pytest.raises(UsageError, match=r"work directory"):
        select(ROOT, [".kubeferry/x"])


@pytest.mark.parametrize("pattern", ["", "/", "//"])
def test_empty_patterns_are_refused(pattern):
    with pytest.raises(UsageError, match=r"^exclude: .* matches nothing: give a pattern such as"):
        select(ROOT, None, None, [pattern])


@pytest.mark.parametrize("pattern", ["[z-a]x", "\ud800*", "[[:digits:]]", "[[.a.]]", "[a[=b=]]"])
def test_bad_patterns_are_refused(pattern):
    with pytest.raises(UsageError, match=r"^include: .* isn't a valid pattern") as caught:
        select(ROOT, None, [pattern])
    assert repr(pattern) in str(caught.value)


def test_an_empty_list_is_refused():
    with pytest.raises(UsageError, match=r"^files: the list is empty: leave it out"):
        select(ROOT, [])
