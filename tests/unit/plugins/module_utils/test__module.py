# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
from __future__ import annotations

import json

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude
from ansible_collections.kubeferry.pvc.plugins.module_utils._parity import SCHEMA


class Ended(Exception):
    pass


class Module:
    """What `conclude` uses of an AnsibleModule."""

    check_mode = False

    def __init__(self, params):
        self.params = params
        self.warned = []
        self.no_log_values = set()
        self.required_if = None

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
        ({"lifetime": 10**12}, "lifetime is above 2147483647: give no more than that."),
        (
            {"target": {"wait_timeout": 10**400}},
            "target.wait_timeout is above 2147483647: give no more than that.",
        ),
    ],
)
def test_numbers_out_of_range_are_refused_before_any_work(params, sentence):
    with pytest.raises(Ended) as end:
        conclude(Module(params), lambda: pytest.fail("it has begun"))
    assert end.value.args == ("failed", {"msg": sentence})


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"report": ""}, "report is empty: give the name of a file, or leave the option out."),
        ({"baseline": ""}, "baseline is empty: give the name of a file, or leave the option out."),
        ({"dest": ""}, "dest is empty: give the name of a file, or leave the option out."),
        (
            {"target": {"manifest": ""}},
            "target.manifest is empty: give the name of a file, or leave the option out.",
        ),
        (
            {"source": {"manifest": "m", "manifest_digest": ""}},
            "source.manifest_digest is empty: give the digest of the manifest, or leave the option out.",
        ),
        (
            {"manifest_digest": ""},
            "manifest_digest is empty: give the digest of the manifest, or leave the option out.",
        ),
    ],
)
def test_a_file_or_a_digest_that_is_empty_does_not_count_as_not_given(params, sentence):
    with pytest.raises(Ended) as end:
        conclude(Module(params), lambda: pytest.fail("it has begun"))
    assert end.value.args == ("failed", {"msg": sentence})


@pytest.mark.parametrize(("msg_fails", "how"), [(True, "failed"), (False, "done")])
def test_a_result_with_a_sentence_is_a_failure_unless_told_otherwise(msg_fails, how):
    with pytest.raises(Ended) as end:
        conclude(Module({}), lambda: {"msg": "It is so.", "warnings": []}, msg_fails=msg_fails)
    assert end.value.args == (how, {"msg": "It is so."})


def test_other_numbers_pass():
    large = {"limits": {"memory": 4 << 30}}
    module = Module(
        {
            "retries": 0,
            "lifetime": 2**31 - 1,
            "resources": large,
            "source": {"lifetime": 1, "path": None},
            "delete": False,
            "files": ["-1"],
        }
    )
    with pytest.raises(Ended) as end:
        conclude(module, lambda: {"changed": True, "warnings": ["careful"]})
    assert end.value.args == ("done", {"changed": True})
    assert module.warned == ["careful"]


def test_a_password_in_an_address_is_a_secret():
    module = Module({"proxy": "http://u:s3cret@p:1", "source": {"proxy": "http://u:other@p:1"}})
    with pytest.raises(Ended):
        conclude(module, lambda: {"warnings": []})
    assert module.no_log_values == {"s3cret", "other"}


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


@pytest.mark.parametrize("label", [None, "third"])
@pytest.mark.parametrize(
    ("params", "sentence"),
    [({}, "No such pod, ********."), ({"retries": -1}, "retries -1 is below zero: give 0 or more.")],
)
def test_a_task_that_fails_does_not_stay_whole_in_its_report(tmp_path, label, params, sentence):
    def fail():
        raise EndpointError("No such pod, hunter2.")

    path = tmp_path / "report.json"
    report = {
        "schema": SCHEMA,
        "parity": True,
        "hops": {"copy": {"parity": True}, "second": {"parity": True}},
    }
    path.write_text(json.dumps(report))
    module = Module({"report": str(path), "label": label, "password": "hunter2", **params})
    module.no_log_values.add("hunter2")
    module.check_mode = True
    for _time in ("foreseen", "done"):
        with pytest.raises(Ended):
            conclude(module, fail, hop="copy")
        if module.check_mode:
            assert json.loads(path.read_text()) == report
        module.check_mode = False
    written = json.loads(path.read_text())
    hop = written["hops"].pop(label or "copy")
    assert (hop["parity"], hop["msg"]) == (False, sentence)
    assert hop["finished"]
    assert written["parity"] is False
    assert written["hops"] == {name: hop for name, hop in report["hops"].items() if name != (label or "copy")}


@pytest.mark.parametrize("text", [None, "precious"])
def test_a_task_that_fails_makes_no_report_and_replaces_nothing_else(tmp_path, text):
    path = tmp_path / "report.json"
    if text:
        path.write_text(text)
    with pytest.raises(Ended) as end:
        conclude(Module({"report": str(path), "label": None, "retries": -1}), dict, hop="copy")
    assert end.value.args[1]["msg"].startswith("retries -1")
    assert (path.read_text() if path.exists() else None) == text
