# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for fleets of claims without Ansible around them, against a server on loopback."""

from __future__ import annotations

import json
from itertools import count
from types import SimpleNamespace

import pytest
from execserver import ExecServer
from fakeapi import claim, pod, status

from ansible_collections.kubeferry.pvc.plugins.module_utils import (
    _claim_task,
    _guard,
    _lease_task,
    _pair_plan_task,
    _quiesce_task,
    _running_again,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    BusyError,
    ClusterError,
    Forbidden,
    Interrupted,
    NotFound,
    ProtocolError,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._runner import output
from ansible_collections.kubeferry.pvc.plugins.module_utils._workload_kinds import QUIESCED


@pytest.fixture
def watches(monkeypatch):
    """The guards that were started."""
    found = []
    monkeypatch.setattr(_guard, "start", lambda watch: not found.append(watch))
    monkeypatch.setattr(_guard, "notify", lambda name: None)
    monkeypatch.setattr(_running_again, "_SECONDS", 0)
    return found


@pytest.fixture
def server(watches):
    with ExecServer() as started:
        started.api.add("persistentvolumeclaims", claim())
        yield started


@pytest.fixture
def ask(server):
    """Runs a task with the claim ns/NAME, and gives its result."""

    def run(task, name="pvc-0", check=False, **options):
        params = {**server.auth(), "claim": {"namespace": "ns", "pvc": name}, **options}
        return task.run(params, check_mode=check)

    return run


NEW = {
    "create": True,
    "origin": None,
    "storage_class": None,
    "access_modes": ["ReadWriteOnce"],
    "size": "1Gi",
    "wait_timeout": 0,
}
LEASE = {
    "state": "present",
    "run_id": "a",
    "must_exist": True,
    "duration": 30,
    "wait_timeout": 0,
    "lifetime": 3600,
}
QUIESCE = {"state": "quiesced", "wait_timeout": 5, "run_id": None, "taken_from": None, "stopped": None}


def test_a_claim_is_made_once_and_not_in_check_mode(server, ask):
    assert ask(_claim_task, "new", check=True, **NEW)["changed"]
    assert server.api.find("persistentvolumeclaims", "ns", "new") is None
    assert [ask(_claim_task, "new", **NEW)["changed"] for _time in range(2)] == [True, False]
    with pytest.raises(ClusterError, match=r"ns/new is there already and has 1Gi, not 2Gi: use it as it is"):
        ask(_claim_task, "new", **{**NEW, "size": "2Gi"})
    with pytest.raises(UsageError, match=r"claim\.pvc is missing"):
        ask(_claim_task, "", **NEW)


def annotations(server, name):
    return server.api.find("persistentvolumeclaims", "ns", name)["metadata"].get("annotations")


@pytest.mark.parametrize("name", ["pvc-0", "new"])
def test_a_claim_is_marked_with_whose_files_it_gets(server, ask, name):
    options = {**NEW, "create": name == "new", "origin": "ns/a, uid 1"}
    assert ask(_claim_task, name, check=True, **options)["changed"]
    assert [ask(_claim_task, name, **options)["changed"] for _time in range(2)] == [True, False]
    assert annotations(server, name) == {"kubeferry.io/source": "ns/a, uid 1"}
    with pytest.raises(ClusterError) as caught:
        ask(_claim_task, name, **{**options, "origin": "ns/a, uid 2"})
    assert str(caught.value) == (
        f"Claim ns/{name} is marked as the destination of claim ns/a, uid 1, so that the files of claim ns/a, uid 2 "
        "don't get mixed with those: choose another claim, or remove its annotation kubeferry.io/source if it has none "
        "of those, or if that is meant."
    )
    assert not ask(_claim_task, name, **{**options, "origin": None})["changed"]


def test_a_claim_is_taken_as_it_is_by_who_may_not_mark_it(server, ask):
    server.api.refuse[("patch", "persistentvolumeclaims")] = [(403, status(403, "no"))]
    assert not ask(_claim_task, **{**NEW, "create": False, "origin": "ns/a, uid 1"})["changed"]
    with pytest.raises(NotFound, match="ns/gone doesn't exist: make it, or set create"):
        ask(_claim_task, "gone", **{**NEW, "create": False})


def test_a_claim_in_a_namespace_that_is_missing(server, ask):
    server.api.namespaces.clear()
    with pytest.raises(NotFound, match="Namespace ns doesn't exist"):
        ask(_claim_task, "new", **NEW)


@pytest.fixture
def unbound(server, monkeypatch):
    """The claim ns/new, which has no volume, and what happens in each of the pauses, of 3 seconds, between looks."""
    looks, clock = [], count(0, 3)
    pause = SimpleNamespace(sleep=lambda seconds: looks and looks.pop(0)(), monotonic=lambda: next(clock))
    monkeypatch.setattr(_claim_task, "time", pause)
    server.api.add("storageclasses", {"metadata": {"name": "fast"}, "volumeBindingMode": "Immediate"})
    server.api.add(
        "persistentvolumeclaims", {**claim("new", storageClassName="fast"), "status": {"phase": "Pending"}}
    )
    return looks


OLD = {**NEW, "create": False, "wait_timeout": 7}


def test_a_volume_is_waited_for(server, ask, unbound):
    there = server.api.find("persistentvolumeclaims", "ns", "new")
    unbound += [lambda: None, lambda: there["status"].update(phase="Bound")]
    ask(_claim_task, "new", **OLD)
    assert unbound == []


def test_a_claim_without_a_volume_fails_with_what_the_server_says(server, ask, unbound):
    event = {
        "metadata": {"name": "e", "namespace": "ns"},
        "involvedObject": {"kind": "PersistentVolumeClaim", "name": "new"},
        "type": "Warning",
        "message": "no space",
    }
    server.api.add("events", event)
    with pytest.raises(ClusterError) as caught:
        ask(_claim_task, "new", **OLD)
    assert str(caught.value) == (
        "Claim ns/new isn't bound to a volume after 7 s: check its storage class, or give more wait_timeout "
        "(migrate_wait_timeout of the role migrate) (the server says: no space)."
    )


@pytest.mark.parametrize("case", ["for a pod", "unseen", "no time", "check mode"])
def test_a_volume_is_not_waited_for(server, ask, unbound, case):
    unbound.append(lambda: pytest.fail("it was waited for"))
    if case == "for a pod":
        server.api.all("storageclasses")[0]["volumeBindingMode"] = "WaitForFirstConsumer"
    if case == "unseen":
        server.api.refuse[("list", "storageclasses")] = [(403, status(403, "no"))]
    ask(
        _claim_task,
        "new",
        check=case == "check mode",
        **{**OLD, "wait_timeout": 0 if case == "no time" else 7},
    )


def test_a_lease_is_renewed_by_its_guard_and_released_by_it(server, ask, watches):
    assert ask(_lease_task, check=True, **LEASE)["changed"]
    result = ask(_lease_task, **LEASE)
    assert (result["changed"], result["guarded"], result["lease"]) == (True, True, "kubeferry-pvc-0")
    (watch,) = watches
    (lease,) = server.api.all("leases")
    before = lease["spec"]["renewTime"]
    assert watch.every == 10
    assert watch.left()
    assert lease["spec"]["renewTime"] > before
    watch.abandon()
    assert not watch.left()
    assert server.api.all("leases") == []


@pytest.mark.parametrize("state", ["present", "held", "absent"])
@pytest.mark.parametrize("run_id", ["", " ", None])
def test_nobody_has_a_lease(server, ask, state, run_id):
    with pytest.raises(UsageError, match="run_id is empty: give each run one of its own"):
        ask(_lease_task, **{**LEASE, "state": state, "run_id": run_id})
    assert server.api.all("leases") == []


@pytest.mark.parametrize("check", [False, True])
def test_a_claim_that_does_not_exist_is_named(server, ask, check):
    for task, options in ((_lease_task, LEASE), (_quiesce_task, QUIESCE)):
        with pytest.raises(NotFound, match="Claim ns/typo doesn't exist: check the namespace and the name"):
            ask(task, "typo", check=check, **options)
        server.api.refuse[("get", "persistentvolumeclaims")] = [(403, status(403, "no"))]
        ask(task, "typo", check=check, **options)
    ask(_lease_task, "new", check=check, **{**LEASE, "must_exist": False})


@pytest.mark.parametrize("state", ["held", "restored", "absent"])
def test_a_claim_that_was_deleted_is_done_with(server, ask, state):
    task, options = (_lease_task, LEASE) if state == "absent" else (_quiesce_task, QUIESCE)
    ask(task, **options)
    server.api.remove("persistentvolumeclaims", server.api.find("persistentvolumeclaims", "ns", "pvc-0"))
    ask(task, **{**options, "state": state})


def test_a_lease_that_nobody_renews_is_valid_for_a_lifetime(server, ask, monkeypatch):
    monkeypatch.setattr(_guard, "start", lambda watch: False)
    assert not ask(_lease_task, **LEASE)["guarded"]
    assert server.api.all("leases")[0]["spec"]["leaseDurationSeconds"] == 3600
    assert not ask(_lease_task, **{**LEASE, "state": "absent", "run_id": "b"})["changed"]
    assert ask(_lease_task, **{**LEASE, "state": "absent"})["changed"]


def test_a_lease_that_may_not_be_renewed_is_not_taken(server, ask):
    server.api.refuse[("update", "leases")] = [(403, status(403, "no"))]
    with pytest.raises(Forbidden, match=r"verb update on leases\.coordination\.k8s\.io in namespace ns"):
        ask(_lease_task, **LEASE)
    assert server.api.all("leases") == []


def test_a_run_that_has_lost_its_lease_is_told(server, ask):
    held = {**LEASE, "state": "held"}
    ask(_lease_task, **LEASE)
    assert not ask(_lease_task, **held)["changed"]
    server.api.remove("leases", server.api.all("leases")[0])
    with pytest.raises(
        BusyError, match=r"Run a has lost the lease kubeferry-pvc-0 of claim ns/pvc-0 \(nobody has it"
    ):
        ask(_lease_task, **held)
    ask(_lease_task, **{**LEASE, "run_id": "b"})
    with pytest.raises(
        BusyError, match=r"\(run b has it\), so another may have been at work on the claim: do it"
    ):
        ask(_lease_task, **held)


def test_a_lease_of_a_dead_run_is_taken_with_its_helper_pods(server, ask, monkeypatch):
    """A claim for one pod alone could not be mounted before their time is over."""
    ask(_lease_task, **LEASE)
    server.api.all("leases")[0]["spec"].update(leaseDurationSeconds=1)
    for name, run in (("old", "a"), ("other", "c")):
        labels = {"app.kubernetes.io/managed-by": "kubeferry", "kubeferry.io/run": run}
        server.api.add("pods", {"metadata": {"name": name, "namespace": "ns", "labels": labels}, "spec": {}})
    taken = ask(_lease_task, **{**LEASE, "run_id": "b"})
    assert (taken["taken_from"], taken["removed"]) == ("a", ["old"])
    assert server.api.find("pods", "ns", "old") is None
    assert server.api.find("pods", "ns", "other")


def test_helper_pods_of_a_dead_run_that_can_not_be_removed_are_told(server, ask):
    ask(_lease_task, **LEASE)
    server.api.all("leases")[0]["spec"].update(leaseDurationSeconds=1)
    server.api.refuse[("list", "pods")] = [(403, status(403, "no"))] * 5
    taken = ask(_lease_task, **{**LEASE, "run_id": "b"})
    assert taken["removed"] == []
    assert any("Helper pods of run a, which is dead, may be left" in said for said in taken["warnings"])


def deployment(server):
    volumes = [{"persistentVolumeClaim": {"claimName": "pvc-0"}}]
    return server.api.add(
        "deployments",
        {
            "metadata": {"name": "shop", "namespace": "ns"},
            "spec": {"replicas": 3, "template": {"spec": {"volumes": volumes}}},
        },
    )


def test_what_is_quiesced_is_restored_by_the_guard(server, ask, watches):
    item = deployment(server)
    told = [{"kind": "Deployment", "name": "shop", "was": {"replicas": 3}}]
    assert ask(_quiesce_task, check=True, **QUIESCE)["workloads"] == told
    assert item["spec"]["replicas"] == 3
    result = ask(_quiesce_task, **QUIESCE)
    assert (result["workloads"], result["guarded"], item["spec"]["replicas"]) == (told, True, 0)
    assert watches[-1].left()
    watches[-1].abandon()
    assert item["spec"]["replicas"] == 3
    assert not watches[-1].left()


def test_of_what_was_started_by_hand_it_is_told_what_it_is_now(server, ask):
    item = deployment(server)
    ask(_quiesce_task, **QUIESCE)
    item["spec"]["replicas"] = 4
    told = [{"kind": "Deployment", "name": "shop", "was": {"replicas": 4}}]
    for check in (True, False):
        result = ask(_quiesce_task, check=check, **QUIESCE)
        assert (result["changed"], result["workloads"]) == (True, told)
    assert not ask(_quiesce_task, check=True, **QUIESCE)["changed"]
    assert ask(_quiesce_task, **{**QUIESCE, "state": "restored"})["workloads"] == told
    assert item["spec"]["replicas"] == 4


def test_nothing_stays_stopped_when_the_playbook_is_killed_meanwhile(server, ask, monkeypatch):
    item = deployment(server)
    started = []

    def start(watch):
        started.append(watch)
        if len(started) > 1:
            raise Interrupted("gone")
        return True

    monkeypatch.setattr(_guard, "start", start)
    with pytest.raises(Interrupted):
        ask(_quiesce_task, **{**QUIESCE, "run_id": "a"})
    assert len(started) == 2
    assert item["spec"]["replicas"] == 3


def test_what_is_stopped_is_asked_for_before_the_work_counts_as_done(server, ask, watches):
    item = deployment(server)
    ask(_quiesce_task, **QUIESCE)
    held = {**QUIESCE, "state": "held"}
    assert (ask(_quiesce_task, **held)["changed"], watches[-1].left()) == (False, True)
    item["spec"]["replicas"] = 1
    with pytest.raises(
        BusyError, match="Deployment ns/shop was started before the work on claim ns/pvc-0 was"
    ):
        ask(_quiesce_task, **held)


def test_what_is_to_stay_stopped_is_left_by_the_guard_once_that_was_said(server, ask, watches):
    item = deployment(server)
    ours = {**QUIESCE, "run_id": "a"}
    assert ask(_quiesce_task, **ours)["guarded"]
    assert watches[-1].left()
    assert ask(_quiesce_task, check=True, **{**ours, "state": "kept"})["changed"]
    assert watches[-1].left()
    assert ask(_quiesce_task, **{**ours, "state": "kept"})["workloads"][0]["name"] == "shop"
    assert not watches[-1].left()
    watches[-1].abandon()
    assert not ask(_quiesce_task, **{**ours, "state": "restored"})["changed"]
    assert item["spec"]["replicas"] == 0
    assert ask(_quiesce_task, **{**QUIESCE, "state": "restored"})["changed"]
    assert item["spec"]["replicas"] == 3


@pytest.mark.parametrize("state", ["restored", "kept"])
def test_what_a_run_has_stopped_comes_back_though_somebody_removed_its_annotation(server, ask, state):
    item = deployment(server)
    ours = {**QUIESCE, "run_id": "a"}
    stopped = ask(_quiesce_task, **ours)["workloads"]
    item["metadata"]["annotations"].clear()
    done = ask(_quiesce_task, **{**ours, "state": state, "stopped": stopped})
    assert done["workloads"] == stopped
    assert item["spec"]["replicas"] == (3 if state == "restored" else 0)
    ask(_quiesce_task, **{**QUIESCE, "state": "restored"})
    assert item["spec"]["replicas"] == 3


def test_what_another_run_has_stopped_is_neither_worked_on_nor_brought_back(server, ask, watches):
    item = deployment(server)
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a"})
    with pytest.raises(
        BusyError, match=r"Deployment ns/shop is stopped for claim pvc-0 by run a, which may be at"
    ):
        ask(_quiesce_task, **{**QUIESCE, "run_id": "b"})
    watches[-1].abandon()
    ask(_quiesce_task, **{**QUIESCE, "run_id": "b", "state": "restored"})
    assert item["spec"]["replicas"] == 0
    dead = {**QUIESCE, "run_id": "c", "taken_from": "a"}
    ask(_quiesce_task, **dead)
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a", "state": "restored"})
    assert item["spec"]["replicas"] == 0
    ask(_quiesce_task, **{**dead, "state": "restored"})
    assert item["spec"]["replicas"] == 3


def test_what_does_not_run_again_is_a_warning(server, ask):
    deployment(server)
    ask(_quiesce_task, **QUIESCE)
    restored = {**QUIESCE, "state": "restored"}
    assert "not_running" not in ask(_quiesce_task, check=True, **restored)
    server.api.remove("pods", server.api.all("pods")[0])
    result = ask(_quiesce_task, **restored)
    assert result["not_running"] == ["Deployment ns/shop isn't running again: it has no pod after 0 s."]
    assert result["not_running"][0] in result["warnings"]


def test_what_stays_stopped_for_another_claim_is_told(server, ask):
    server.api.add("persistentvolumeclaims", claim("other"))
    item = deployment(server)
    volumes = item["spec"]["template"]["spec"]["volumes"]
    volumes.append({"persistentVolumeClaim": {"claimName": "other"}})
    other = server.api.add("deployments", {"metadata": {"name": "gone", "namespace": "ns"}, "spec": {}})
    record = {"claims": ["gone"], "was": {"replicas": 1}}
    other.update(
        spec={"replicas": 0}, metadata={**other["metadata"], "annotations": {QUIESCED: json.dumps(record)}}
    )
    started = {**other["metadata"], "name": "started"}
    server.api.add("deployments", {"metadata": started, "spec": {"replicas": 2}})
    ask(_quiesce_task, "other", **{**QUIESCE, "run_id": "dead"})
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a"})
    (left,) = ask(_quiesce_task, **{**QUIESCE, "run_id": "a", "state": "restored"})["left"]
    assert left["claim"] == "ns/other"
    assert left["msg"].startswith(
        "Deployment ns/shop stays stopped for claim other by run dead, which may be at work on it: wait for its end, "
        "or, if it has died, run the playbook kubeferry.pvc.restore for that claim, or "
    )
    both = ask(_quiesce_task, **{**QUIESCE, "state": "restored"})["left"]
    assert [each["claim"] for each in both] == ["ns/other", "ns/gone"]
    assert both[1]["msg"].startswith(
        "Deployment ns/gone stays stopped for claim gone: to end that, run the playbook kubeferry.pvc.restore for"
    )
    assert ask(_quiesce_task, "", **{**QUIESCE, "state": "restored"})["left"] == []


def test_that_what_stays_stopped_can_not_be_looked_at_is_a_warning(server, ask, monkeypatch):
    item = deployment(server)
    ask(_quiesce_task, **QUIESCE)

    def then(*_found):
        server.api.refuse[("list", "cronjobs")] = [(403, status(403, "no"))]
        return []

    monkeypatch.setattr(_quiesce_task, "not_running", then)
    result = ask(_quiesce_task, **{**QUIESCE, "state": "restored"})
    assert (item["spec"]["replicas"], result["left"]) == (3, [])
    assert "Whether anything stays stopped for other claims couldn't be looked at: " in result["warnings"][0]


def test_a_copy_of_a_record_that_is_left_is_a_warning(server, ask):
    deployment(server)
    ask(_quiesce_task, **QUIESCE)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "controller": True}
    metadata = {"name": "shop-1", "namespace": "ns", "ownerReferences": [owner]}
    record = server.api.all("deployments")[0]["metadata"]["annotations"]
    copied = {"metadata": {**metadata, "annotations": dict(record)}, "spec": {"replicas": 0}}
    server.api.add("replicasets", copied)
    server.api.refuse[("patch", "replicasets")] = [(403, status(403, "no"))]
    warnings = ask(_quiesce_task, **{**QUIESCE, "state": "restored"})["warnings"]
    assert any("ReplicaSet ns/shop-1 keeps a copy of the annotation" in said for said in warnings)


