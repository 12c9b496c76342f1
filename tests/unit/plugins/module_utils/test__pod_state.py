# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._pod_state import (
    default_container,
    describe,
    is_ready,
)


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({}, "it is in an unknown state"),
        ({"status": {"phase": "Running"}}, "it is Running"),
        ({"metadata": {"deletionTimestamp": "now"}, "status": {"phase": "Running"}}, "it is being deleted"),
        ({"status": {"phase": "Failed", "reason": "Evicted"}}, "it is Failed, Evicted"),
        (
            {"status": {"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {}}}]}},
            "it is Pending, container a waits (no reason given)",
        ),
        (
            {
                "status": {
                    "phase": "Running",
                    "containerStatuses": [
                        {"name": "a", "state": {"running": {}}},
                        {"name": "b", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}},
                    ],
                }
            },
            "it is Running, container b has ended (OOMKilled 137)",
        ),
    ],
)
def test_describe(pod, words):
    assert describe(pod) == words


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ("i", "it is Running, container i has ended (Completed 0)"),
        ("a", "it is Running, container a waits (CrashLoopBackOff)"),
        ("b", "it is Running"),
        ("e", "it is Running, container e has ended (Error 1)"),
    ],
)
def test_describe_one_container_of_any_sort(container, words):
    status = {
        "phase": "Running",
        "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}
        ],
        "containerStatuses": [
            {"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            {"name": "b", "state": {"running": {}}},
        ],
        "ephemeralContainerStatuses": [
            {"name": "e", "state": {"terminated": {"reason": "Error", "exitCode": 1}}}
        ],
    }
    assert describe({"status": status}, container) == words


@pytest.mark.parametrize(
    ("annotation", "container"),
    [("b", "b"), ("i", "i"), ("gone", ""), ("", ""), (None, "")],
)
def test_the_default_container(annotation, container):
    spec = {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}
    metadata = {"annotations": {"kubectl.kubernetes.io/default-container": annotation}}
    assert default_container({"metadata": metadata, "spec": spec}) == container
    assert default_container({"metadata": {}, "spec": spec}) == ""


@pytest.mark.parametrize(
    ("pod", "ready"),
    [
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, True),
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False),
        ({"status": {}}, False),
        (
            {
                "metadata": {"deletionTimestamp": "now"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
            False,
        ),
    ],
)
def test_is_ready(pod, ready):
    assert is_ready(pod) is ready
