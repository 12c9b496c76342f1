# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._bounded import Bounded
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import MASK, Redactor
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._result_data import (
    asks_for_secrecy,
    item_label,
    learn_of_result,
    namespaces,
    result_data,
)


@pytest.mark.parametrize(
    ("no_log", "result", "secret"),
    [
        (False, {}, False),
        (None, {}, False),
        (True, {}, True),
        # A template may turn out true, and so may anything that isn't a plain false.
        ("{{ hide }}", {}, True),
        ("false", {}, True),
        (0, {}, True),
        (False, {"_ansible_no_log": True}, True),
        (False, {"censored": "the output has been hidden"}, True),
        (False, {"_ansible_no_log": False}, False),
    ],
)
def test_secrecy(no_log, result, secret):
    assert asks_for_secrecy(SimpleNamespace(no_log=no_log), result) is secret


def told(result):
    redactor = Redactor()
    bounded = Bounded(redactor)
    return result_data(result, bounded, redactor), bounded, redactor


def test_what_is_left_out():
    data, _bounded, _redactor = told(
        {
            "changed": True,
            "msg": "done",
            "rc": 0,
            "stdout": "out",
            "stdout_lines": ["out"],
            "invocation": {
                "module_args": {"path": "/secret/path", "api_key": "from-an-argument", "namespace": "shop"}
            },
            "ansible_facts": {"ansible_env": {"TOKEN": "x"}},
            "diff": {"before": "old content", "after": "new content"},
            "exception": "Traceback with source",
            "results": [{"msg": "a"}, {"msg": "b"}],
            "_ansible_internal": 1,
        }
    )
    assert data == {
        "msg": "done",
        "stdout": "out",
        "items": 2,
        "namespaces": ["shop"],
        "result": {"rc": 0},
    }


def test_secrets_are_learnt_of_all_that_a_result_has():
    redactor = Redactor()
    result = {
        "invocation": {
            "module_args": {"api_key": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER", "token": "of-a-default"}
        },
        "ansible_facts": {"env": {"DB_PASSWORD": "of-a-fact"}},
        "add_host": {"host_name": "new", "host_vars": {"new_password": "of-a-new-host"}},
        "ansible_loop_var": "user",
        "user": {"password": "of-an-item"},
        "stdout": '{"token": "of-an-answer"}',
    }
    task = SimpleNamespace(
        args={"api_key": "of-an-argument"},
        environment=[{"APP_SECRET": "of-the-environment"}, "{{ more }}"],
    )
    learn_of_result(result, task, redactor)
    learn_of_result({}, SimpleNamespace(args={}, environment=None), redactor)
    for name in (
        "a-default",
        "a-fact",
        "a-new-host",
        "an-item",
        "an-answer",
        "an-argument",
        "the-environment",
    ):
        assert redactor.text(f"of-{name}") == MASK


def test_an_item_behind_a_telling_name():
    redactor = Redactor()
    for item in ("hunter22", "1234"):
        result = {"ansible_loop_var": "db_password", "db_password": item, "_ansible_item_label": item}
        learn_of_result(result, SimpleNamespace(args={}, environment=None), redactor)
        bounded = Bounded(redactor)
        assert item_label(result, bounded) == MASK
        assert bounded.redacted
        assert item_label({**result, "_ansible_item_label": "the first"}, bounded) == "the first"
    assert redactor.known() == ["hunter22"]


def test_what_items_came_to_is_searched_with_each_of_them():
    redactor = Redactor()
    task = SimpleNamespace(args={}, environment=None)
    item = {"ansible_loop_var": "item", "item": 1, "stdout": '{"token": "sesame-open"}'}
    learn_of_result({"results": [item]}, task, redactor)
    assert redactor.known() == []
    learn_of_result(item, task, redactor)
    learn_of_result({"results": [{"token": "no-loop's"}]}, task, redactor)
    assert redactor.known() == ["sesame-open", "no-loop's"]


def test_lists_are_searched_before_they_are_texts():
    # As a list's text has it, a doubled backslash would not be found.
    secret, inside = 'it\'s "<both>"', r"it's \"\u003cboth\u003e\""
    redactor = Redactor(values=[secret])
    data = result_data({"msg": [f"x {inside}"], "stdout": {"a": secret}}, Bounded(redactor), redactor)
    assert data == {"msg": f"['x {MASK}']", "stdout": f"{{'a': '{MASK}'}}"}
    assert item_label({"item": [{"a": inside}]}, Bounded(redactor)) == f"[{{'a': '{MASK}'}}]"


def test_texts_are_texts():
    data, _bounded, _redactor = told({"msg": {"a": 1}, "stdout": ["x"], "warnings": ["w1", {"msg": "w2"}]})
    assert data == {"msg": "{'a': 1}", "stdout": "['x']", "warnings": ["w1", "w2"]}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"namespace": "shop"}, ["shop"]),
        ({"source": {"namespace": "a"}, "target": {"namespace": "b", "path": "/x"}}, ["a", "b"]),
        ({"source_namespace": "a", "target_namespace": "a"}, ["a"]),
        ({"namespace": "{{ later }}"}, []),
        ({"namespace": "Not A Namespace"}, []),
        ("namespace=shop", []),
        (None, []),
    ],
)
def test_namespaces(arguments, found):
    assert namespaces(arguments) == found


def test_item_labels():
    def label(result):
        return item_label(result, Bounded(Redactor()))

    assert label({"_ansible_item_label": "shown", "item": "x"}) == "shown"
    assert label({"item": 3}) == "3"
    assert label({"ansible_loop_var": "entry", "entry": "y"}) == "y"
    assert label({}) is None
    assert label({"item": {"name": "a", "password": "b"}}) == f"{{'name': 'a', 'password': '{MASK}'}}"


def test_what_is_left_out_is_left_out_of_a_result_that_is_printed():
    copied = {
        "changed": True,
        "dest": "/a",
        "diff": [{"before": "old", "after": "content"}],
        "invocation": {"module_args": {"content": "content"}},
        "ansible_facts": {"fact": "value"},
        "exception": "Traceback",
    }
    data, _bounded, _redactor = told({"copied": copied, "msg": copied, "all": {"results": [copied]}})
    left = {"changed": True, "dest": "/a"}
    assert data == {"msg": str(left), "result": {"copied": left, "all": {"results": [left]}}}
    # Elsewhere a field of such a name is like any other.
    assert told({"sums": {"diff": 3}})[0] == {"result": {"sums": {"diff": 3}}}


def test_what_was_typed_unseen_at_a_pause():
    redactor = Redactor()
    task = SimpleNamespace(args={"echo": False}, environment=None)
    for typed in ("hunter22", "1234"):
        result = {"changed": False, "echo": False, "user_input": typed, "stdout": "Paused"}
        learn_of_result(result, task, redactor)
        data = result_data(result, Bounded(redactor), redactor)
        assert data["result"] == {"echo": False, "user_input": MASK}
    assert redactor.text("hunter22") == MASK
    assert told({"echo": True, "user_input": "seen"})[0]["result"]["user_input"] == "seen"
