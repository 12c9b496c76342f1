# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._claim_map import (
    ClaimMap,
    Counterpart,
    Source,
    chains,
    collisions,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError

GI = 1 << 30


def ask(claim, *rules, **top):
    namespace, name = claim.split("/")
    source = Source(namespace, name, "standard", ["ReadWriteOnce"], 10 * GI)
    return ClaimMap({"rules": list(rules), **top}).counterpart(source)


def test_without_a_target_the_counterpart_is_like_the_source():
    assert ask("shop/data", {"source": "*/*"}) == Counterpart(
        "shop", "data", "standard", ("ReadWriteOnce",), "10Gi", create=False
    )


def test_all_that_a_rule_can_say():
    rule = {
        "source": "shop-*/data-*",
        "target": "store-{1}/{claim}-{2}-{storage_class}",
        "storage_class": "fast",
        "access_modes": ["ReadWriteMany"],
        "size": "20Gi",
        "create": True,
    }
    found = ask("shop-eu/data-7", rule, target={"context": "new"})
    assert found == Counterpart(
        "store-eu", "data-7-7-standard", "fast", ("ReadWriteMany",), "20Gi", True, {"context": "new"}
    )


def test_the_first_rule_that_matches_decides():
    rules = [{"source": "*/tmp-*", "skip": True}, {"source": "a/*", "target": "b/{1}"}, {"source": "*/x"}]
    assert ask("a/tmp-1", *rules) is None
    assert ask("a/x", *rules).namespace == "b"
    assert ask("c/x", *rules).namespace == "c"
    with pytest.raises(KeyError):
        ask("c/y", *rules)
    with pytest.raises(KeyError):
        ask("x/axb", {"source": "x/a.b"})


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        ({"standard": "fast"}, "fast"),
        ({"*": "slow"}, "slow"),
        ({"standard": "fast", "*": "slow"}, "fast"),
        ({"other": "fast"}, "standard"),
    ],
)
def test_storage_classes_are_translated(classes, found):
    assert ask("a/b", {"source": "*/*"}, storage_classes=classes).storage_class == found
    assert ask("a/b", {"source": "*/*", "storage_class": ""}, storage_classes=classes).storage_class == ""


