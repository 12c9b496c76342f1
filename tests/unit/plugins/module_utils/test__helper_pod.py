# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helper pods against an API server in memory, with a clock of its own."""

from __future__ import annotations

import pytest
from fakeapi import FakeApi, claim, pod, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils import _helper_pod
from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    Forbidden,
    HelperPodError,
    NotFound,
    Throttled,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_pod import HelperPods
from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_spec import (
    EXPIRES,
    Further,
    HelperRequest,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._placement import UID_RANGE
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Rest


class Clock:
    """Time passes only by sleeping; `after` holds what happens then, by the second."""

    def __init__(self):
        self.now = 0.0
        self.after = []

    def sleep(self, seconds):
        self.now += seconds
        for moment, action in list(self.after):
            if moment <= self.now:
                self.after.remove((moment, action))
                action()


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(_helper_pod.time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def api(clock):
    made = FakeApi()
    made.add("persistentvolumeclaims", claim())

    def start(item):
        item["status"] = {"phase": "Pending"}
        clock.after.append((clock.now + 3, lambda: item.update(status=pod()["status"])))

    made.created = start
    return made


@pytest.fixture
def cluster(api):
    return ClusterApi(Rest("https://h", list, sender(api)))


@pytest.fixture
def pods(cluster, clock):
    return HelperPods(cluster, clock.sleep)


def request(**options):
    return HelperRequest(**{"namespace": "ns", "claim": "pvc-0", "run_id": "r1", **options})


def names(api):
    return sorted(item["metadata"]["name"] for item in api.all("pods", "ns"))


def test_made_once_found_again_and_removed(api, pods):
    first, second = pods.ensure(request(), 60), pods.ensure(request(), 60)
    assert (first.changed, second.changed) == (True, False)
    assert (first.pod, first.path, first.volume["name"]) == ("kubeferry-pvc-0-r1", "/mnt/pvc-0", "pv-pvc-0")
    assert pods.of_run("ns", "r1") == ["kubeferry-pvc-0-r1"]
    assert pods.remove("ns", "r1", 60) == ["kubeferry-pvc-0-r1"]
    assert pods.remove("ns", "r1", 60) == []
    assert names(api) == ["pod"]


def test_a_pod_that_was_asked_for_differently_is_replaced(api, pods):
    pods.ensure(request(), 60)
    before = api.find("pods", "ns", "kubeferry-pvc-0-r1")["metadata"]["uid"]
    assert pods.ensure(request(read_only=True), 60).changed
    assert api.find("pods", "ns", "kubeferry-pvc-0-r1")["metadata"]["uid"] != before


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_replaced(api, pods, phase):
    pods.ensure(request(), 60)
    api.find("pods", "ns", "kubeferry-pvc-0-r1")["status"] = {"phase": phase}
    assert pods.ensure(request(), 60).changed


def test_a_pod_on_its_way_out_is_waited_for(api, pods, clock):
    pods.ensure(request(), 60)
    old = api.find("pods", "ns", "kubeferry-pvc-0-r1")
    old["metadata"]["deletionTimestamp"] = "now"
    # The API server keeps it until the kubelet has stopped it.
    api.refuse[("delete", "pods")] = [(200, {})]
    clock.after.append((clock.now + 5, lambda: api.remove("pods", old)))
    assert pods.ensure(request(), 60).changed


def test_somebody_elses_pod_of_that_name_is_left_alone(api, pods):
    api.add("pods", pod("kubeferry-pvc-0-r1"))
    with pytest.raises(HelperPodError, match="isn't ours"):
        pods.ensure(request(), 60)
    assert names(api) == ["kubeferry-pvc-0-r1", "pod"]


def test_what_never_starts_is_diagnosed_and_removed(api, pods):
    api.created = lambda item: item.update(
        status={
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]
        }
    )
    with pytest.raises(HelperPodError, match=r"wasn't ready in time: no node takes it.*0/1 nodes"):
        pods.ensure(request(), 30)
    assert names(api) == ["pod"]


def test_what_is_hopeless_is_not_waited_for(api, pods, clock):
    waiting = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
    api.created = lambda item: item.update(status=waiting)
    with pytest.raises(HelperPodError, match="image_pull_secrets"):
        pods.ensure(request(), 1000)
    assert clock.now < 5
    assert names(api) == ["pod"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_while_waiting_removes_the_pod(api, pods, clock, error):
    def interrupt():
        raise error

    clock.after.append((1, interrupt))
    with pytest.raises(error):
        pods.ensure(request(), 60)
    assert names(api) == ["pod"]


def test_a_failed_removal_does_not_hide_why_it_came_to_that(api, pods, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    waiting = {"containerStatuses": [{"state": {"waiting": {"reason": "InvalidImageName"}}}]}
    api.created = lambda item: item.update(status=waiting)
    api.refuse[("delete", "pods")] = [(503, status(503, "busy"))] * 9
    with pytest.raises(HelperPodError, match="image name"):
        pods.ensure(request(), 60)


def test_errors_on_the_way_are_passed_on(api, pods, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(NotFound, match="Claim ns/other"):
        pods.ensure(request(claim="other"), 60)
    with pytest.raises(NotFound, match="Namespace elsewhere"):
        pods.ensure(request(namespace="elsewhere"), 60)
    api.refuse[("create", "pods")] = [(403, status(403, 'User "u" cannot create resource "pods"'))]
    with pytest.raises(Forbidden, match="verb create on pods"):
        pods.ensure(request(), 60)
    api.refuse[("create", "pods")] = [(403, status(403, 'violates PodSecurity "restricted:latest"'))]
    with pytest.raises(HelperPodError, match="pod_security"):
        pods.ensure(request(), 60)
    api.refuse[("create", "pods")] = [(503, status(503, "busy"))] * 9
    with pytest.raises(Throttled):
        pods.ensure(request(), 60)
    assert names(api) == ["pod"]


def test_a_claim_for_one_pod_that_has_one(api, pods):
    api.add("persistentvolumeclaims", claim("one", accessModes=["ReadWriteOncePod"]))
    app = api.add("pods", pod("app", claim="one"))
    with pytest.raises(HelperPodError, match="pod app has it"):
        pods.ensure(request(claim="one"), 60)
    app["status"]["phase"] = "Succeeded"
    assert pods.ensure(request(claim="one"), 60).changed


def test_a_claim_in_use_draws_the_pod_to_its_node(api, pods):
    api.add("pods", pod("app", claim="pvc-0"))
    pods.ensure(request(), 60)
    assert "node-1" in str(api.find("pods", "ns", "kubeferry-pvc-0-r1")["spec"]["affinity"])


def test_ids_of_the_namespace_are_used_where_they_can_be_read(api, pods):
    api.add("namespaces", {"metadata": {"name": "ns", "annotations": {UID_RANGE: "1000680000/10000"}}})

    def user(run):
        pods.ensure(request(run_id=run, pod_security="restricted"), 60)
        spec = api.find("pods", "ns", f"kubeferry-pvc-0-{run}")["spec"]
        return spec["containers"][0]["securityContext"].get("runAsUser")

    assert user("r1") == 1000680000
    api.refuse[("get", "namespaces")] = [(403, status(403, "no"))]
    assert user("r2") is None


def test_a_volume_on_a_cordoned_node_is_fetched_from_there(api, pods, clock):
    text = "0/1 nodes are available: 1 node(s) were unschedulable."
    condition = {"type": "PodScheduled", "status": "False", "message": text}

    def schedule(item):
        tolerated = "unschedulable" in str(item["spec"].get("tolerations"))
        item["status"] = pod()["status"] if tolerated else {"phase": "Pending", "conditions": [condition]}

    api.created = schedule
    assert pods.ensure(request(), 60).changed
    assert not pods.ensure(request(), 60).changed
    api.add("persistentvolumeclaims", claim("new", volumeName=""))
    with pytest.raises(HelperPodError, match="no node takes it"):
        pods.ensure(request(claim="new"), 60)


@pytest.mark.parametrize(
    ("where", "reason", "readable", "there"),
    [
        (["node2"], "1 Insufficient cpu", True, True),
        (["node2"], "1 Insufficient cpu", False, False),
        (["node1", "node2"], "1 Insufficient cpu", True, False),
        (["node2"], "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }", False, True),
    ],
)
def test_what_keeps_a_pod_off_other_nodes_does_not_hide_that_its_volume_is_on_a_cordoned_one(
    api, pods, where, reason, readable, there
):
    text = f"0/2 nodes are available: {reason}, 1 node(s) were unschedulable."
    condition = {"type": "PodScheduled", "status": "False", "message": text}

    def schedule(item):
        tolerated = "unschedulable" in str(item["spec"].get("tolerations"))
        item["status"] = pod()["status"] if tolerated else {"phase": "Pending", "conditions": [condition]}

    api.created = schedule
    on = {"key": "kubernetes.io/hostname", "operator": "In", "values": where}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [on]}]}}
    api.add("persistentvolumes", {"metadata": {"name": "pv-pvc-0"}, "spec": {"nodeAffinity": affinity}})
    for name in ("node1", "node2"):
        labels = {"kubernetes.io/hostname": name}
        api.add(
            "nodes",
            {"metadata": {"name": name, "labels": labels}, "spec": {"unschedulable": name == "node2"}},
        )
    if not readable:
        api.refuse[("get", "persistentvolumes")] = [(403, status(403, "no"))]
    if there:
        assert pods.ensure(request(), 60).changed
    else:
        with pytest.raises(HelperPodError, match="no node takes it"):
            pods.ensure(request(), 60)
    asked = [
        target for _method, target, *_rest in api.requests if target.endswith("/persistentvolumes/pv-pvc-0")
    ]
    assert len(asked) == ("cpu" in reason), "once, where what the scheduler says doesn't tell it"


