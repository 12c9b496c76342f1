# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from fakeapi import FakeApi, claim, pod, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_spec import HelperRequest
from ansible_collections.kubeferry.pvc.plugins.module_utils._new_claim import NewClaim
from ansible_collections.kubeferry.pvc.plugins.module_utils._nodes import cordoned_alone
from ansible_collections.kubeferry.pvc.plugins.module_utils._pair_plan import (
    PairPlan,
    Side,
    plan_source,
    plan_target,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Rest
from ansible_collections.kubeferry.pvc.plugins.module_utils._workload_kinds import QUIESCED


@pytest.fixture
def api():
    made = FakeApi()
    made.add("persistentvolumeclaims", claim())
    made.add("storageclasses", {"metadata": {"name": "fast"}, "provisioner": "nfs.csi.k8s.io"})
    return made


@pytest.fixture
def planned(api):
    """Plans one side, and gives the plan."""

    def plan(side="source", name="pvc-0", create=False, size="10Gi", capacity=0, **options):
        made = PairPlan()
        ours = Side(ClusterApi(Rest("https://h", list, sender(api))), HelperRequest("ns", name, "r1"))
        new = NewClaim("ns", name, "fast", ["ReadWriteOnce"], size) if create else None
        if side == "source":
            plan_source(made, ours, **{"quiesce": False, **options})
        else:
            made.capacity = capacity
            plan_target(made, ours, new, **{"into_used": False, **options})
        return made

    yield plan
    changing = [(m, t) for m, t, *_rest in api.requests if m != "GET" and "dryRun=All" not in t]
    assert not changing, "a plan changes nothing"


def only(plan):
    (problem,) = plan.problems
    return problem


def test_nothing_in_the_way(planned):
    assert planned().problems == planned().notes == []
    assert planned("target").problems == []


def test_claims_that_can_not_be_read(api, planned):
    assert "ns/gone doesn't exist" in only(planned(name="gone"))
    item = api.find("persistentvolumeclaims", "ns", "pvc-0")
    item["status"]["phase"] = "Pending"
    assert "isn't bound to a volume" in only(planned())
    item["spec"]["volumeMode"] = "Block"
    assert "raw block device" in only(planned())


def test_users_of_the_source(api, planned):
    item = api.find("persistentvolumeclaims", "ns", "pvc-0")
    api.add("pods", pod("app", claim="pvc-0"))
    assert planned().notes == ["is in use by app while it is copied"]
    assert "belongs to no workload" in only(planned(quiesce=True))
    item["spec"]["accessModes"] = ["ReadWriteOncePod"]
    assert "pod app has it: quiesce it" in only(planned())


def test_pod_security_is_asked_of_the_server(api, planned):
    api.refuse[("create", "pods")] = [(403, status(403, 'violates PodSecurity "restricted:latest"'))]
    assert "set pod_security to restricted" in only(planned())


def test_a_quota_of_pods_that_helper_pods_use_up_is_no_problem(api, planned):
    said = 'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    for side in ("source", "target"):
        api.refuse[("create", "pods")] = [(403, status(403, said))]
        assert "under its quota of pods: raise it" in only(planned(side))
    helper = api.add("pods", pod("kubeferry-c1-r2"))
    helper["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kubeferry", "kubeferry.io/run": "r2"}
    for side in ("source", "target"):
        api.refuse[("create", "pods")] = [(403, status(403, said))]
        plan = planned(side)
        assert plan.problems == []
        assert plan.notes == ["waits for helper pods of other claims, which use up the quota of pods of ns"]


def test_a_new_claim_is_tried_without_making_it(api, planned):
    assert "doesn't exist: make it, or set create" in only(planned("target", "new"))
    made = planned("target", "new", create=True)
    assert made.problems == []
    assert made.creates == {"namespace": "ns", "storage_class": "fast", "bytes": 10 << 30, "server": "h"}
    api.refuse[("create", "persistentvolumeclaims")] = [(403, status(403, "exceeded quota: q"))]
    assert "raise it, or ask for less" in only(planned("target", "new", create=True))
    api.refuse[("list", "storageclasses")] = [(403, status(403, "no"))]
    assert planned("target", "new", create=True).notes == [
        "whether the storage class exists can't be looked at"
    ]
    api.remove("storageclasses", api.all("storageclasses")[0])
    assert "storage class fast of claim ns/new doesn't exist" in only(planned("target", "new", create=True))


def test_a_claim_to_copy_to_that_is_smaller(planned):
    gibi = 1 << 30
    plan = planned("target", "new", create=True, size="2Gi", capacity=3 * gibi)
    assert (plan.problems, plan.notes) == ([], ["new is smaller than the source"])
    for size, possible in ((2 * gibi, True), (2 * gibi + 1, False), (3 * gibi + 1, True)):
        plan.problems = []
        plan.measured(size)
        assert (not plan.problems) == possible, size
    plan.measured(3 * gibi)
    assert only(plan) == (
        "The claim to copy to has 2.0 GiB, and the files of the source have 3.0 GiB: give it more"
    )
    assert planned("target", "new", create=True, size="2Gi", capacity=2 * gibi).notes == []


def test_what_quotas_leave(api, planned):
    hard = {"requests.storage": "20Gi", "pods": "5", "persistentvolumeclaims": "3"}
    used = {"requests.storage": "15Gi", "pods": "1", "persistentvolumeclaims": "1"}
    api.add(
        "resourcequotas",
        {"metadata": {"name": "q", "namespace": "ns"}, "status": {"hard": hard, "used": used}},
    )
    left = {each["resource"]: each["left"] for each in planned("target", "new", create=True).quotas}
    assert left == {"requests.storage": 5 << 30, "persistentvolumeclaims": 2}


def test_a_target_that_is_there(api, planned):
    item = api.find("persistentvolumeclaims", "ns", "pvc-0")
    api.add("pods", pod("app", claim="pvc-0"))
    assert only(planned("target")) == (
        "Claim ns/pvc-0 is in use by pod app, and what was written there would be replaced: stop what uses it, or set "
        "into_used (migrate_into_used of the role migrate) to go on all the same"
    )
    plan = planned("target", into_used=True)
    assert plan.problems == []
    assert plan.notes == ["ns/pvc-0 is mounted by pod app, which may see files that aren't whole"]
    api.find("pods", "ns", "app")["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "kubeferry"}
    assert planned("target").problems == [], "a helper pod"
    item["spec"]["accessModes"] = ["ReadOnlyMany"]
    assert "can't be written to (ReadOnlyMany)" in only(planned("target"))


def test_a_target_that_is_marked_as_that_of_another_claim(api):
    source, target = claim("a"), claim("b")
    for item in (source, target):
        api.add("persistentvolumeclaims", item)

    def problems():
        made = PairPlan()
        server = ClusterApi(Rest("https://h", list, sender(api)))
        one, other = (Side(server, HelperRequest("ns", name, "r1")) for name in "ab")
        plan_source(made, one, quiesce=True)
        plan_target(made, other, None, into_used=False)
        return made.problems

    uid = api.find("persistentvolumeclaims", "ns", "a")["metadata"]["uid"]
    found = api.find("persistentvolumeclaims", "ns", "b")["metadata"]
    found["annotations"] = {"kubeferry.io/source": f"ns/a, uid {uid}"}
    assert problems() == []
    found["annotations"] = {"kubeferry.io/source": "ns/other, uid 1"}
    (problem,) = problems()
    assert (
        f"ns/b is marked as the destination of claim ns/other, uid 1, so that the files of claim ns/a, uid {uid} don't"
        in problem
    )


def test_a_target_that_is_there_and_not_as_it_is_wanted(api, planned):
    item = api.find("persistentvolumeclaims", "ns", "pvc-0")
    item["spec"]["storageClassName"] = "fast"
    item["status"]["capacity"] = {"storage": "1Gi"}
    assert planned("target").problems == []
    assert "ns/pvc-0 is there already and has 1Gi, not 10Gi" in only(planned("target", create=True))
    item["status"]["capacity"] = {"storage": "10Gi"}
    assert planned("target", create=True).problems == []


@pytest.mark.parametrize(
    ("cordoned", "says"),
    [(["node2"], True), (["node1", "node2"], True), (["node1"], False), ([], False)],
)
def test_what_can_not_come_back_to_a_cordoned_node_is_noted(api, planned, cordoned, says):
    pinned = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node2"]}
    terms = [{"matchExpressions": [pinned]}, {"matchFields": [{**pinned, "key": "metadata.name"}]}]
    affinity = {"required": {"nodeSelectorTerms": terms}}
    api.find("persistentvolumeclaims", "ns", "pvc-0")["spec"]["volumeName"] = "pv-0"
    api.add("persistentvolumes", {"metadata": {"name": "pv-0"}, "spec": {"nodeAffinity": affinity}})
    for name in ("node1", "node2", "node3"):
        labels = {"kubernetes.io/hostname": name}
        spec = {"unschedulable": True} if name in cordoned else {}
        api.add("nodes", {"metadata": {"name": name, "labels": labels}, "spec": spec})
    volumes = [{"persistentVolumeClaim": {"claimName": "pvc-0"}}]
    spec = {"replicas": 1, "template": {"spec": {"volumes": volumes}}}
    assert planned(quiesce=True).notes == []
    api.add("deployments", {"metadata": {"name": "shop", "namespace": "ns"}, "spec": spec})
    notes = planned(quiesce=True).notes
    assert [note.partition(",")[0] for note in notes] == ["its volume is on node2 alone"] * says
    assert planned(quiesce=False).notes == []
    api.refuse[("list", "nodes")] = [(403, status(403, "no"))]
    assert planned(quiesce=True).notes == []


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["a", "b"], True),
        ("In", ["b"], False),
        ("NotIn", ["b"], True),
        ("NotIn", ["a"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_nodes_by_their_labels(operator, values, fits):
    node = {"metadata": {"name": "n", "labels": {"zone": "a"}}, "spec": {"unschedulable": True}}
    term = {"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]}
    volume = {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term, {}]}}}}
    assert cordoned_alone([volume], [node]) == ["n"] * fits
    assert cordoned_alone([{"spec": {}}], [node]) == []


