# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What an event has of a report, made of what the modules really return."""

from __future__ import annotations

import json

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._parity import Parity
from ansible_collections.kubeferry.pvc.plugins.module_utils._report import Hop
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._bounded import MOST_CHARACTERS, Bounded
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._parity_data import is_report, parity_data
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._result_data import result_data

FOUND = Parity(
    matched=3,
    missing=["a/51"],
    mismatched={"a/11": ["size", "content"]},
    metadata={"10": {"mode": ["0640", "0644"]}},
    extra=["more"],
    unreadable={"b": "Permission denied"},
    changed={"c": "vanished"},
)
ABOUT = {"metadata": "strict", "transport": "tar", "route": "mount"}


def result(found=FOUND, whole=False):
    """A result as `pvc_copy` returns it."""
    numbers = {"files": 4, "bytes": 12_288, "seconds": 1.25}
    hop = Hop("the source", "the target", "sha256", whole, found, numbers, ABOUT)
    return {**hop.as_dict(100), "changed": False, "msg": "it differs"}


def test_a_report_is_taken_out_of_a_result():
    redactor = Redactor()
    data = result_data(result(), Bounded(redactor), redactor)
    assert data == {
        "msg": "it differs",
        "parity": {
            "whole": False,
            "matched": 3,
            "counts": {
                "matched": 3,
                "missing": 1,
                "mismatched": 1,
                "metadata_differences": 1,
                "extra": 1,
                "unreadable": 1,
                "changed_at_source": 1,
            },
            "source": "the source",
            "target": "the target",
            "checksum": "sha256",
            "transport": "tar",
            "route": "mount",
            "files": 4,
            "bytes": 12_288,
            "seconds": 1.25,
            "mismatched": [{"path": "a/11", "differs": ["size", "content"]}],
            "metadata_differences": [{"path": "10", "differs": {"mode": ["0640", "0644"]}}],
            "unreadable": [{"path": "b", "reason": "Permission denied"}],
            "changed_at_source": [{"path": "c", "what": "vanished"}],
            "missing": ["a/51"],
            "extra": ["more"],
            "truncated": False,
        },
        "result": {"metadata": "strict"},
    }


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"parity": "even", "matched": 3, "counts": {}},
        {"parity": True, "matched": "3", "counts": {}},
        {"parity": True, "matched": 3, "counts": {"matched": "all"}},
        {"parity": True, "matched": 3},
    ],
)
def test_what_only_looks_like_a_report_stays_in_the_result(other):
    redactor = Redactor()
    assert not is_report(other)
    assert result_data(other, Bounded(redactor), redactor) == ({"result": other} if other else {})


def test_long_lists_are_cut_and_keep_their_shape():
    names = ["\u0436" * 200 + str(number) for number in range(100)]
    found = Parity(
        missing=names,
        mismatched={name: ["content"] for name in names},
        metadata={name: {"mode": ["0640", "0644"]} for name in names},
    )
    report = parity_data(result(found), Bounded(Redactor()))
    assert report["truncated"]
    assert report["counts"]["missing"] == 100
    assert len(json.dumps(report)) < 1.5 * MOST_CHARACTERS
    assert report["mismatched"][0] == {"path": names[0], "differs": ["content"]}
    assert all(isinstance(entry, dict) for entry in report["mismatched"] + report["metadata_differences"])