def test_foreseeing_changes_nothing_and_tells_the_same(api, pods):
    assert pods.foresee(request()).changed
    assert names(api) == ["pod"]
    assert any("dryRun=All" in target for _method, target, *_rest in api.requests)
    pods.ensure(request(), 60)
    assert not pods.foresee(request()).changed
    assert pods.foresee(request(read_only=True)).changed
    api.refuse[("create", "pods")] = [(403, status(403, 'violates PodSecurity "restricted:latest"'))]
    with pytest.raises(HelperPodError, match="pod_security"):
        pods.foresee(request(run_id="other"))


def test_reaping_takes_what_has_ended_of_any_run_and_nothing_else(api, pods):
    for run in ("r1", "r2", "r3"):
        pods.ensure(request(run_id=run), 60)
    api.find("pods", "ns", "kubeferry-pvc-0-r1")["status"]["phase"] = "Failed"
    api.find("pods", "ns", "kubeferry-pvc-0-r2")["metadata"]["annotations"][EXPIRES] = (
        "2020-01-01T00:00:00+00:00"
    )
    api.find("pods", "ns", "pod")["status"]["phase"] = "Failed"
    assert sorted(pods.expired("ns")) == ["kubeferry-pvc-0-r1", "kubeferry-pvc-0-r2"]
    assert sorted(pods.reap("ns")) == ["kubeferry-pvc-0-r1", "kubeferry-pvc-0-r2"]
    assert names(api) == ["kubeferry-pvc-0-r3", "pod"]


