# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from fakeapi import claim, pod

from ansible_collections.kubeferry.pvc.plugins.module_utils._claims import (
    choice,
    node_of,
    phase_of,
    source_of,
    users_of,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError


def sized(capacity="10Gi", **spec):
    item = claim(storageClassName="fast", **spec)
    item["status"]["capacity"] = {"storage": capacity}
    return item


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, True),
        ({"names": ["data-*", "pvc-?"]}, True),
        ({"names": ["data-*"]}, False),
        ({"storage_classes": ["fa*"]}, True),
        ({"storage_classes": ["slow"]}, False),
        ({"phases": ["Pending", "Bound"]}, True),
        ({"phases": ["Lost"]}, False),
        ({"min_size": "10Gi", "max_size": "10Gi"}, True),
        ({"min_size": "11Gi"}, False),
        ({"max_size": "9Gi"}, False),
    ],
)
def test_the_choice(options, taken):
    assert choice(options).takes(sized()) is taken


def test_a_size_that_is_none():
    with pytest.raises(UsageError, match="max_size: 'huge' is no quantity"):
        choice({"max_size": "huge"})


def test_a_claim_without_a_volume_counts_as_what_it_asks_for():
    item = claim(resources={"requests": {"storage": "1Gi"}})
    assert source_of(item).size == 1 << 30
    item["metadata"]["deletionTimestamp"] = "now"
    assert phase_of(item) == "Terminating"


def test_the_pods_that_use_a_claim_and_their_node():
    pods = [pod("app", claim="pvc-0"), pod("other", claim="pvc-1"), pod("done", claim="pvc-0")]
    pods[2]["status"]["phase"] = "Succeeded"
    users = users_of(pods, "pvc-0")
    assert [each["metadata"]["name"] for each in users] == ["app"]
    assert (node_of(users), node_of([])) == ("node-1", "")
