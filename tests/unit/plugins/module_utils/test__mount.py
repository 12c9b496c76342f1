# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `pvc_mount` without Ansible around it, against a server on loopback."""

from __future__ import annotations

import pytest
from execserver import ExecServer
from fakeapi import claim, pod

from ansible_collections.kubeferry.pvc.plugins.module_utils import _guard, _mount
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    Forbidden,
    HelperPodError,
    Interrupted,
    NotFound,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._runner import output


@pytest.fixture
def guarded(monkeypatch):
    """The names of the guards that were started, and that were told to look."""
    found = {"start": [], "notify": []}
    monkeypatch.setattr(_guard, "start", lambda watch: found["start"].append(watch.name) or True)
    monkeypatch.setattr(_guard, "notify", found["notify"].append)
    return found


@pytest.fixture
def server(guarded):
    with ExecServer() as started:
        started.api.add("persistentvolumeclaims", claim())
        started.api.created = lambda item: item.update(status=pod()["status"])
        yield started


def params(server, **options):
    defaults = {
        "state": "present",
        "namespace": "ns",
        "pvc": "pvc-0",
        "run_id": "r1",
        "image": "busybox:1.37",
        "read_only": False,
        "lifetime": 60,
        "pod_security": "baseline",
        "wait_timeout": 5,
        "keep": False,
    }
    return {**defaults, **server.auth(), **options}


def test_present_twice_and_absent_twice(server, guarded):
    results = [
        _mount.run(params(server, state=state), check_mode=False)
        for state in ("present", "present", "absent", "absent")
    ]
    assert [result["changed"] for result in results] == [True, False, True, False]
    assert results[0]["pod"] == "kubeferry-pvc-0-r1"
    assert results[0]["diff"] == {
        "before": {"helper_pods": []},
        "after": {"helper_pods": ["kubeferry-pvc-0-r1"]},
    }
    assert results[1]["diff"]["before"] == results[1]["diff"]["after"]
    assert results[2]["removed"] == ["kubeferry-pvc-0-r1"]
    assert len(guarded["start"]) == 4
    assert {*guarded["start"]} == {*guarded["notify"]}


def test_a_run_id_is_made_where_none_is_given(server):
    first, second = (_mount.run(params(server, run_id=None), check_mode=False) for _number in range(2))
    assert first["run_id"] != second["run_id"]
    assert first["changed"]
    assert second["changed"]


def test_check_mode_changes_nothing_and_predicts(server, guarded):
    assert _mount.run(params(server), check_mode=True)["changed"]
    assert len(server.api.all("pods", "ns")) == 1
    _mount.run(params(server), check_mode=False)
    assert not _mount.run(params(server), check_mode=True)["changed"]
    absent = _mount.run(params(server, state="absent"), check_mode=True)
    assert (absent["changed"], absent["removed"]) == (True, ["kubeferry-pvc-0-r1"])
    assert len(server.api.all("pods", "ns")) == 2
    assert len(guarded["start"]) == 2
    assert guarded["notify"] == []


def test_the_guard_is_there_before_the_pod(server, monkeypatch):
    pods = []
    monkeypatch.setattr(_guard, "start", lambda watch: pods.append(watch.left()) or True)
    _mount.run(params(server), check_mode=False)
    assert pods == [False, True]


def test_no_pod_is_left_when_the_playbook_is_killed_meanwhile(server, monkeypatch):
    answers = [Interrupted("gone"), True]

    def start(watch):
        answer = answers.pop()
        if isinstance(answer, Interrupted):
            raise answer
        return answer

    monkeypatch.setattr(_guard, "start", start)
    with pytest.raises(Interrupted):
        _mount.run(params(server), check_mode=False)
    assert len(server.api.all("pods", "ns")) == 1


def test_the_guard_is_told_when_there_is_no_pod(server, guarded):
    with pytest.raises(NotFound):
        _mount.run(params(server, pvc="other"), check_mode=False)
    assert guarded["start"] == guarded["notify"]


def test_a_pod_that_is_to_be_kept_has_no_guard(server, guarded):
    assert not _mount.run(params(server, keep=True), check_mode=False)["guarded"]
    assert guarded["start"] == []


@pytest.mark.parametrize("state", ["present", "absent"])
def test_remains_of_other_runs_are_reaped(server, state):
    _mount.run(params(server, run_id="old"), check_mode=False)
    server.api.find("pods", "ns", "kubeferry-pvc-0-old")["status"]["phase"] = "Failed"
    foreseen = _mount.run(params(server, state=state), check_mode=True)
    result = _mount.run(params(server, state=state), check_mode=False)
    assert foreseen["reaped"] == result["reaped"] == ["kubeferry-pvc-0-old"]
    assert result["changed"]