def test_removing_waits_until_the_pod_is_gone(api, pods, clock):
    pods.ensure(request(), 60)
    item = api.find("pods", "ns", "kubeferry-pvc-0-r1")
    api.refuse[("delete", "pods")] = [(200, {})] * 2
    clock.after.append((clock.now + 5, lambda: api.remove("pods", item)))
    started = clock.now
    pods.remove("ns", "r1", 60)
    assert clock.now - started >= 5
    pods.ensure(request(), 60)
    api.refuse[("delete", "pods")] = [(200, {})]
    with pytest.raises(HelperPodError, match="still there"):
        pods.remove("ns", "r1", 10)


def used(name, node, claim_name):
    item = pod(name)
    item["spec"] |= {"nodeName": node, "volumes": [{"persistentVolumeClaim": {"claimName": claim_name}}]}
    return item


def test_a_pod_with_two_claims_needs_both_and_goes_where_one_is_in_use(api, pods):
    both = request(also=[Further("other", read_only=True)])
    with pytest.raises(NotFound, match="other"):
        pods.ensure(both, 60)
    assert names(api) == ["pod"]
    api.add("persistentvolumeclaims", claim("other"))
    api.add("pods", used("app", "node-7", "other"))
    assert pods.ensure(both, 60).changed
    made = api.find("pods", "ns", "kubeferry-pvc-0-r1")
    assert "node-7" in str(made["spec"]["affinity"])
    assert not pods.ensure(both, 60).changed


