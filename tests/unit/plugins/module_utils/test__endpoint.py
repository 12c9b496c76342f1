# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from execserver import ExecServer
from fakeapi import status

from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint import opened
from ansible_collections.kubeferry.pvc.plugins.module_utils._progress import Progress


@pytest.fixture
def server():
    with ExecServer() as running:
        found = running.api.find("pods", "ns", "pod")
        found["spec"]["containers"].append({"name": "side"})
        found["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "side"}
        yield running


def container_of(server, tmp_path, **options):
    """The container in which the directory of an endpoint is looked at."""
    endpoint = {"namespace": "ns", "pod": "pod", "path": str(tmp_path), **options}
    with opened({**server.auth(), "source": endpoint}, "source", Progress(), []) as end:
        end.tree.facts()
    (container,) = {entry.container for entry in server.execs}
    assert end.place.container == container
    return container


def test_the_pods_own_default_container_is_taken(server, tmp_path):
    assert container_of(server, tmp_path) == "side"


def test_the_container_that_is_named_is_taken(server, tmp_path):
    assert container_of(server, tmp_path, container="main") == "main"


def test_who_may_not_look_at_the_pod_leaves_it_to_the_server(server, tmp_path):
    server.api.refuse[("get", "pods")] = [(403, status(403, "no"))]
    assert container_of(server, tmp_path) == ""
