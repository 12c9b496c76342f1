# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._pod_state import describe, is_ready


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
