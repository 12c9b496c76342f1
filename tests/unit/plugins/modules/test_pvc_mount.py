# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it: its options checked, its result and its errors as JSON."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from execserver import ExecServer
from fakeapi import claim, pod, status

from ansible_collections.kubeferry.pvc.plugins.module_utils import _module
from ansible_collections.kubeferry.pvc.plugins.modules import pvc_mount


@pytest.fixture
def server():
    with ExecServer() as started:
        started.api.add("persistentvolumeclaims", claim())
        started.api.created = lambda item: item.update(status=pod()["status"])
        yield started


@pytest.fixture
def run(server, capsys):
    def call(**options):
        options = {"namespace": "ns", **server.auth(), **options}
        with patch_module_args(options), pytest.raises(SystemExit):
            pvc_mount.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_present_and_absent(server, run):
    made = run(pvc="pvc-0", run_id="r1", keep=True)
    assert (made["changed"], made["pod"], made["path"]) == (True, "kubeferry-pvc-0-r1", "/mnt/pvc-0")
    assert not run(pvc="pvc-0", run_id="r1", keep=True)["changed"]
    assert run(state="absent", run_id="r1")["removed"] == ["kubeferry-pvc-0-r1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "pvc"),
        ({"state": "absent"}, "run_id"),
        ({"pvc": None}, "state is present but all of the following are missing: pvc."),
        ({"pvc": "pvc-0", "namespace": None}, "namespace is empty"),
        ({"pvc": "pvc-0", "also": [{"pvc": None}]}, "also.pvc is empty"),
        (
            {"state": "absent", "run_id": None},
            "state is absent but all of the following are missing: run_id.",
        ),
        ({"pvc": "pvc-0", "image": None}, "image is empty: give it, or leave it out."),
        ({"state": "absent", "run_id": "A"}, "run_id 'A'"),
        ({"state": "absent", "run_id": ""}, "run_id ''"),
        (
            {"state": "absent", "run_id": "r1", "namespace": ""},
            "namespace is empty: give the name of a namespace",
        ),
        ({"pvc": ""}, "pvc is empty"),
        ({"pvc": "pvc-0", "lifetime": 10**12}, "lifetime is above 2147483647"),
        ({"pvc": "pvc-0", "also": [{"pvc": ""}]}, "also.pvc is empty"),
        ({"pvc": "other"}, "Claim ns/other doesn't exist"),
        ({"pvc": "pvc-0", "run_id": "A B"}, "run_id 'A B'"),
        (
            {"pvc": "pvc-0", "tolerations": [{"key": "a", "operater": "Exists"}]},
            "A toleration has no 'operater': give key, operator",
        ),
        ({"pvc": "pvc-0", "resources": {"limit": {}, "cpu": 1}}, "resources has no 'cpu' and 'limit'"),
        ({"pvc": "pvc-0", "pod_security": "privileged"}, "pod_security"),
        (
            {"pvc": "pvc-0", "host": None, "kubeconfig": "/nonexistent/config"},
            "no usable kubeconfig config in /nonexistent:",
        ),
    ],
)
def test_errors_are_a_sentence_and_leave_no_pod(server, run, options, words):
    result = run(**options)
    assert result["failed"]
    assert words in result["msg"]
    assert "\n" not in result["msg"]
    assert len(server.api.all("pods", "ns")) == 1


def test_no_secret_in_any_message(server, run):
    for code in (401, 403, 500):
        server.api.refuse[("get", "persistentvolumeclaims")] = [(code, status(code, "no"))] * (
            4 if code == 500 else 1
        )
        assert "a-token" not in run(pvc="pvc-0")["msg"]


def test_names_in_a_kubeconfig_are_not_masked_in_results(server, run):
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "kubeferry",
        "clusters": [{"name": "kubeferry", "cluster": {"server": server.url}}],
        "users": [{"name": "pvc", "user": {"token": "a-token"}}],
        "contexts": [{"name": "kubeferry", "context": {"cluster": "kubeferry", "user": "pvc"}}],
    }
    own = {"host": None, "api_key": None, "kubeconfig": kubeconfig}
    made = run(pvc="pvc-0", run_id="r1", keep=True, **own)
    assert (made["pod"], made["path"]) == ("kubeferry-pvc-0-r1", "/mnt/pvc-0")
    assert "a-token" not in json.dumps(made)


def test_missing_libraries_are_named(run, monkeypatch):
    monkeypatch.setattr(_module, "IMPORT_ERROR", "Traceback of the import")
    assert "kubernetes" in run(pvc="pvc-0")["msg"]
