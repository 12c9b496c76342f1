# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude


class Ended(Exception):
    pass


class Module:
    """What `conclude` uses of an AnsibleModule."""

    def __init__(self, params):
        self.params = params
        self.warned = []

    def fail_json(self, **result):
        raise Ended("failed", result)

    def exit_json(self, **result):
        raise Ended("done", result)

    def warn(self, text):
        self.warned.append(text)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"retries": -1}, "retries -1 is below zero: give 0 or more."),
        (
            {"path": "-1", "source": {"wait_timeout": -5}},
            "source.wait_timeout -5 is below zero: give 0 or more.",
        ),
    ],
)
def test_counts_below_zero_are_refused_before_any_work(params, sentence):
    with pytest.raises(Ended) as end:
        conclude(Module(params), lambda: pytest.fail("it has begun"))
    assert end.value.args == ("failed", {"msg": sentence})


def test_what_has_no_sign_passes():
    module = Module({"retries": 0, "source": {"lifetime": 1, "path": None}, "delete": False, "files": ["-1"]})
    with pytest.raises(Ended) as end:
        conclude(module, lambda: {"changed": True, "warnings": ["careful"]})
    assert end.value.args == ("done", {"changed": True})
    assert module.warned == ["careful"]


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"source": {"path": "/a\0b"}}, "source.path"),
        ({"dest": "\ud800"}, "dest"),
        ({"files": ["a", "b\0"]}, "files"),
        ({"tolerations": [{"key": "\0"}]}, "tolerations.key"),
    ],
)
def test_text_that_no_system_call_takes(params, name):
    with pytest.raises(Ended) as end:
        conclude(Module(params), lambda: pytest.fail("it has begun"))
    sentence = f"{name} holds a NUL or half a character, which no name has: give it without."
    assert end.value.args == ("failed", {"msg": sentence})


def test_names_that_are_no_unicode_pass():
    with pytest.raises(Ended) as end:
        conclude(Module({"files": ["\udcff", "\n"]}), lambda: {"warnings": []})
    assert end.value.args == ("done", {})