def test_what_an_undo_would_go_back_to_goes_once_a_daemon_set_is_restored(server, ask):
    volumes = [{"persistentVolumeClaim": {"claimName": "pvc-0"}}]
    spec = {"template": {"spec": {"volumes": volumes}}}
    item = server.api.add("daemonsets", {"metadata": {"name": "agent", "namespace": "ns"}, "spec": spec})
    ask(_quiesce_task, **QUIESCE)
    owner = {"kind": "DaemonSet", "name": "agent", "uid": item["metadata"]["uid"], "controller": True}
    metadata = {"name": "agent-1", "namespace": "ns", "ownerReferences": [owner]}
    server.api.add("controllerrevisions", {"metadata": metadata, "data": {"spec": dict(item["spec"])}})
    assert ask(_quiesce_task, **{**QUIESCE, "state": "restored"})["changed"]
    assert server.api.all("controllerrevisions") == []


def test_what_a_run_has_stopped_that_had_the_lease_is_taken_by_the_one_that_has_it(server, ask):
    """Also where a third one had it in between, and has stopped nothing."""
    item = deployment(server)
    ask(_lease_task, **LEASE)
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a"})
    record = {"claims": ["pvc-0"], "leased": ["pvc-0"], "runs": {"pvc-0": "a"}, "was": {"replicas": 3}}
    assert json.loads(item["metadata"]["annotations"][QUIESCED]) == record
    restored = {**QUIESCE, "run_id": "c", "state": "restored"}
    ask(_quiesce_task, **restored)
    with pytest.raises(BusyError, match="by run a, which may be at work on it without its lease"):
        ask(_quiesce_task, **{**QUIESCE, "run_id": "c"})
    server.api.remove("leases", server.api.all("leases")[0])
    ask(_lease_task, **{**LEASE, "run_id": "c"})
    assert not ask(_quiesce_task, **{**QUIESCE, "run_id": "c"})["changed"]
    assert json.loads(item["metadata"]["annotations"][QUIESCED]) == {**record, "runs": {"pvc-0": "c"}}
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a", "state": "restored"})
    assert item["spec"]["replicas"] == 0
    assert ask(_quiesce_task, **restored)["changed"]
    assert item["spec"]["replicas"] == 3


