# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of workloads that were brought back, with an API server in memory and a clock of its own."""

from __future__ import annotations

import pytest
from fakeapi import FakeApi, pod, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils import _running_again
from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Rest
from ansible_collections.kubeferry.pvc.plugins.module_utils._workload_kinds import KINDS, Workload

LABELS = {"app": "shop"}
CORDONED = (
    "0/2 nodes are available: 1 node(s) had volume node affinity conflict, 1 node(s) were unschedulable. no."
)


class Cluster:
    """A namespace with one workload, whose pods come when it is told."""

    def __init__(self, monkeypatch):
        self.api = FakeApi()
        self.now = 0.0
        self.then = {}
        monkeypatch.setattr(_running_again.time, "monotonic", lambda: self.now)

    def sleep(self, seconds):
        self.now += seconds
        self.then.pop(self.now, lambda: None)()

    def add(self, kind="Deployment", spec=None, **more):
        found = next(each for each in KINDS if each.name == kind)
        spec = {"replicas": 1, "template": {"metadata": {"labels": LABELS}, "spec": {}}, **(spec or {})}
        item = self.api.add(
            found.resource, {"metadata": {"name": "shop", "namespace": "ns"}, "spec": spec, **more}
        )
        self.workload = Workload(found, item)
        return item

    def add_pod(self, name="shop-1", **state):
        item = pod(name)
        item["metadata"]["labels"] = {**LABELS, "hash": "1"}
        item["status"].update(state)
        return self.api.add("pods", item)

    def said(self):
        workloads = [self.workload]
        return _running_again.not_running(
            ClusterApi(Rest("https://h", list, sender(self.api))), "ns", workloads, self.sleep
        )


@pytest.fixture
def cluster(monkeypatch):
    return Cluster(monkeypatch)


def unscheduled(text):
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": text}],
    }


def test_a_pod_that_becomes_ready_is_waited_for_and_no_longer(cluster):
    cluster.add()
    cluster.then = {5.0: cluster.add_pod}
    assert cluster.said() == []
    assert cluster.now == 5


def test_what_no_node_takes_is_told_with_the_reason(cluster):
    cluster.add()
    cluster.add_pod(**unscheduled(CORDONED))
    (said,) = cluster.said()
    assert said == (
        "Deployment ns/shop isn't running again: 1 node(s) had volume node affinity conflict, 1 node(s) were "
        "unschedulable; what is stopped can't come back to a cordoned node before that is undone."
    )
    assert cluster.now == 20
    cluster.add_pod("shop-2")
    assert cluster.said() == [said], "with another pod that is ready"


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, None),
        ({"phase": "Succeeded", "conditions": []}, None),
        (unscheduled("0/1 nodes are available: 1 Insufficient cpu."), "again: 1 Insufficient cpu."),
        (
            {"phase": "Pending", "conditions": []},
            "again yet: pod shop-1 isn't ready after 20 s (it is Pending).",
        ),
    ],
)
def test_pods_of_every_state(cluster, state, says):
    cluster.add("StatefulSet")
    cluster.add_pod(**state)
    said = cluster.said()
    assert said == [] if says is None else said[0].endswith(says)


def test_what_has_no_pod_is_told_with_the_reason(cluster):
    item = cluster.add()
    cluster.add_pod()["metadata"]["deletionTimestamp"] = "now"
    assert cluster.said() == ["Deployment ns/shop isn't running again: it has no pod after 20 s."]
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}
    item["status"] = {"conditions": [failure]}
    assert cluster.said() == [
        "Deployment ns/shop isn't running again: it has no pod after 20 s (exceeded quota: q)."
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "all_at_once"),
    [
        ("Deployment", {"replicas": 3}, True),
        ("DaemonSet", {}, True),
        ("StatefulSet", {"replicas": 3, "podManagementPolicy": "Parallel"}, True),
        ("StatefulSet", {"replicas": 3}, False),
        ("Job", {"parallelism": 3}, False),
    ],
)
def test_what_has_some_of_its_pods_is_told(cluster, kind, spec, all_at_once):
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}
    cluster.add(kind, spec=spec, status={"desiredNumberScheduled": 3, "conditions": [failure]})
    cluster.add_pod()
    said = f"{kind} ns/shop isn't running again with all its pods: there are 1 of 3 after 20 s (exceeded quota: q)."
    assert cluster.said() == [said] * all_at_once
    cluster.add_pod("shop-2", phase="Pending", conditions=[])
    cluster.add_pod("shop-3", phase="Pending", conditions=[])
    assert cluster.said() == [], "the rest is on its way"


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Job"])
def test_what_has_no_pod_and_no_condition_is_told_with_its_newest_event(cluster, kind):
    item = cluster.add(kind, status={"desiredNumberScheduled": 1})
    about = {"kind": kind, "name": "shop", "uid": item["metadata"]["uid"]}
    for at, reason, message in (
        (3, "Other", "no"),
        (2, "FailedCreate", "violates x."),
        (1, "FailedCreate", "old"),
    ):
        event = {"reason": reason, "message": message, "lastTimestamp": f"2026-01-01T00:00:0{at}Z"}
        event |= {"metadata": {"name": reason, "namespace": "ns"}, "involvedObject": about}
        cluster.api.add("events", event)
    assert cluster.said() == [f"{kind} ns/shop isn't running again: it has no pod after 20 s (violates x)."]
    cluster.api.refuse[("list", "events")] = [(403, status(403, "no"))]
    assert cluster.said() == [f"{kind} ns/shop isn't running again: it has no pod after 20 s."]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("CronJob", {}),
        ("Deployment", {"spec": {"replicas": 0}}),
        ("Job", {"spec": {"suspend": True}}),
        ("Job", {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
        ("DaemonSet", {"status": {"desiredNumberScheduled": 0}}),
    ],
)
def test_what_wants_no_pods_is_not_waited_for(cluster, kind, more):
    cluster.add(kind, **more)
    assert cluster.said() == []
    assert cluster.now == 0


def test_a_daemon_set_is_judged_by_its_present_status(cluster):
    item = cluster.add("DaemonSet", status={"desiredNumberScheduled": 0, "observedGeneration": 1})
    item["metadata"]["generation"] = 2
    cluster.then = {3.0: lambda: item["status"].update(observedGeneration=2)}
    assert cluster.said() == []
    assert cluster.now == 3


def test_what_is_gone_or_can_not_be_looked_at(cluster):
    item = cluster.add()
    cluster.api.refuse[("list", "pods")] = [(403, status(403, "no"))]
    (said,) = cluster.said()
    assert said.startswith("Whether what was brought back runs again couldn't be looked at: ")
    cluster.api.remove("deployments", item)
    assert cluster.said() == []