def test_errors_are_ours(server):
    with pytest.raises(UsageError, match="run_id"):
        _mount.run(params(server, run_id="Not A Label"), check_mode=False)


def test_a_borrowed_pod_is_gone_afterwards(server, guarded):
    endpoint = {"namespace": "ns", "pvc": "pvc-0", "image": "busybox:1.37", "lifetime": 77}
    cluster = server.cluster()
    with _mount.borrowed(cluster, endpoint, [], read_only=True) as mounted:
        runner = cluster.runner(mounted.namespace, mounted.pod, mounted.container)
        assert output(runner, ["echo", "a"])[1] == b"a\n"
        made = server.api.find("pods", "ns", mounted.pod)
        assert made["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] is True
        assert made["spec"]["containers"][0]["securityContext"]["runAsUser"] == 0
        assert made["spec"]["activeDeadlineSeconds"] == 77
    assert len(server.api.all("pods", "ns")) == 1
    assert {*guarded["start"]} == {*guarded["notify"]}


def test_a_borrowed_pod_that_does_without_root(server, guarded):
    endpoint = {"namespace": "ns", "pvc": "pvc-0", "pod_security": "restricted", "run_as_user": 1001}
    with _mount.borrowed(server.cluster(), endpoint, [], read_only=True) as mounted:
        security = server.api.find("pods", "ns", mounted.pod)["spec"]["containers"][0]["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 1001)


def test_the_end_of_a_borrowed_pod_does_not_hide_an_error(server, monkeypatch):
    def work():
        with _mount.borrowed(server.cluster(), {"namespace": "ns", "pvc": "pvc-0"}, [], read_only=True):
            raise ZeroDivisionError

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.api.refuse[("delete", "pods")] = [(500, {"message": "no"})] * 99
    with pytest.raises(ZeroDivisionError):
        work()


def test_a_borrowed_pod_that_can_not_be_removed_is_named(server):
    warnings = []
    server.api.refuse[("delete", "pods")] = [(403, {"message": "no"})]
    endpoint = {"namespace": "ns", "pvc": "pvc-0", "lifetime": 77}
    with _mount.borrowed(server.cluster(), endpoint, warnings, read_only=True) as mounted:
        pass
    assert len(warnings) == 1
    assert f"Helper pod ns/{mounted.pod} may be left for up to 77 seconds" in warnings[0]
    assert "the user needs the verb delete on pods in namespace ns" in warnings[0]


@pytest.mark.parametrize("check_mode", [False, True])
def test_no_pod_is_made_that_could_not_be_removed(server, check_mode):
    server.api.refuse[("create", "selfsubjectaccessreviews")] = [(201, {"status": {"allowed": False}})]
    with pytest.raises(Forbidden, match=r"isn't made, since .* the user needs the verb delete on pods"):
        _mount.run(params(server), check_mode=check_mode)
    asked = [body for _method, path, body, _headers in server.api.requests if "selfsubject" in path]
    wanted = {"verb": "delete", "resource": "pods", "namespace": "ns", "name": "kubeferry-pvc-0-r1"}
    assert [body["spec"]["resourceAttributes"] for body in asked] == [wanted]
    assert not any(method == "POST" and "/pods" in path for method, path, *_rest in server.api.requests)


def test_a_pod_is_made_where_rights_can_not_be_asked_for(server):
    server.api.refuse[("create", "selfsubjectaccessreviews")] = [(403, {"message": "no"})]
    assert _mount.run(params(server), check_mode=False)["changed"]


def test_how_long_a_borrowed_pod_is_waited_for(server):
    server.api.created = lambda item: item.update(status={"phase": "Pending"})
    endpoint = {"namespace": "ns", "pvc": "pvc-0", "wait_timeout": 0}
    with (
        pytest.raises(HelperPodError, match="wasn't ready in time"),
        _mount.borrowed(server.cluster(), endpoint, [], read_only=False),
    ):
        pytest.fail("there is no pod")
    assert len(server.api.all("pods", "ns")) == 1


def test_a_borrowed_pod_that_does_not_start(server):
    waiting = {"containerStatuses": [{"state": {"waiting": {"reason": "InvalidImageName"}}}]}
    server.api.created = lambda item: item.update(status=waiting)
    with (
        pytest.raises(HelperPodError, match="image name"),
        _mount.borrowed(server.cluster(), {"namespace": "ns", "pvc": "pvc-0"}, [], read_only=False),
    ):
        pytest.fail("there is no pod")
    assert len(server.api.all("pods", "ns")) == 1