def test_what_a_run_with_the_lease_has_left_is_brought_back_by_one_that_has_stopped_nothing(server, ask):
    item = deployment(server)
    ask(_lease_task, **LEASE)
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a"})
    server.api.remove("leases", server.api.all("leases")[0])
    ask(_lease_task, **{**LEASE, "run_id": "c"})
    restored = {**QUIESCE, "run_id": "c", "state": "restored"}
    assert ask(_quiesce_task, check=True, **restored)["changed"]
    assert ask(_quiesce_task, **restored)["changed"]
    assert item["spec"]["replicas"] == 3


def test_what_a_run_has_stopped_without_a_lease_is_its_own(server, ask):
    deployment(server)
    server.api.refuse[("get", "leases")] = [(403, status(403, "no"))]
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a"})
    ask(_lease_task, **{**LEASE, "run_id": "c"})
    with pytest.raises(BusyError, match="by run a, which may be at work on it without its lease"):
        ask(_quiesce_task, **{**QUIESCE, "run_id": "c"})


def test_a_whole_namespace_is_restored(server, ask):
    item = deployment(server)
    ask(_quiesce_task, **{**QUIESCE, "run_id": "a"})
    restored = {**QUIESCE, "state": "restored"}
    assert ask(_quiesce_task, "", check=True, **restored)["changed"]
    assert ask(_quiesce_task, "", **restored)["workloads"][0]["name"] == "shop"
    assert item["spec"]["replicas"] == 3
    with pytest.raises(UsageError, match=r"claim\.pvc is missing"):
        ask(_quiesce_task, "", **QUIESCE)