def test_several_volumes_are_on_the_nodes_that_can_have_each():
    def on(*names):
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": list(names)}]}
        return {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}

    nodes = [{"metadata": {"name": name}, "spec": {"unschedulable": name == "b"}} for name in "abc"]
    assert cordoned_alone([on("a", "b"), {"spec": {}}, on("b", "c")], nodes) == ["b"]
    assert cordoned_alone([on("a", "b"), on("a", "b")], nodes) == []


def test_a_rollout_that_is_not_done_is_in_the_way_of_stopping_it(api, planned):
    volumes = [{"persistentVolumeClaim": {"claimName": "pvc-0"}}]
    deployment = {
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"replicas": 3, "template": {"spec": {"volumes": volumes}}},
        "status": {"replicas": 4, "updatedReplicas": 1},
    }
    api.remove("pods", api.all("pods")[0])
    api.add("deployments", deployment)
    assert "Deployment ns/web has pods of a former template" in only(planned(quiesce=True))
    assert planned(quiesce=False).problems == []


POD_SECURITY = (
    'pods "web-kubeferry" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation'
)
QUOTA = 'pods "web" is forbidden: exceeded quota: q, requested: pods=1,limits.cpu=1, used: {}, limited: {}'


def stateful_set(api, **spec):
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "pvc-0"}}]
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"volumes": volumes}}
    claims = [{"metadata": {"name": "log"}}]
    spec = {"replicas": 3, "template": template, "volumeClaimTemplates": claims, **spec}
    return api.add("statefulsets", {"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})


def test_a_pod_of_what_is_to_be_stopped_is_tried(api, planned):
    item = stateful_set(api)
    assert planned(quiesce=True).problems == []
    (tried, *_helper) = [body for method, _path, body, _headers in api.requests if method == "POST"]
    assert [each["persistentVolumeClaim"]["claimName"] for each in tried["spec"]["volumes"]] == [
        "pvc-0",
        "log-web-0",
    ]
    metadata = tried["metadata"]
    assert (metadata["name"], metadata["labels"]) == ("web-kubeferry", {"app": "web"})
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": True}
    assert metadata["ownerReferences"] == [{**owner, "uid": item["metadata"]["uid"]}]


@pytest.mark.parametrize(
    ("says", "sure"),
    [
        (POD_SECURITY, True),
        ("unable to validate against any security context constraint: []", True),
        ("failed quota: q: must specify limits.cpu for: main", True),
        ("maximum cpu usage per Container is 1, but limit is 2", True),
        ('error looking up service account ns/web: serviceaccount "web" not found', True),
        (QUOTA.format("pods=5,limits.cpu=2", "pods=3,limits.cpu=4"), True),
        (QUOTA.format("pods=5,limits.cpu=4", "pods=5,limits.cpu=4"), None),
        ('User "u" cannot create resource "pods" in API group ""', None),
        ('admission webhook "p" does not support dry run', None),
        ('admission webhook "p" denied the request: no', False),
    ],
)
def test_what_could_not_come_back_is_told_before_it_is_stopped(api, planned, says, sure):
    stateful_set(api)
    api.refuse[("create", "pods")] = [(403, status(403, says))]
    plan = planned(quiesce=True)
    assert (len(plan.problems), len(plan.notes)) == (sure is True, sure is False)
    if sure:
        start = "The pods of StatefulSet ns/web would not come back once they are stopped, as they may not be made"
        assert only(plan).startswith(start)
    assert all(says[-20:] in said for said in plan.problems + plan.notes)


def test_a_pod_of_what_is_stopped_already_is_not_tried(api, planned):
    stateful_set(api, replicas=0)["metadata"]["annotations"] = {QUIESCED: '{"claims": ["pvc-0"]}'}
    api.refuse[("create", "pods")] = [(201, {}), (403, status(403, POD_SECURITY))]
    plan = planned(quiesce=True)
    assert (len(plan.workloads), plan.problems) == (1, [])


def test_an_annotation_that_is_no_record_is_a_warning(api, planned):
    stateful_set(api)["metadata"]["annotations"] = {QUIESCED: "odd"}
    (said,) = planned(quiesce=True).warnings
    assert said.startswith("StatefulSet ns/web has an annotation kubeferry.io/quiesced that is no record")
