# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from fakeapi import FakeApi, claim, pod, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_spec import HelperRequest
from ansible_collections.kubeferry.pvc.plugins.module_utils._pair_plan import PairPlan, Side
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Rest
from ansible_collections.kubeferry.pvc.plugins.module_utils._route_plan import ROUTES, plan_route

NODES = ("node1", "node2")
TWO_PODS = {"staging", "stream", "direct"}


@pytest.fixture
def api():
    """Two claims of one namespace with volumes that any node can have, and a claim of another namespace."""
    made = FakeApi(namespaces=["ns", "other"])
    for name, namespace in (("a", "ns"), ("b", "ns"), ("c", "other")):
        made.add("persistentvolumeclaims", claim(name, namespace))
        made.add("persistentvolumes", {"metadata": {"name": f"pv-{name}"}, "spec": {}})
    for name in NODES:
        made.add("nodes", {"metadata": {"name": name}, "spec": {}})
    return made


@pytest.fixture
def closed(api):
    """The routes that can't be taken from claim a to another one, each with the reason."""

    def side(name, namespace, host):
        return Side(
            ClusterApi(Rest(f"https://{host}", list, sender(api))), HelperRequest(namespace, name, "r")
        )

    def plan(name="b", namespace="ns", host="h", workloads=()):
        found = {}
        for route in ROUTES:
            made = PairPlan(workloads=list(workloads))
            made.trying(lambda: plan_route(made, side("a", "ns", "h"), side(name, namespace, host), route))  # noqa: B023
            if made.problems:
                (found[route],) = made.problems
        return found

    return plan


def put(api, name, node):
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    (volume,) = [each for each in api.all("persistentvolumes") if each["metadata"]["name"] == f"pv-{name}"]
    volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}


def test_where_the_claims_are(closed):
    assert closed() == {}
    apart = "the claims aren't in one namespace of one cluster"
    assert closed("c", "other") == {
        "mount": f"route: mount can't be taken here, since {apart}: use auto or stream"
    }
    assert closed(host="there").keys() == {"mount", "direct"}


def test_volumes_that_no_node_can_have_both(api, closed):
    put(api, "a", "node1")
    assert closed() == {}
    put(api, "b", "node1")
    assert closed() == {}
    put(api, "b", "node2")
    says = "route: mount can't be taken here, since no node can have the volumes of both claims: use auto or stream"
    assert closed() == {"mount": says}
    api.refuse[("list", "nodes")] = [(403, status(403, "no"))] * 9
    assert closed() == {}
    api.refuse.clear()
    api.find("persistentvolumeclaims", "ns", "b")["spec"]["volumeName"] = ""
    assert closed() == {}, "it gets its volume where it is first mounted"


def quota(api, hard, used, **spec):
    state = {"hard": {"pods": str(hard)}, "used": {"pods": str(used)}}
    api.add("resourcequotas", {"metadata": {"name": "q", "namespace": "ns"}, "spec": spec, "status": state})


@pytest.mark.parametrize(
    ("hard", "used", "stopped", "tight"),
    [(1, 0, False, True), (3, 2, False, True), (3, 1, False, False), (3, 2, True, False), (1, 0, True, True)],
)
def test_a_quota_with_room_for_one_of_two_pods(api, closed, hard, used, stopped, tight):
    quota(api, hard, used)
    workloads = [{"kind": "Deployment", "name": "web"}] if stopped else []
    found = closed(workloads=workloads)
    assert found.keys() == (TWO_PODS if tight else set())
    assert all(
        "The quota of pods of namespace ns (q) has room for one helper pod, and source and" in said
        for said in found.values()
    )
    assert closed("c", "other").keys() == {"mount"}
    put(api, "a", "node1")
    put(api, "b", "node2")
    assert closed(workloads=workloads).keys() == {"mount", *((*TWO_PODS, "auto") if tight else ())}


def test_quotas_that_leave_enough(api, closed):
    quota(api, 1, 0, scopes=["NotTerminating"])
    assert closed() == {}
    quota(api, 2, 1)
    helper = api.add("pods", pod("kubeferry-c-r2"))
    helper["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kubeferry"}
    assert closed() == {}, "a helper pod for another claim goes"
    api.remove("pods", helper)
    assert closed().keys() == TWO_PODS
    api.refuse[("list", "resourcequotas")] = [(403, status(403, "no"))] * 9
    assert closed() == {}