def test_what_can_not_be_quiesced_in_time_comes_back(server, ask):
    item = deployment(server)
    user = {"metadata": {"name": "shop-1", "namespace": "ns"}, "spec": {}}
    user["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": "pvc-0"}}]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-1", "controller": True}
    user["metadata"]["ownerReferences"] = [owner]
    server.api.add("pods", user)
    with pytest.raises(BusyError, match="is still in use by shop-1"):
        ask(_quiesce_task, **{**QUIESCE, "wait_timeout": 0})
    assert item["spec"]["replicas"] == 3


PLAN = {
    "source": {"namespace": "ns", "pvc": "pvc-0"},
    "target": {"namespace": "ns", "pvc": "other"},
    "chained": None,
    "quiesce": True,
    "into_used": False,
    "route": "stream",
    "measure": False,
    "create": False,
    "storage_class": None,
    "access_modes": None,
    "size": None,
}


def test_a_plan_of_both_sides(server):
    server.api.add("persistentvolumeclaims", claim("other"))
    params = {**server.auth(), **PLAN}
    plan = _pair_plan_task.run(params)
    assert plan["possible"]
    assert "msg" not in plan
    params["target"] = {"namespace": "ns", "pvc": "gone"}
    plan = _pair_plan_task.run(params)
    assert plan["problems"] == ["Claim ns/gone doesn't exist: make it, or set create"]
    assert plan["msg"] == (
        "Claim ns/pvc-0 can't be copied to ns/gone: Claim ns/gone doesn't exist: make it, or set create."
    )
    with pytest.raises(UsageError, match="create needs size and access_modes"):
        _pair_plan_task.run({**params, "create": True})
    params.update(create=True, size="1Gi", access_modes=["ReadOnlyMany"])
    assert _pair_plan_task.run(params)["problems"] == [
        "Claim ns/gone couldn't be written to (ReadOnlyMany): choose another access mode",
    ]