def test_sizes_grow_by_per_cent_in_whole_mebibytes():
    assert ask("a/b", {"source": "*/*", "size": "+20%"}).size == "12Gi"
    assert ask("a/b", {"source": "*/*", "size": "+33%"}).size == "13620Mi"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "isn't a dictionary"),
        ({"rules": []}, "has no rules"),
        ({"rules": [{"source": "*/*"}], "colour": 1}, "colour isn't known: there are create"),
        ({"rules": [{"source": "*/*", "to": "a/b"}]}, "rule 1: to isn't known"),
        ({"rules": [{"target": "a/b"}]}, "rule 1: no source"),
        ({"rules": [{"source": "data"}]}, "rule 1: 'data' has no namespace/claim"),
        (
            {"rules": [{"source": " a/*"}]},
            "rule 1: ' a/*' has ' ' in it, which no namespace or claim has: correct",
        ),
        ({"rules": [{"source": "a/*\t"}]}, "has '\\t' in it"),
        ({"rules": [{"source": "a/c?"}]}, "has '?' in it"),
        ({"rules": [{"source": "a/c[01]"}]}, "has '[' in it"),
        ({"rules": [{"source": "A/c"}]}, "has 'A' in it"),
        ({"rules": [{"source": "/*"}]}, "rule 1: '/*' has no namespace/claim"),
        ({"rules": [{"source": "ns/"}]}, "rule 1: 'ns/' has no namespace/claim"),
        ({"rules": [{"source": "*/*", "target": ""}]}, "rule 1: target must be text, as in namespace/claim"),
        ({"rules": [{"source": "*/*", "target": None}]}, "rule 1: target must be text"),
        (
            {"rules": [{"source": "*/*", "target": "a/b", "skip": True}]},
            "rule 1: what is left out has no target",
        ),
        ({"rules": [{"source": "*/*", "size": "120%"}]}, "500M, or as in +20% for more than the source's."),
        ({"rules": [{"source": "*/*", "size": "+5.5%"}]}, "or as in +20%"),
        (
            {"rules": [{"source": "*/*", "size": 0}]},
            "rule 1: size: 0 is a number of bytes that no volume has",
        ),
        (
            {"rules": [{"source": "*/*", "size": 5}]},
            "size: 5 is a number of bytes that no volume has: write it",
        ),
        ({"rules": [{"source": "*/*", "size": "1m"}]}, "rule 1: size: 1m is a number of bytes"),
        ({"rules": [{"source": "a.b/c"}]}, "'a.b/c' has a dot before the slash, which no namespace has"),
        (
            {"rules": [{"source": "*/*", "access_modes": ["ReadWriteMany", "ReadWriteOncePod"]}]},
            "rule 1: access_modes: ReadWriteOncePod goes with no other one",
        ),
        ({"rules": [{"source": "*/*"}], "target": []}, "target: names and values must be text"),
        ({"rules": [{"source": "*/*"}], "storage_classes": False}, "storage_classes: names and values"),
        ({"rules": [{"source": "*/*", "storage_class": "Fast One"}]}, "storage_class: 'Fast One' is no name"),
        (
            {"rules": [{"source": "*/*"}], "storage_classes": {"st*": "fast"}},
            "'st*' is no name of a storage class",
        ),
        ({"rules": [{"source": "*/*"}], "storage_classes": {"a": "*"}}, "'*' is no name of a storage class"),
        ({"rules": [{"source": "*/*", "access_modes": ["RWX"]}]}, "rule 1: access_modes is a list of"),
        ({"rules": [{"source": "*/*", "size": "big"}]}, "rule 1: size: 'big' is no quantity"),
        ({"rules": [{"source": "*/*", "size": "1e999999999"}]}, "rule 1: size: '1e999999999' is no quantity"),
        ({"rules": [{"source": "*/*", "storage_class": None}]}, "rule 1: storage_class must be text"),
        ({"rules": [{"source": "*/*", "storage_class": ["fast"]}]}, "rule 1: storage_class must be text"),
        ({"rules": [{"source": "*/*", "create": "maybe"}]}, "rule 1: create must be true or false"),
        ({"rules": [{"source": "*/*"}], "target": {"api_key": "x"}}, "target: api_key isn't known"),
        ({"rules": [{"source": "*/*"}], "storage_classes": ["a"]}, "storage_classes: names and values"),
    ],
)
def test_what_can_not_be_meant_is_named(data, says):
    with pytest.raises(UsageError, match=r"^the map") as error:
        ClaimMap(data)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("b/{2}", "{2} stands for nothing"),
        ("b/{what}", "{what} stands"),
        ("b", "can't be"),
        ("B/c", "can't be"),
    ],
)
def test_a_target_that_is_none_is_named(target, says):
    with pytest.raises(UsageError) as error:
        ask("a/x", {"source": "a/*", "target": target})
    assert "rule 1 (a/*)" in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("first", "second", "never"),
    [
        ("a/*", "a/*", True),
        ("a/b", "a/b", True),
        ("*/*", "a/b-*", True),
        ("a/*-*", "a/x-*-y", True),
        ("a/b", "a/*", False),
        ("a/b-*", "a/*", False),
        ("a-*/x", "*-a/x", False),
    ],
)
def test_a_rule_after_one_that_matches_all_of_it_is_refused(first, second, never):
    rules = [{"source": "q/q"}, {"source": first}, {"source": second}]
    if not never:
        ClaimMap({"rules": rules})
        return
    with pytest.raises(UsageError) as error:
        ClaimMap({"rules": rules})
    assert f"rule 3 ({second}) can never decide, as rule 2 ({first}) matches all that it does" in str(
        error.value
    )


def test_what_is_left_empty_is_left_out():
    rules = [{"source": "a/b.c", "size": "512Ki"}]
    made = ClaimMap({"rules": rules, "target": None, "storage_classes": None})
    assert made.counterpart(Source("a", "b.c")).size == "512Ki"


def test_rules_for_a_claim_that_is_not_there_are_named():
    made = ClaimMap({"rules": [{"source": each} for each in ("a/x", "a/y", "b/x", "a/*")]})
    assert made.idle({"a/x"}, []) == ["rule 2 (a/y)", "rule 3 (b/x)"]
    assert made.idle({"a/x"}, ["a"]) == ["rule 2 (a/y)"]
    assert made.namespaces() == {"a", "b"}


def test_two_sources_of_one_counterpart_are_named():
    one = {"namespace": "c", "pvc": "x"}
    assert collisions({"a.x": one, "a.y": {**one, "pvc": "y"}, "b.x": {**one, "context": "new"}}) == []
    assert collisions({"a.x": one, "b.x": dict(one), "a.y": {**one, "pvc": "y"}}) == [
        "a.x, b.x have the same counterpart c/x: change the rules, so that each has its own."
    ]


def test_a_counterpart_with_the_names_of_a_source_is_found():
    targets = {
        "a.reports": {"namespace": "a", "pvc": "zero"},
        "a.zero": {"namespace": "b", "pvc": "zero"},
        "a.same": {"namespace": "a", "pvc": "same", "context": "new"},
    }
    assert chains(targets) == {"a.reports": "a.zero"}