def test_claims_that_are_in_use_on_two_nodes_are_not_mounted_in_one_pod(api, pods):
    api.add("persistentvolumeclaims", claim("other"))
    api.add("pods", used("app", "node-7", "other"))
    api.add("pods", used("db", "node-8", "pvc-0"))
    with pytest.raises(HelperPodError, match="pvc-0 and other of namespace ns can't be in one pod"):
        pods.ensure(request(also=[Further("other")]), 60)
    assert names(api) == ["app", "db", "pod"]


def test_a_pod_whose_volumes_lie_on_two_nodes_is_given_up_at_once(api, pods, clock):
    api.add("persistentvolumeclaims", claim("other"))
    message = "0/2 nodes are available: 2 node(s) had volume node affinity conflict. preemption: no."
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    api.created = lambda item: item.update(status={"conditions": [condition]})
    with pytest.raises(HelperPodError, match="no node can have both: mount each"):
        pods.ensure(request(also=[Further("other")]), 60)
    assert clock.now < 5
    assert names(api) == ["pod"]


def test_the_one_of_several_claims_that_has_no_volume_is_named(api, pods):
    other = {**claim("other"), "status": {"phase": "Pending"}}
    api.add("persistentvolumeclaims", other)
    said = "pod has unbound immediate PersistentVolumeClaims"
    condition = {"type": "PodScheduled", "status": "False", "message": said}
    api.created = lambda item: item.update(status={"phase": "Pending", "conditions": [condition]})
    with pytest.raises(HelperPodError, match="claim ns/other isn't bound to a volume"):
        pods.ensure(request(also=[Further("other")]), 60)


QUOTA = 'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'


def fill(api, clock, until=9999):
    """Has a quota of pods that is used up until then."""
    handle = api.handle

    def answer(method, target, *rest):
        full = method == "POST" and "/pods" in target and clock.now < until
        return (403, status(403, QUOTA)) if full else handle(method, target, *rest)

    api.handle = answer


def test_a_quota_that_helper_pods_of_other_runs_use_up_is_waited_for(api, pods, clock):
    pods.ensure(request(run_id="r2"), 60)
    other = api.find("pods", "ns", "kubeferry-pvc-0-r2")
    # Which the quota knows some time after it is gone.
    clock.after.append((clock.now + 20, lambda: api.remove("pods", other)))
    fill(api, clock, until=clock.now + 23)
    assert pods.ensure(request(), 60).changed


def test_when_the_time_for_a_quota_is_over_it_is_told_who_uses_it(api, pods, clock):
    pods.ensure(request(run_id="r2"), 60)
    fill(api, clock)
    started = clock.now
    with pytest.raises(HelperPodError) as caught:
        pods.ensure(request(), 30)
    assert 30 <= clock.now - started < 32
    assert "under its quota of pods: raise it" in str(caught.value)
    assert str(caught.value).endswith(
        "Helper pods for other claims were there to the last: copy fewer claims at a time (--forks), or give more "
        "wait_timeout."
    )


@pytest.mark.parametrize("run", ["", "r1"])
def test_a_quota_that_no_other_run_makes_room_in_is_not_waited_for(api, pods, clock, run):
    if run:
        api.add("persistentvolumeclaims", claim("other"))
        pods.ensure(request(claim="other", run_id=run), 60)
    started = clock.now
    fill(api, clock)
    with pytest.raises(HelperPodError) as caught:
        pods.ensure(request(), 60)
    assert clock.now - started < 7
    assert "--forks" not in str(caught.value)