def test_files_that_were_measured_have_to_fit(server, monkeypatch):
    server.api.add("persistentvolumeclaims", claim("other"))
    for name, size in (("pvc-0", "3Gi"), ("other", "1Gi")):
        server.api.find("persistentvolumeclaims", "ns", name)["status"]["capacity"] = {"storage": size}
    params = {**server.auth(), **PLAN, "measure": True}
    for size, possible in ((1 << 30, True), (2 << 30, False)):
        monkeypatch.setattr(
            _pair_plan_task, "_measure", lambda *_ends, size=size: {"files": 1, "bytes": size}
        )
        assert _pair_plan_task.run(params)["possible"] == possible


def test_helper_pods_of_a_plan_are_those_that_are_asked_for(server):
    server.api.add("persistentvolumeclaims", claim("other"))
    server.api.created = lambda item: item.update(status=pod()["status"])
    resources = {"limits": {"memory": "64Mi"}}
    tolerations = [{"key": "dedicated", "operator": "Exists"}]
    wanted = {"namespace": "ns", "resources": resources, "tolerations": tolerations}
    stopped = {"key": "stopped", "operator": "Exists"}
    deployment(server)["spec"]["template"]["spec"]["tolerations"] = [stopped]
    params = {**server.auth(), **PLAN, "measure": True}
    for end in ("source", "target"):
        params[end] = {**wanted, "pvc": PLAN[end]["pvc"]}
    _pair_plan_task.run(params)
    made = [
        body["spec"]
        for method, path, body, *_rest in server.api.requests
        if method == "POST" and "/pods" in path and body["metadata"]["name"] != "shop-kubeferry"
    ]
    assert [spec["containers"][0].get("resources") for spec in made] == [resources] * 3
    # The one that measures has to get to where the workload was, which may have no pod now.
    assert [spec.get("tolerations") for spec in made] == [tolerations, tolerations, [*tolerations, stopped]]


