# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._bounded import (
    CUT,
    LONGEST_LIST,
    LONGEST_TEXT,
    MOST_CHARACTERS,
    Bounded,
)
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import LONGEST_FORM, MASK, Redactor

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=40,
)


@given(ANYTHING)
def test_anything_becomes_plain_json(value):
    text = json.dumps(Bounded(Redactor()).value(value), allow_nan=False)
    assert len(text) < 10 * MOST_CHARACTERS


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1_000_000,
        ["x" * 100] * 100_000,
        {f"k{n}": "x" * 100 for n in range(10_000)},
        [[["x" * 3_000] * 50] * 50] * 50,
        ["\u0436" * 3_900] * 20,
        ["\x00" * 3_900] * 20,
        [[[None] * 200] * 200] * 200,
        [[[{}] * 200] * 200] * 200,
        {"kind": "Secret", "data": {f"{n}": "x" for n in range(10_000)}},
    ],
    ids=["text", "list", "mapping", "nested", "cyrillic", "control", "nothing", "empty", "secret"],
)
def test_large_things_are_cut(value):
    bounded = Bounded(Redactor())
    kept = bounded.value(value)
    assert len(json.dumps(kept)) < 1.5 * MOST_CHARACTERS
    # A Secret's data is left out without a word: it isn't told anyway.
    assert bounded.truncated or bounded.redacted


def test_endless_numbers_are_words():
    assert Bounded(Redactor()).value([2**60, 10**5_000]) == ["1152921504606846976", "<int>"]


def test_depth_is_cut():
    deep: object = "bottom"
    for _level in range(100):
        deep = [deep]
    bounded = Bounded(Redactor())
    assert "bottom" not in json.dumps(bounded.value(deep))
    assert bounded.truncated


def test_small_things_are_whole():
    value = {"a": [1, 2.5, None, True, "text"], "b": {"c": []}}
    bounded = Bounded(Redactor())
    assert bounded.value(value) == value
    assert not bounded.truncated
    assert not bounded.redacted
    assert len(bounded.value(list(range(LONGEST_LIST)))) == LONGEST_LIST


@pytest.mark.parametrize("before", range(LONGEST_TEXT - 14, LONGEST_TEXT + 4, 3))
def test_a_secret_at_the_cut_is_gone_whole(before):
    redactor = Redactor(values=["hunter2-hunter2"])
    bounded = Bounded(redactor)
    kept = bounded.text("x" * before + "hunter2-hunter2" + "y" * 20_000)
    assert "hunter" not in kept
    assert kept.endswith(CUT)
    assert bounded.truncated


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_a_secret_at_the_edge_of_the_search_is_never_reached(shift):
    """Even where what is masked before it draws the edge nearer."""
    long = "s" * 3_000
    redactor = Redactor(values=[long, "hunter2-hunter2"])
    window = 2 * LONGEST_TEXT + LONGEST_FORM
    text = (long * 3).ljust(window - 20 + shift, "x") + "hunter2-hunter2" + "y" * 20_000
    assert "hunter" not in Bounded(redactor).text(text)


def test_secrets_in_structures():
    value = {
        "password": "hunter2",
        "pin_code_token": 123456789,
        "tokens": ["first-token", "second-token"],
        "generate_password": True,
        "no_password": None,
        "environment": [{"name": "API_TOKEN", "value": "in-an-environment"}, {"name": "LANG", "value": "C"}],
        "object": {
            "kind": "Secret",
            "metadata": {"name": "x"},
            "data": {"any": "c2VjcmV0"},
            "stringData": {"b": "text"},
        },
        "argv": ["tool", "--api-key", "on-a-command-line", "--verbose", "yes"],
    }
    redactor = Redactor()
    bounded = Bounded(redactor)
    kept = bounded.value(value)
    assert bounded.redacted
    assert kept == {
        "password": MASK,
        "pin_code_token": MASK,
        "tokens": MASK,
        "generate_password": True,
        "no_password": None,
        "environment": [{"name": "API_TOKEN", "value": MASK}, {"name": "LANG", "value": "C"}],
        "object": {
            "kind": "Secret",
            "metadata": {"name": "x"},
            "data": {"any": MASK},
            "stringData": {"b": MASK},
        },
        "argv": ["tool", "--api-key", MASK, "--verbose", "yes"],
    }
    # And from now on they are known wherever they turn up.
    assert redactor.text("in-an-environment first-token 123456789") == f"{MASK} {MASK} {MASK}"


def test_numbers_that_are_known():
    redactor = Redactor()
    redactor.learn([7351942888, 735194.28881])
    bounded = Bounded(redactor)
    numbers = {"n": 7351942888, "deep": [735194.28881, 735194, 0.5, True]}
    assert bounded.value(numbers) == {"n": MASK, "deep": [MASK, 735194, 0.5, True]}
    assert bounded.redacted


def test_the_data_of_a_list_of_secrets_is_hidden_however_short():
    listed = {"kind": "SecretList", "items": [{"metadata": {"name": "x"}, "data": {"any": "YWJj"}}]}
    told = Bounded(Redactor()).value({"before": listed})
    assert told["before"]["items"][0]["data"] == {"any": MASK}
    assert told["before"]["items"][0]["metadata"] == {"name": "x"}
