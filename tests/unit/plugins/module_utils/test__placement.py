# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from fakeapi import claim, pod

from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_spec import HelperRequest, Placement
from ansible_collections.kubeferry.pvc.plugins.module_utils._placement import (
    CORDONED,
    GROUPS,
    UID_RANGE,
    is_kept_off_cordoned,
    lie_apart,
    needs_cordoned_node,
    placement,
    together,
)

REQUEST = HelperRequest("ns", "pvc-0", "r1")
RESTRICTED = HelperRequest("ns", "pvc-0", "r1", pod_security="restricted")


@pytest.mark.parametrize(
    ("modes", "node"),
    [
        (["ReadWriteOnce"], "node-1"),
        (["ReadWriteMany"], ""),
        (["ReadWriteOnce", "ReadWriteMany"], ""),
        (["ReadOnlyMany"], ""),
    ],
)
def test_a_volume_that_one_node_can_have_draws_the_pod_to_it(modes, node):
    unscheduled = pod("new")
    del unscheduled["spec"]["nodeName"]
    item = claim(accessModes=modes)
    assert placement(item, [unscheduled, pod("app")], {}, REQUEST).node == node
    assert placement(item, [], {}, REQUEST) == Placement()


def test_a_pod_that_joins_another_tolerates_what_that_does_and_a_cordon():
    app = pod("app")
    ours = {"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}
    away = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}
    app["spec"]["tolerations"] = [ours, away]
    assert placement(claim(), [app], {}, REQUEST).tolerations == [ours, CORDONED]


@pytest.mark.parametrize(
    ("uids", "groups", "user", "group"),
    [
        ("1000680000/10000", "1000680000/10000", 1000680000, 1000680000),
        ("1000-1999", "5/3,100-200", 1000, 5),
        (None, None, None, None),
        ("", "none", None, None),
    ],
)
def test_a_restricted_pod_gets_the_ids_of_its_namespace(uids, groups, user, group):
    namespace = {"metadata": {"annotations": {UID_RANGE: uids, GROUPS: groups}}}
    place = placement(claim(), [], namespace, RESTRICTED)
    assert (place.user, place.group) == (user, group)
    assert placement(claim(), [], namespace, REQUEST) == Placement()


def test_no_namespace_to_look_at_is_no_ids():
    assert placement(claim(), [], {}, RESTRICTED) == Placement()


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        (
            "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: no.",
            True,
        ),
        (
            "0/2 nodes are available: 1 node(s) had volume node affinity conflict, 1 node(s) were unschedulable.",
            True,
        ),
        (
            (
                "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) were "
                "unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available."
            ),
            True,
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint(s) {node.kubernetes.io/unschedulable: }.",
            True,
        ),
        (
            (
                "0/2 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 1 "
                "node(s) were unschedulable. preemption: 0/2 nodes are available: no."
            ),
            True,
        ),
        (
            (
                "0/2 nodes are available: 1 node(s) had taint {node-role.kubernetes.io/master: }, that the pod didn't "
                "tolerate, 1 node(s) were unschedulable."
            ),
            True,
        ),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: db}.", False),
        ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.", False),
        ("0/1 nodes are available: 1 node(s) had volume node affinity conflict.", False),
        ("", False),
    ],
)
def test_a_cordoned_node_is_entered_only_where_the_volume_is_on_no_other(text, needed):
    condition = {"type": "PodScheduled", "status": "False", "message": text}
    assert needs_cordoned_node({"status": {"conditions": [condition]}}) is needed
    assert not needs_cordoned_node({"status": {"conditions": [{**condition, "status": "True"}]}})
    assert not needs_cordoned_node({})
    assert is_kept_off_cordoned({"status": {"conditions": [condition]}}) is ("unschedulable" in text)


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("0/2 nodes are available: 2 node(s) had volume node affinity conflict. preemption: none.", True),
        ("0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.", True),
        ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had volume node affinity conflict.", False),
        ("", False),
    ],
)
def test_volumes_lie_apart_where_no_node_can_have_all(text, apart):
    condition = {"type": "PodScheduled", "status": "False", "message": text}
    assert lie_apart({"status": {"conditions": [condition]}}) is apart
    assert not lie_apart({})


def test_a_pod_with_several_claims_goes_where_they_are_in_use_unless_that_is_in_two_places():
    taint = {"key": "dedicated", "operator": "Exists"}
    first, second = Placement("node-1", [CORDONED]), Placement("node-1", [taint, CORDONED])
    assert together([first, second]) == Placement("node-1", (CORDONED, taint))
    assert together([Placement(user=5), second]) == Placement("node-1", (taint, CORDONED), 5)
    assert together([Placement(), Placement()]) == Placement()
    assert together([first, Placement("node-2")]) is None