def test_what_is_to_be_stopped_keeps_a_claim_from_being_measured_and_not_from_being_copied(server):
    server.api.find("persistentvolumeclaims", "ns", "pvc-0")["spec"]["accessModes"] = ["ReadWriteOncePod"]
    server.api.add("persistentvolumeclaims", claim("other"))
    item = deployment(server)
    owned = server.api.add("pods", pod("shop-1", claim="pvc-0"))
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "controller": True}
    owned["metadata"]["ownerReferences"] = [owner]
    params = {**server.auth(), **PLAN, "measure": True}
    plan = _pair_plan_task.run(params)
    assert (plan["possible"], plan["workloads"]) == (True, [{"kind": "Deployment", "name": "shop"}])
    (note,) = plan["notes"]
    assert note.startswith("could not be measured: Claim ns/pvc-0 allows one pod only")
    server.api.remove("deployments", item)
    assert not _pair_plan_task.run(params)["possible"]


def test_tolerations_of_all_that_is_stopped_for_a_claim_are_told(server, ask):
    ours = {"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}
    away = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}
    deployment(server)["spec"]["template"]["spec"]["tolerations"] = [ours, away]
    assert ask(_quiesce_task, check=True, **QUIESCE)["tolerations"] == [ours]
    told = [ask(_quiesce_task, **QUIESCE) for _time in range(2)]
    assert [each["tolerations"] for each in told] == [[ours]] * 2, (
        "also those that an earlier run has stopped"
    )
    assert [each["changed"] for each in told] == [True, False]


