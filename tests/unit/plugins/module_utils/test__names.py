# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names on their way between bytes, people and JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._names import (
    check_objects,
    display,
    encode,
    from_json,
    relative,
    some,
    to_json,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain", "plain"),
        ("ünïcödé".encode(), "ünïcödé"),
        (b"with space", "with space"),
        (b"new\nline", "new\\nline"),
        (b"back\\slash", "back\\\\slash"),
        (b"literal\\x20", "literal\\\\x20"),
        (b"\xff", "\\xff"),
        (b"\x1b[31m", "\\x1b[31m"),
        ("right-to-left \N{RIGHT-TO-LEFT OVERRIDE}".encode(), "right-to-left \\xe2\\x80\\xae"),
    ],
)
def test_names_are_shown_so_that_they_can_be_told_apart(name, shown):
    assert display(name) == shown


@given(st.binary(min_size=1), st.binary(min_size=1))
def test_two_names_never_look_the_same(one, other):
    assert (display(one) == display(other)) == (one == other)
    assert display(one).isprintable()


@given(st.binary())
def test_names_survive_json(name):
    assert from_json(json.loads(json.dumps(to_json(name)))) == name


@pytest.mark.parametrize(
    "value", [None, 1, [], {}, {"base64": 1}, {"base64": "?"}, {"base32": "AA"}, "\ud800"]
)
def test_what_is_no_name_in_json_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011 (the only thing that is promised)
        from_json(value)


@given(st.binary())
def test_bytes_that_came_in_as_text_go_out_as_they_were(name):
    assert encode(name.decode("utf-8", "surrogateescape")) == name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("a/11", b"a/11"),
        ("./a//11/", b"a/11"),
        (".", b"."),
        ("/mnt/pvc-0/a/11", b"a/11"),
        ("-rf", b"-rf"),
        ("..a/b..", b"..a/b.."),
        ("a\nb", b"a\nb"),
        ("\udcff", b"\xff"),
    ],
)
def test_typed_paths_become_clean_ones(typed, name):
    assert relative(typed, "/mnt/pvc-0", "files") == name


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "isn't a file name"),
        ("a\0b", "isn't a file name"),
        ("/etc/passwd", "isn't below /mnt/pvc-0"),
        ("/mnt/pvc-01/a", "isn't below /mnt/pvc-0"),
        ("../a", "holds '..'"),
        ("a/../../b", "holds '..'"),
        ("/mnt/pvc-0/../x", "holds '..'"),
        ("\ud800", "isn't a file name"),
    ],
)
def test_typed_paths_that_leave_the_tree_are_refused(typed, said):
    with pytest.raises(UsageError, match=r"^files: ") as caught:
        relative(typed, "/mnt/pvc-0", "files")
    assert said in str(caught.value)
    assert repr(typed) in str(caught.value)


def test_a_path_below_the_root_directory_is_taken():
    assert relative("/etc/passwd", "/", "files") == b"etc/passwd"


def test_long_lists_are_cut():
    assert some([b"a", b"b\n"]) == "a, b\\n"
    assert some([b"a", b"b", b"c", b"d", b"e"]) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"namespace": "a/b"}, "source.namespace: 'a/b'"),
        ({"pod": "a\nb"}, r"source.pod: 'a\\nb'"),
        ({"container": "../c"}, "source.container: '../c'"),
        ({"pvc": "Claim"}, "source.pvc: 'Claim'"),
    ],
)
def test_names_that_no_object_can_have(options, names):
    with pytest.raises(UsageError, match=names):
        check_objects({"namespace": "fine", **options}, "source.")


def test_names_that_objects_have():
    check_objects({"namespace": "a", "pod": "busybox-sleep.7", "container": None, "pvc": "", "path": "/A B"})
