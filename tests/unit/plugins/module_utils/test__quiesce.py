# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads stopped and brought back against an API server in memory."""

from __future__ import annotations

import copy
import json

import pytest
from fakeapi import FakeApi, pod, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils import _quiesce
from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    BusyError,
    Conflict,
    Forbidden,
    Interrupted,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._quiesce import Quiescer
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Rest
from ansible_collections.kubeferry.pvc.plugins.module_utils._workload_kinds import KINDS, QUIESCED

RESOURCES = {kind.name: kind.resource for kind in KINDS}
GROUPS = {kind.name: kind.group or "v1" for kind in KINDS}


def reference(kind, name, group=""):
    """To what controls an object."""
    version = group or GROUPS.get(kind, "example.com/v1")
    return {"apiVersion": version, "kind": kind, "name": name, "controller": True}


class Cluster:
    """An API whose workloads lose their pods when they are stopped."""

    def __init__(self, monkeypatch):
        self.api = FakeApi()
        self.api.remove("pods", self.api.all("pods")[0])
        self.now = 0.0
        self.changes = []
        self.stubborn = False
        monkeypatch.setattr(_quiesce.time, "monotonic", lambda: self.now)
        self.api.changed = self._changed
        self.quiescer = self.another()

    def another(self, check=lambda: None):
        """A quiescer of its own."""
        return Quiescer(ClusterApi(Rest("https://h", list, sender(self.api))), "ns", self._sleep, check)

    def _sleep(self, seconds):
        self.now += seconds

    def _changed(self, item):
        marked = QUIESCED in item["metadata"].get("annotations", {})
        self.changes.append((item["metadata"]["name"], marked, self.is_stopped(item)))
        if self.is_stopped(item) and not self.stubborn:
            for each in self.api.all("pods"):
                if each["metadata"].get("app") == item["metadata"]["name"]:
                    self.api.remove("pods", each)

    @staticmethod
    def is_stopped(item):
        spec = item["spec"]
        selector = spec.get("template", {}).get("spec", {}).get("nodeSelector") or {}
        return spec.get("replicas") == 0 or spec.get("suspend") is True or QUIESCED in selector

    def add(self, kind, name, claim="data", owner=None, running=True, **spec):
        template = {"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}}
        inner = (
            {"jobTemplate": {"spec": {"template": template}}} if kind == "CronJob" else {"template": template}
        )
        metadata = {"name": name, "namespace": "ns"}
        if owner:
            metadata["ownerReferences"] = [reference(owner, "o")]
        item = self.api.add(RESOURCES[kind], {"metadata": metadata, "spec": {**inner, **spec}})
        if running and kind != "CronJob":
            self.add_pod(f"{name}-1", claim, kind, name)
        return item

    def add_pod(self, name, claim="data", owner=None, app="", group=""):
        item = pod(name, claim=claim)
        item["metadata"]["app"] = app
        if owner:
            item["metadata"]["ownerReferences"] = [reference(owner, app, group)]
        return self.api.add("pods", item)

    def specs(self):
        return {
            item["metadata"]["name"]: copy.deepcopy(item["spec"])
            for kind in KINDS
            for item in self.api.all(kind.resource)
        }


@pytest.fixture
def cluster(monkeypatch):
    return Cluster(monkeypatch)


def titles(found):
    return [(each.kind.name, each.name) for each in found]


def test_every_kind_is_stopped_in_order_and_brought_back_in_reverse(cluster):
    cluster.add("StatefulSet", "database", replicas=3)
    cluster.add("DaemonSet", "agent")
    cluster.add("ReplicationController", "old", replicas=1)
    cluster.add("ReplicaSet", "set", replicas=2)
    cluster.add("DeploymentConfig", "config", replicas=4)
    cluster.add("Deployment", "shop", replicas=5)
    cluster.add("Job", "once")
    cluster.add("CronJob", "nightly", suspend=False)
    before = cluster.specs()
    order = ["nightly", "once", "shop", "config", "set", "old", "agent", "database"]
    assert [name for _kind, name in titles(cluster.quiescer.quiesce("data", 60))] == order
    assert cluster.changes == [(name, True, True) for name in order], "nothing is stopped without a record"
    assert cluster.api.all("pods") == []
    cluster.changes.clear()
    assert [name for _kind, name in titles(cluster.quiescer.restore("data"))] == order[::-1]
    assert cluster.changes == [(name, False, False) for name in order[::-1]]
    after = cluster.specs()
    assert after.pop("once").pop("suspend") is False
    before.pop("once")
    after["agent"]["template"]["spec"].pop("nodeSelector")
    assert after == before


def test_what_another_workload_looks_after_goes_with_it(cluster):
    cluster.add("Deployment", "shop", replicas=1, running=False)
    cluster.add("ReplicaSet", "shop-1", owner="Deployment", replicas=1)
    cluster.add("CronJob", "nightly")
    cluster.add("Job", "nightly-1", owner="CronJob")
    done = cluster.add("Job", "nightly-0", owner="CronJob", running=False)
    done["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    cluster.add("Deployment", "other", claim="else", replicas=1)
    assert titles(cluster.quiescer.find("data")) == [
        ("CronJob", "nightly"),
        ("Job", "nightly-1"),
        ("Deployment", "shop"),
    ]


def in_rollout(cluster, kind, owner, **spec):
    """A workload whose pods still have the claim that its new template hasn't any more."""
    cluster.add(kind, "shop", claim="else", running=False, **spec)
    cluster.add(owner, "shop-1", owner=kind, replicas=1)["metadata"]["ownerReferences"][0]["name"] = "shop"
    cluster.api.find("pods", "ns", "shop-1-1")["metadata"]["app"] = "shop"


def refused_for_its_rollout(cluster, title):
    with pytest.raises(BusyError) as error:
        cluster.quiescer.quiesce("data", 60)
    assert cluster.changes == []
    return str(error.value).startswith(
        f"{title} ns/shop has pods of a former template, which use claim data and"
    )


def test_a_workload_in_the_middle_of_a_rollout_is_refused_as_its_pods_would_not_come_back(cluster):
    in_rollout(cluster, "Deployment", "ReplicaSet", replicas=1)
    assert refused_for_its_rollout(cluster, "Deployment")
    cluster.api.all("pods")[0]["metadata"]["deletionTimestamp"] = "now"
    cluster.api.all("replicasets")[0]["spec"]["replicas"] = 0
    assert titles(cluster.quiescer.find("data")) == []
    assert titles(cluster.quiescer.find("else")) == [("Deployment", "shop")]


def test_a_rollout_is_found_while_a_pod_of_the_former_template_is_to_come(cluster):
    in_rollout(cluster, "DeploymentConfig", "ReplicationController", replicas=1)
    cluster.api.remove("pods", cluster.api.all("pods")[0])
    assert refused_for_its_rollout(cluster, "DeploymentConfig")
    cluster.api.all("replicationcontrollers")[0]["spec"]["replicas"] = 0
    assert titles(cluster.quiescer.find("data")) == []


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_pods_of_a_former_template_lead_to_their_owner(cluster, kind):
    cluster.add(kind, "shop", claim="else", running=False)
    cluster.add_pod("shop-0", owner=kind, app="shop")
    assert refused_for_its_rollout(cluster, kind)


def refused_for_its_former_pods(cluster, title):
    with pytest.raises(BusyError) as error:
        cluster.quiescer.quiesce("data", 60)
    assert cluster.changes == []
    assert f"{title} has pods of a former template, in whose place" in str(error.value)
    assert "finish or undo its rollout (with OnDelete, delete those pods), or copy without" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("kind", "all_of_them", "newest"),
    [
        ("Deployment", "replicas", "updatedReplicas"),
        ("DeploymentConfig", "replicas", "updatedReplicas"),
        ("DaemonSet", "currentNumberScheduled", "updatedNumberScheduled"),
    ],
)
def test_a_workload_with_pods_of_a_former_template_that_has_the_claim_is_refused(
    cluster, kind, all_of_them, newest
):
    """As where a rollout is stuck, or is a paused canary."""
    cluster.add("Deployment", "first", replicas=1)
    item = cluster.add(kind, "shop")
    item["status"] = {all_of_them: 4, newest: 1}
    refused_for_its_former_pods(cluster, f"{kind} ns/shop")
    del item["status"][newest]
    refused_for_its_former_pods(cluster, f"{kind} ns/shop")
    item["status"][newest] = 4
    assert titles(cluster.quiescer.find("data"))[-1:] == [(kind, "shop")]


def test_a_stateful_set_with_pods_of_two_revisions_is_refused(cluster):
    """As with a partition, or with OnDelete. What another set has, or what is ending, doesn't count."""
    item = cluster.add("StatefulSet", "db", replicas=2)
    (newest,) = cluster.api.all("pods")
    newest["metadata"]["labels"] = {"controller-revision-hash": "db-2"}
    former = cluster.add_pod("db-0", claim="else", owner="StatefulSet", app="db")
    former["metadata"]["labels"] = {"controller-revision-hash": "db-1"}
    item["status"] = {"currentRevision": "db-1", "updateRevision": "db-2"}
    refused_for_its_former_pods(cluster, "StatefulSet ns/db")
    former["metadata"]["ownerReferences"][0]["name"] = "other"
    assert titles(cluster.quiescer.find("data")) == [("StatefulSet", "db")]
    former["metadata"]["ownerReferences"][0]["name"] = "db"
    former["metadata"]["deletionTimestamp"] = "now"
    assert titles(cluster.quiescer.find("data")) == [("StatefulSet", "db")]


def test_what_is_stopped_already_has_no_pods_to_lose(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    cluster.quiescer.quiesce("data", 60, ["a"])
    item["status"] = {"replicas": 1}
    assert cluster.quiescer.quiesce("data", 60, ["a"]) == []


OWN = [{"kind": "Deployment", "name": "shop", "was": {"replicas": 3}}]


def test_what_lost_its_record_gets_it_again_from_the_run_that_has_stopped_it(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    cluster.add("Deployment", "web", replicas=2)
    cluster.quiescer.quiesce("data", 60, ["a"])
    item["metadata"]["annotations"].clear()
    cluster.quiescer.record_again("data", ["a"], [*OWN, {"kind": "Job", "name": "gone", "was": {}}])
    record = {"claims": ["data"], "runs": {"data": "a"}, "was": {"replicas": 3}}
    assert json.loads(item["metadata"]["annotations"][QUIESCED]) == record
    (said,) = cluster.quiescer.warnings
    assert said.startswith(
        "Deployment ns/shop is stopped for claim data, and somebody removed its annotation"
    )
    assert said.endswith("it has it again, with what it was (replicas: 3).")
    cluster.quiescer.restore("data", ["a"])
    assert item["spec"]["replicas"] == 3


def test_what_lost_its_record_is_left_to_whoever_has_started_or_stopped_it_since(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    volumes = item["spec"]["template"]["spec"]["volumes"]
    volumes.append({"name": "w", "persistentVolumeClaim": {"claimName": "logs"}})
    cluster.quiescer.quiesce("data", 60, ["a"])
    item["metadata"]["annotations"].clear()
    item["spec"]["replicas"] = 1
    cluster.quiescer.record_again("data", ["a"], OWN)
    assert item["metadata"]["annotations"] == {}
    cluster.quiescer.quiesce("logs", 60, ["b"])
    before = dict(item["metadata"]["annotations"])
    cluster.quiescer.record_again("data", ["a"], OWN)
    assert item["metadata"]["annotations"] == before
    assert cluster.quiescer.warnings == []


def test_claims_that_a_stateful_set_makes_are_its_own_and_not_deleted(cluster):
    policy = {"whenScaled": "Delete", "whenDeleted": "Retain"}
    item = cluster.add(
        "StatefulSet",
        "db",
        claim="x",
        replicas=2,
        volumeClaimTemplates=[{"metadata": {"name": "data"}}],
        persistentVolumeClaimRetentionPolicy=dict(policy),
    )
    assert titles(cluster.quiescer.find("data-db-1")) == [("StatefulSet", "db")]
    assert titles(cluster.quiescer.find("data-db-x")) == []
    cluster.quiescer.quiesce("data-db-1", 60)
    assert item["spec"]["persistentVolumeClaimRetentionPolicy"] == {**policy, "whenScaled": "Retain"}
    cluster.quiescer.restore("data-db-1")
    assert item["spec"]["persistentVolumeClaimRetentionPolicy"] == policy


def test_a_workload_of_two_claims_comes_back_with_the_last(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    volumes = item["spec"]["template"]["spec"]["volumes"]
    volumes.append({"name": "w", "persistentVolumeClaim": {"claimName": "logs"}})
    for claim in ("data", "logs", "data"):
        cluster.quiescer.quiesce(claim, 60)
    assert json.loads(item["metadata"]["annotations"][QUIESCED]) == {
        "claims": ["data", "logs"],
        "was": {"replicas": 3},
    }
    assert titles(cluster.quiescer.restore("data")) == []
    assert item["spec"]["replicas"] == 0
    assert titles(cluster.quiescer.restore("logs")) == [("Deployment", "shop")]
    assert item["spec"]["replicas"] == 3


@pytest.mark.parametrize("requests_before", range(40))
def test_whenever_somebody_restores_meanwhile_nothing_is_stopped_without_a_record(cluster, requests_before):
    items = [cluster.add("Deployment", name, replicas=3) for name in ("shop", "web")]
    handle, guard = cluster.api.handle, cluster.another()

    def answer(*request):
        cluster.api.requests.append(None)
        if len(cluster.api.requests) > requests_before:
            cluster.api.handle = handle
            guard.restore("data")
        return handle(*request)

    cluster.api.handle = answer
    cluster.quiescer.quiesce("data", 60)
    for item in items:
        record = json.loads(item["metadata"].get("annotations", {}).get(QUIESCED, "{}"))
        assert item["spec"]["replicas"] == 3 or record.get("was") == {"replicas": 3}


def test_nothing_is_stopped_once_the_run_is_dead(cluster):
    shop, web = (cluster.add("Deployment", name, replicas=3) for name in ("shop", "web"))

    def check():
        if cluster.changes:
            raise Interrupted("gone")

    with pytest.raises(Interrupted):
        cluster.another(check).quiesce("data", 60)
    assert (shop["spec"]["replicas"], web["spec"]["replicas"]) == (0, 3)
    cluster.stubborn = True
    cluster.api.remove("deployments", web)
    with pytest.raises(Interrupted):
        cluster.another(check).quiesce("data", 60)
    assert cluster.now == 0, "nor are pods waited for"


def test_what_was_started_by_hand_and_is_stopped_again_is_this_run_s_to_bring_back(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    cluster.quiescer.quiesce("data", 60, ["a"])
    cluster.quiescer.keep("data", "a")
    item["spec"]["replicas"] = 3
    assert titles(cluster.quiescer.quiesce("data", 60, ["b"])) == [("Deployment", "shop")]
    assert titles(cluster.quiescer.restore("data", ["b"])) == [("Deployment", "shop")]
    assert item["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("kind", "before", "by_hand"),
    [
        ("Deployment", {"replicas": 3}, {"replicas": 4}),
        ("Deployment", {"replicas": 0}, {"replicas": 2}),
        ("StatefulSet", {"replicas": 3}, {"replicas": 1}),
        ("ReplicationController", {"replicas": 3}, {"replicas": 5}),
        ("CronJob", {"suspend": True}, {"suspend": False}),
        ("Job", {"suspend": True}, {"suspend": False}),
    ],
)
def test_what_was_started_by_hand_comes_back_as_that_and_not_as_it_was_before(cluster, kind, before, by_hand):
    item = cluster.add(kind, "shop", running=False, **before)
    cluster.quiescer.quiesce("data", 60, ["dead"], leased=True)
    item["spec"].update(by_hand)
    assert cluster.quiescer.find("data")[0].was == by_hand
    assert titles(cluster.quiescer.quiesce("data", 60, ["a"], leased=True)) == [(kind, "shop")]
    assert cluster.is_stopped(item)
    assert cluster.quiescer.quiesce("data", 60, ["a"], leased=True) == []
    assert titles(cluster.quiescer.restore("data", ["a"])) == [(kind, "shop")]
    assert by_hand.items() <= item["spec"].items()
    assert QUIESCED not in item["metadata"]["annotations"]


def test_a_daemon_set_that_was_started_by_hand_is_stopped_and_started_again(cluster):
    item = cluster.add("DaemonSet", "agent")
    cluster.quiescer.quiesce("data", 60, ["dead"], leased=True)
    item["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    assert titles(cluster.quiescer.quiesce("data", 60, ["a"], leased=True)) == [("DaemonSet", "agent")]
    assert item["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "ssd", QUIESCED: "true"}
    assert titles(cluster.quiescer.restore("data", ["a"])) == [("DaemonSet", "agent")]
    assert item["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "ssd"}


def test_what_was_started_by_hand_is_not_kept_away_by_another_claim_of_a_dead_run(cluster):
    """Nor is what the workload wrote meanwhile overlooked by that other run, should it live."""
    item = cluster.add("Deployment", "shop", replicas=3)
    volumes = item["spec"]["template"]["spec"]["volumes"]
    volumes.append({"name": "w", "persistentVolumeClaim": {"claimName": "logs"}})
    cluster.quiescer.quiesce("data", 60, ["dead"])
    item["spec"]["replicas"] = 4
    cluster.quiescer.quiesce("logs", 60, ["a"])
    assert json.loads(item["metadata"]["annotations"][QUIESCED]) == {
        "claims": ["logs"],
        "runs": {"logs": "a"},
        "was": {"replicas": 4},
    }
    cluster.quiescer.check_stopped("logs")
    assert refused_as_started(cluster, "Deployment ns/shop")
    assert titles(cluster.quiescer.restore("logs", ["a"])) == [("Deployment", "shop")]
    assert item["spec"]["replicas"] == 4


def test_what_a_killed_run_left_is_brought_back_without_naming_a_claim(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    cluster.quiescer.quiesce("data", 60)
    assert titles(cluster.quiescer.stopped()) == [("Deployment", "shop")]
    cluster.quiescer.quiesce("data", 60)
    assert titles(cluster.quiescer.restore()) == [("Deployment", "shop")]
    assert item["spec"]["replicas"] == 3
    assert cluster.quiescer.restore() == []


def test_one_that_can_not_be_brought_back_keeps_no_other_away(cluster):
    sh1 = cluster.add("Deployment", "sh1", replicas=2)
    sh2 = cluster.add("StatefulSet", "sh2", replicas=3)
    cluster.quiescer.quiesce("data", 60)
    cluster.api.refuse[("patch", "statefulsets")] = [(403, status(403, "no"))] * 2
    with pytest.raises(Forbidden, match=r"^StatefulSet ns/sh2 stays stopped: Changing statefulset") as raised:
        cluster.quiescer.restore("data")
    assert raised.value.changed
    assert sh1["spec"]["replicas"] == 2
    cluster.quiescer.quiesce("data", 60)
    cluster.api.refuse[("patch", "deployments")] = [(403, status(403, "no"))]
    with pytest.raises(Forbidden, match=r"^StatefulSet ns/sh2 stays .* Deployment ns/sh1 stays ") as raised:
        cluster.quiescer.restore("data")
    assert not raised.value.changed
    cluster.quiescer.restore("data")
    assert (sh1["spec"]["replicas"], sh2["spec"]["replicas"]) == (2, 3)


@pytest.mark.parametrize(
    "record",
    [
        '{"claims": 1}',
        '{"claims": [["data"]]}',
        '{"claims": ["data"], "was": [1]}',
        '{"claims": ["data"], "was": {"replicas": "x"}}',
        '{"claims": ["data"], "was": {"replicas": null}}',
        '{"claims": ["data"], "was": {"replicas": Infinity}}',
        '{"claims": ["data"], "runs": ["c"]}',
        '{"claims": ["data"], "runs": {"data": 1}}',
        '{"claims": ["data"], "leased": 5}',
        '{"was": {"replicas": 3}}',
        "[" * 100_000,
        "no JSON",
        "",
    ],
)
def test_an_annotation_that_is_no_record_is_passed_over_and_told(cluster, record):
    shop = cluster.add("Deployment", "shop", replicas=3)
    odd = cluster.add("Deployment", "odd", claim="else", replicas=0, running=False)
    odd["metadata"]["annotations"] = {QUIESCED: record}
    cluster.add("ReplicaSet", "odd-1", owner="Deployment", running=False, replicas=0)["metadata"][
        "annotations"
    ] = {QUIESCED: record}
    assert titles(cluster.quiescer.quiesce("data", 60, ["a"])) == [("Deployment", "shop")]
    assert titles(cluster.quiescer.restore("data")) == [("Deployment", "shop")]
    assert (shop["spec"]["replicas"], odd["spec"]["replicas"]) == (3, 0)
    (said,) = cluster.quiescer.warnings
    assert said.startswith("Deployment ns/odd has an annotation kubeferry.io/quiesced that is no record")


def test_runs_are_on_record_for_each_claim(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    volumes = item["spec"]["template"]["spec"]["volumes"]
    volumes.append({"name": "w", "persistentVolumeClaim": {"claimName": "logs"}})
    cluster.quiescer.quiesce("data", 60, ["a"])
    cluster.quiescer.quiesce("logs", 60, ["b"])
    record = json.loads(item["metadata"]["annotations"][QUIESCED])
    assert record == {"claims": ["data", "logs"], "runs": {"data": "a", "logs": "b"}, "was": {"replicas": 3}}
    assert titles(cluster.quiescer.keep("logs", "b")) == [("Deployment", "shop")]
    assert cluster.quiescer.restore("", ["a"]) == []
    assert json.loads(item["metadata"]["annotations"][QUIESCED]) == {
        "claims": ["logs"],
        "was": {"replicas": 3},
    }
    assert cluster.quiescer.quiesce("logs", 60, ["c"]) == []
    assert cluster.quiescer.restore("logs", ["c"]) == []
    assert titles(cluster.quiescer.restore("logs")) == [("Deployment", "shop")]
    assert item["spec"]["replicas"] == 3


def test_of_what_another_run_has_stopped_nothing_is_changed(cluster):
    cluster.add("Deployment", "shop", replicas=3)
    cluster.quiescer.quiesce("data", 60, ["a"])
    cluster.add("CronJob", "nightly")
    cluster.changes.clear()
    with pytest.raises(BusyError, match=r"run the playbook kubeferry\.pvc\.restore if it has died"):
        cluster.quiescer.quiesce("data", 60, ["b"])
    assert cluster.changes == []


def test_what_was_stopped_before_stays_stopped(cluster):
    item = cluster.add("Deployment", "shop", replicas=0, running=False)
    cluster.quiescer.quiesce("data", 60)
    cluster.quiescer.restore("data")
    assert item["spec"]["replicas"] == 0


def test_what_somebody_started_by_hand_stays_as_it_is(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    cluster.quiescer.quiesce("data", 60)
    item["spec"]["replicas"] = 1
    cluster.quiescer.restore("data")
    assert item["spec"]["replicas"] == 1
    assert QUIESCED not in item["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    ("owner", "group", "says"),
    [
        (None, "", "belongs to no workload that could bring it back"),
        ("Rollout", "argoproj.io/v1", "belongs to Rollout shop of argoproj.io, which would start it again"),
        ("StatefulSet", "apps.kruise.io/v1beta1", "belongs to StatefulSet shop of apps.kruise.io, which"),
        ("Job", "batch.volcano.sh/v1alpha1", "belongs to Job shop of batch.volcano.sh, which"),
        ("Node", "v1", "belongs to Node shop, which"),
    ],
)
def test_a_pod_that_nothing_would_bring_back_is_refused_before_anything_is_changed(
    cluster, owner, group, says
):
    cluster.add("Deployment", "web", replicas=1)
    cluster.add_pod("alone", owner=owner, app="shop", group=group)
    with pytest.raises(BusyError) as error:
        cluster.quiescer.quiesce("data", 60)
    assert says in str(error.value)
    assert cluster.changes == []


def test_a_workload_of_an_operator_is_refused(cluster):
    cluster.add("StatefulSet", "db", owner="PostgresCluster", replicas=1)
    with pytest.raises(BusyError, match="StatefulSet ns/db uses claim data and belongs to PostgresCluster o"):
        cluster.quiescer.quiesce("data", 60)
    assert cluster.changes == []


def test_pods_that_stay_are_named_when_the_time_is_over(cluster):
    cluster.stubborn = True
    cluster.add("Deployment", "shop", replicas=1)
    with pytest.raises(BusyError, match="still in use by shop-1 after 20 s: look for what scales it up"):
        cluster.quiescer.quiesce("data", 20)
    assert cluster.now == 20


def test_of_pods_that_take_long_to_end_the_time_that_they_have_is_told(cluster):
    cluster.stubborn = True
    cluster.add("Deployment", "shop", replicas=1)
    (pod,) = cluster.api.all("pods")
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pod["spec"]["terminationGracePeriodSeconds"] = 400
    with pytest.raises(BusyError, match="it is ending, for which it has 400 s"):
        cluster.quiescer.quiesce("data", 20)


def test_helper_pods_are_nobodys_workload(cluster):
    item = cluster.add_pod("kubeferry-data-r1")
    item["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kubeferry"}
    assert cluster.quiescer.quiesce("data", 60) == []


def test_a_change_by_somebody_else_is_taken_into_account(cluster):
    item = cluster.add("Deployment", "shop", replicas=3)
    cluster.api.refuse[("patch", "deployments")] = [(409, status(409, "modified"))] * 3
    assert titles(cluster.quiescer.quiesce("data", 60)) == [("Deployment", "shop")]
    assert item["spec"]["replicas"] == 0
    cluster.api.refuse[("patch", "deployments")] = [(409, status(409, "modified"))] * 99
    with pytest.raises(Conflict, match="is being changed by somebody else all the time"):
        cluster.quiescer.restore("data")


def test_kinds_that_the_cluster_lacks_are_passed_over(cluster):
    cluster.api.refuse[("list", "deploymentconfigs")] = [(403, status(403, "no"))]
    cluster.api.refuse[("list", "replicationcontrollers")] = [(404, status(404, "no"))]
    assert cluster.quiescer.find("data") == []


def test_what_a_deployment_looks_after_is_left_to_it(cluster):
    """Its controller copies the record to its ReplicaSets, the old one's as well."""
    deployment = cluster.add("Deployment", "shop", replicas=3)
    sets = [
        cluster.add("ReplicaSet", name, owner="Deployment", running=False, replicas=0)
        for name in ("shop-1", "shop-2")
    ]
    for each in sets:
        each["metadata"]["ownerReferences"][0]["name"] = "shop"
    cluster.quiescer.quiesce("data", 60)
    record = deployment["metadata"]["annotations"][QUIESCED]
    for each in sets:
        each["metadata"]["annotations"] = {QUIESCED: record, "kept": "yes"}
    assert titles(cluster.quiescer.stopped("data")) == [("Deployment", "shop")]
    assert titles(cluster.quiescer.restore("data")) == [("Deployment", "shop")]
    assert deployment["spec"]["replicas"] == 3
    assert [each["spec"]["replicas"] for each in sets] == [0, 0]
    assert [each["metadata"]["annotations"] for each in sets] == [{"kept": "yes"}] * 2


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_a_copy_of_a_record_that_can_not_be_removed_is_no_failure_and_told(cluster, verb):
    cluster.add("Deployment", "shop", replicas=3)
    copied = cluster.add("ReplicaSet", "shop-1", owner="Deployment", running=False, replicas=0)
    cluster.quiescer.quiesce("data", 60)
    copied["metadata"]["annotations"] = {QUIESCED: '{"claims": ["data"], "was": {"replicas": 3}}'}
    cluster.api.refuse[(verb, "replicasets")] = [(403, status(403, "no"))]
    assert titles(cluster.quiescer.restore("data")) == [("Deployment", "shop")]
    (said,) = cluster.quiescer.warnings
    assert said.startswith(
        f"ReplicaSet ns/shop-1 keeps a copy of the annotation {QUIESCED}, which a rollback"
    )
    assert f"the user needs the verb {verb} on replicasets.apps in namespace ns" in said
    assert cluster.quiescer.restore("data") == []
    assert copied["metadata"]["annotations"] == {}, "once more, when it may be removed"


def test_copies_of_a_record_stay_while_the_workload_is_stopped(cluster):
    shop = cluster.add("Deployment", "shop", replicas=3)
    cluster.add("StatefulSet", "db", claim="logs", replicas=1)
    copied = cluster.add("ReplicaSet", "shop-1", claim="data", owner="Deployment", running=False, replicas=0)
    copied["metadata"]["ownerReferences"][0]["name"] = "shop"
    for claim in ("data", "logs"):
        cluster.quiescer.quiesce(claim, 60)
    copied["metadata"]["annotations"] = dict(shop["metadata"]["annotations"])
    assert titles(cluster.quiescer.restore("logs")) == [("StatefulSet", "db")]
    assert QUIESCED in copied["metadata"]["annotations"]


def test_a_retention_policy_comes_back_where_somebody_scaled_by_hand(cluster):
    item = cluster.add(
        "StatefulSet", "db", replicas=3, persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete"}
    )
    cluster.quiescer.quiesce("data", 60)
    item["spec"]["replicas"] = 1
    cluster.quiescer.restore("data")
    assert item["spec"]["replicas"] == 1
    assert item["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenScaled": "Delete"}


def test_a_retention_policy_comes_back_though_the_record_is_made_anew(cluster):
    item = cluster.add(
        "StatefulSet", "db", replicas=3, persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete"}
    )
    cluster.quiescer.quiesce("data", 60)
    item["spec"]["replicas"] = 4
    cluster.quiescer.quiesce("data", 60)
    assert item["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenScaled": "Retain"}
    cluster.quiescer.restore("data")
    assert item["spec"]["replicas"] == 4
    assert item["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenScaled": "Delete"}


def refused_as_started(cluster, title):
    with pytest.raises(BusyError) as error:
        cluster.quiescer.check_stopped("data")
    return str(error.value).startswith(
        f"{title} was started before the work on claim ns/data was done, so what"
    )


def test_what_was_started_again_before_the_work_is_done_is_named(cluster):
    shop = cluster.add("Deployment", "shop", replicas=3)
    cluster.add("CronJob", "nightly")
    cluster.quiescer.quiesce("data", 60)
    cluster.quiescer.check_stopped("data")
    shop["spec"]["replicas"] = 1
    assert refused_as_started(cluster, "Deployment ns/shop"), "its pod is still to come"
    del shop["metadata"]["annotations"]
    assert refused_as_started(cluster, "Deployment ns/shop")
    shop["spec"]["replicas"] = 0
    leaving = cluster.add_pod("shop-1", owner="Deployment", app="shop")
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert refused_as_started(cluster, "Pod ns/shop-1")
    cluster.api.remove("pods", leaving)
    cluster.add_pod("alone")
    assert refused_as_started(cluster, "Pod ns/alone")
    cluster.api.all("pods")[0]["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kubeferry"}
    cluster.quiescer.check_stopped("data")


def test_a_claim_that_goes_with_its_pod_is_refused(cluster):
    cluster.add("Deployment", "shop", claim="else", replicas=1, running=False)
    item = cluster.add_pod("shop-1", claim="else", owner="ReplicaSet", app="shop")
    item["spec"]["volumes"].append({"name": "data", "ephemeral": {"volumeClaimTemplate": {}}})
    with pytest.raises(
        BusyError, match=r"ns/shop-1-data is an ephemeral volume of pod shop-1 and is deleted with it"
    ):
        cluster.quiescer.quiesce("shop-1-data", 60)
    assert cluster.changes == []