def test_a_claim_that_would_be_mixed_with_another_or_with_itself(server):
    for name, namespace in (("pvc-0", "other"), ("zero", "ns")):
        server.api.add("persistentvolumeclaims", claim(name, namespace))
    server.api.namespaces.append("other")
    with ExecServer() as second:
        second.api.add("persistentvolumeclaims", claim("zero"))

        def problems(target, chained=None):
            params = {**server.auth(), **PLAN, "target": target, "chained": chained}
            return _pair_plan_task.run(params)["problems"]

        zero = {"namespace": "ns", "pvc": "zero"}
        assert problems({"namespace": "other", "pvc": "pvc-0"}) == []
        assert problems({"namespace": "ns", "pvc": "pvc-0"}) == [
            "Claim ns/pvc-0 would be copied to itself: give its rule another target"
        ]
        assert problems(zero) == []
        (mixed,) = problems(zero, zero)
        assert (
            "Claim ns/zero would get the files of ns/pvc-0 and is itself copied from: change the rules"
            in mixed
        )
        assert problems({**zero, **second.auth()}, zero) == [], "in another cluster"


def test_a_route_that_can_not_be_taken_is_in_the_way(server):
    server.api.namespaces.append("other")
    server.api.add("persistentvolumeclaims", claim("zero", "other"))
    params = {**server.auth(), **PLAN, "target": {"namespace": "other", "pvc": "zero"}}
    assert _pair_plan_task.run(params)["problems"] == []
    (problem,) = _pair_plan_task.run({**params, "route": "mount"})["problems"]
    assert problem.startswith("route: mount can't be taken here, since the claims aren't in one namespace")


@pytest.mark.parametrize("kind", ["busybox", "gnu"])
def test_a_file_with_several_names_is_measured_once(boxes, tmp_path, kind):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "with blank").write_bytes(b"x" * 10)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    script = ["sh", "-c", _pair_plan_task._SIZES, "sh", str(tmp_path)]
    _status, printed, said = output(boxes[kind].runner(), script)
    assert said == b""
    assert _pair_plan_task._totals(printed) == {"files": 2, "bytes": 1010}


@pytest.mark.parametrize("line", [b"", b"1 1", b"-1 1 1:1", b"9" * 5000 + b" 1 1:1", b"1 1 1:1 1"])
def test_what_no_stat_prints_is_no_measure(line):
    with pytest.raises(ProtocolError, match=r"^The source can't be measured: its stat prints what can't be"):
        _pair_plan_task._totals(b"1 1 1:1\n" + line + b"\n")
