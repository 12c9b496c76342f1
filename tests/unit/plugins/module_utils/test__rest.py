# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from fakeapi import FakeApi, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils import _rest
from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ClusterError,
    ConnectionLost,
    Forbidden,
    NotFound,
    Throttled,
    Unreachable,
)


@pytest.fixture
def pauses(monkeypatch):
    found = []
    monkeypatch.setattr(_rest.time, "sleep", found.append)
    return found


@pytest.fixture
def api():
    return FakeApi()


@pytest.fixture
def cluster(api):
    return ClusterApi(_rest.Rest("https://h:6443/prefix", list, sender(api)))


def test_paths_are_quoted_and_below_the_prefix(api, cluster):
    with pytest.raises(NotFound):
        cluster.get_pod("ns", "a/b?c")
    assert api.requests[0][1] == "/prefix/api/v1/namespaces/ns/pods/a%2Fb%3Fc"


def test_selectors(api, cluster):
    api.add("pods", {"metadata": {"name": "x", "namespace": "ns", "labels": {"a": "b"}}})
    assert [pod["metadata"]["name"] for pod in cluster.list_pods("ns", labels="a=b")] == ["x"]
    assert len(cluster.list_pods("ns")) == 2


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again(api, cluster, pauses, code):
    api.refuse[("get", "pods")] = [(code, status(code, "busy"))] * 3
    assert cluster.get_pod("ns", "pod")["metadata"]["name"] == "pod"
    assert pauses == [0.5, 1.0, 2.0]


def test_but_not_for_ever(api, cluster, pauses):
    api.refuse[("get", "pods")] = [(503, status(503, "busy"))] * 9
    with pytest.raises(Throttled, match="pod ns/pod"):
        cluster.get_pod("ns", "pod")
    assert len(pauses) == 3


def test_the_server_may_say_how_long_to_wait(pauses):
    answers = [_Answer(429, {"Retry-After": "7"}), _Answer(200, {})]
    rest = _rest.Rest("https://h", list, lambda *request: answers.pop(0))
    rest.call(_rest.Request("get", "pods", "ns", "pod"))
    assert pauses == [7.0]


def test_a_lost_answer_is_asked_for_again_only_when_reading(pauses):
    def send(*request):
        raise ConnectionResetError(104, "reset")

    rest = _rest.Rest("https://h", list, send)
    with pytest.raises(ConnectionLost):
        rest.call(_rest.Request("create", "pods", "ns", "pod", body={}))
    assert pauses == []
    with pytest.raises(ConnectionLost):
        rest.call(_rest.Request("list", "pods", "ns"))
    assert len(pauses) == 3


@pytest.mark.parametrize(
    ("verb", "code", "error", "words"),
    [
        (
            "get",
            403,
            Forbidden,
            "Reading claim ns/c is forbidden: the user needs the verb get on persistentvolumeclaims",
        ),
        ("get", 404, NotFound, "Claim ns/c doesn't exist"),
        ("list", 403, Forbidden, "Listing the claims of namespace ns"),
        ("delete", 409, ClusterError, "Deleting claim ns/c failed"),
    ],
)
def test_refusals_name_the_object_and_the_verb(verb, code, error, words):
    rest = _rest.Rest("https://h", list, lambda *request: _Answer(code, {}))
    with pytest.raises(error, match=words):
        rest.call(_rest.Request(verb, "persistentvolumeclaims", "ns", "c", tries=1))


def test_a_namespace_that_is_being_deleted_is_told_from_a_right_that_is_missing():
    body = status(403, "no") | {
        "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}
    }
    rest = _rest.Rest("https://h", list, lambda *request: _Answer(403, {}, json.dumps(body).encode()))
    with pytest.raises(ClusterError, match="Namespace ns is being deleted") as caught:
        rest.call(_rest.Request("create", "leases", "ns", "l"))
    assert not isinstance(caught.value, Forbidden)


def test_a_missing_namespace_is_told_from_a_missing_object(api, cluster):
    with pytest.raises(NotFound, match="Namespace other doesn't exist"):
        cluster.create_pod("other", {"metadata": {"name": "x"}})
    with pytest.raises(NotFound, match="Namespace other doesn't exist"):
        cluster.check_namespace("other")
    cluster.check_namespace("ns")
    api.refuse[("get", "namespaces")] = [(403, status(403, "no"))]
    cluster.check_namespace("other")


@pytest.mark.parametrize("code", [200, 302])
def test_an_answer_of_something_else_is_no_traceback(code):
    rest = _rest.Rest("https://h", list, lambda *request: _Answer(code, {}, b"<html>"))
    with pytest.raises(
        Unreachable, match=f"answers at h isn't a Kubernetes API server .HTTP status {code}.: check"
    ):
        rest.call(_rest.Request("get", "pods", "ns", "pod"))


def test_events_come_oldest_first_and_their_absence_is_no_error(api, cluster):
    for name, time in (("b", "2026-01-02T00:00:00Z"), ("a", "2026-01-01T00:00:00Z")):
        about = {"kind": "Pod", "name": "pod", "uid": "u"}
        metadata = {"name": name, "namespace": "ns"}
        api.add("events", {"metadata": metadata, "involvedObject": about, "lastTimestamp": time})
    assert [event["metadata"]["name"] for event in cluster.events_of("ns", "Pod", "pod", "u")] == ["a", "b"]
    assert cluster.events_of("ns", "Pod", "other") == []
    api.refuse[("list", "events")] = [(403, status(403, "no"))]
    assert cluster.events_of("ns", "Pod", "pod") == []


def test_deleting_what_is_gone_or_another_by_now(api, cluster):
    assert cluster.delete_pod("ns", "other") is False
    with pytest.raises(ClusterError):
        cluster.delete_pod("ns", "pod", uid="another")
    assert cluster.delete_pod("ns", "pod", uid=api.find("pods", "ns", "pod")["metadata"]["uid"]) is True


def test_state_of_never_raises(api, cluster, pauses):
    assert cluster.state_of("ns", "pod") == "it is Running"
    assert cluster.state_of("ns", "other") == "it doesn't exist any more"
    api.refuse[("get", "pods")] = [(500, status(500, "no"))]
    assert cluster.state_of("ns", "pod") == ""
    assert pauses == []


class _Answer:
    def __init__(self, code, headers, data=b"{}"):
        self.status, self.headers, self.data = code, headers, data
