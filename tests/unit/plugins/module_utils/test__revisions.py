# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of a DaemonSet that was stopped and brought back, in an API server in memory."""

from __future__ import annotations

import pytest
from fakeapi import FakeApi, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Rest
from ansible_collections.kubeferry.pvc.plugins.module_utils._revisions import forget_stopped
from ansible_collections.kubeferry.pvc.plugins.module_utils._workload_kinds import KINDS, QUIESCED, Workload

STOPPED = {QUIESCED: "true"}


def template(selector):
    return {"template": {"spec": {"nodeSelector": selector}}}


@pytest.fixture
def api():
    made = FakeApi()
    for name in ("agent", "other"):
        made.add(
            "daemonsets", {"metadata": {"name": name, "namespace": "ns"}, "spec": template({"disk": "ssd"})}
        )
        uid = made.find("daemonsets", "ns", name)["metadata"]["uid"]
        for number, selector in enumerate(({"disk": "ssd"}, {"disk": "ssd", **STOPPED}), 1):
            owner = {"kind": "DaemonSet", "name": name, "uid": uid, "controller": True}
            metadata = {"name": f"{name}-{number}", "namespace": "ns", "ownerReferences": [owner]}
            made.add("controllerrevisions", {"metadata": metadata, "data": {"spec": template(selector)}})
    return made


def left(api, resource="daemonsets"):
    """The names of the revisions that are there after agent was brought back."""
    kind = next(each for each in KINDS if each.resource == resource)
    cluster = ClusterApi(Rest("https://h", list, sender(api)))
    forget_stopped(cluster, "ns", [Workload(kind, api.all("daemonsets")[0])])
    return [each["metadata"]["name"] for each in api.all("controllerrevisions")]


def test_what_an_undo_would_go_back_to_is_removed(api):
    assert left(api) == ["agent-1", "other-1", "other-2"]


def test_the_revision_stays_while_the_daemon_set_is_stopped(api):
    api.find("daemonsets", "ns", "agent")["spec"] = template(STOPPED)
    assert len(left(api)) == 4


@pytest.mark.parametrize("verb", ["list", "delete"])
def test_without_the_right_it_stays(api, verb):
    api.refuse[(verb, "controllerrevisions")] = [(403, status(403, "no"))]
    assert len(left(api)) == 4


def test_other_kinds_have_no_such_revision(api):
    assert len(left(api, "statefulsets")) == 4
    assert api.requests == []
