# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Where helper pods go, and as whom, on a cluster of two nodes."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from livekit import COPIER, MADE, ROOT, SOURCE, kubectl, make_claim, run_app

pytestmark = pytest.mark.timeout(600)

RESTRICTED = "restricted-namespace"
MANIFESTS = ROOT / "tests" / "cluster" / "manifests"


@pytest.fixture(scope="module", autouse=True)
def node(second_node) -> str:
    """A second node, which takes no pod by itself: it is tainted and cordoned."""
    kubectl("taint", "node", "node2", "dedicated=db:NoSchedule", "--overwrite")
    kubectl("cordon", "node2")
    yield second_node
    kubectl("uncordon", "node2")
    kubectl("taint", "node", "node2", "dedicated-")


@pytest.fixture(autouse=True)
def nothing_left(node):
    yield
    for namespace in (SOURCE, RESTRICTED):
        kubectl("delete", "pods", "-n", namespace, "-l", "app.kubernetes.io/managed-by=kubeferry")
        kubectl("delete", "pods,pvc", "-n", namespace, "-l", "live-test", "--timeout=60s", seconds=70)
    kubectl("delete", "pv", "-l", "live-test")


def mount(**options) -> dict:
    """The result of one task of pvc_mount, as the user who may copy."""
    done = subprocess.run(
        [
            "ansible",
            "localhost",
            "-m",
            "kubeferry.pvc.pvc_mount",
            "-a",
            json.dumps({"keep": True, **options}),
        ],
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(ROOT / ".cache" / "ansible"),
            **os.environ,
            "KUBECONFIG": COPIER,
            "NO_COLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("=> ") + 3 :])[0]


DEDICATED = {"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}
CORDONED = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}


def test_a_claim_in_use_is_mounted_on_its_node_though_that_is_tainted_and_cordoned(node):
    make_claim("in-use")
    run_app("in-use", [DEDICATED, CORDONED])
    assert mount(namespace=SOURCE, pvc="in-use", run_id="in-use").get("node") == node


def test_a_claim_that_is_not_in_use_keeps_off_tainted_and_cordoned_nodes():
    make_claim("idle")
    mounted = mount(namespace=SOURCE, pvc="idle", run_id="idle")
    assert mounted.get("node") == "node1", mounted
    claim = json.loads(kubectl("get", "pvc", "-n", SOURCE, "idle", "-o", "json"))
    assert claim["status"]["phase"] == "Bound", "its class waits for the first pod that uses a claim"


def test_a_volume_on_a_cordoned_node_is_reached_and_its_taints_are_respected(node):
    make_claim("pinned", node=node)
    run_app("pinned", [DEDICATED, CORDONED])
    kubectl("delete", "pod", "-n", SOURCE, "app-pinned")
    refused = mount(namespace=SOURCE, pvc="pinned", run_id="pinned", wait_timeout=5)
    assert "no node takes it: check node_selector, tolerations" in refused["msg"]
    mounted = mount(namespace=SOURCE, pvc="pinned", run_id="pinned", tolerations=[DEDICATED])
    assert mounted.get("node") == node, mounted


def test_a_claim_for_one_pod_is_refused_while_a_pod_has_it():
    make_claim("alone", mode="ReadWriteOncePod")
    run_app("alone", [DEDICATED, CORDONED])
    refused = mount(namespace=SOURCE, pvc="alone", run_id="alone")
    assert "allows one pod only (ReadWriteOncePod), and pod app-alone has it" in refused["msg"]


def test_the_ids_of_a_namespace_are_used_and_the_volume_is_left_as_it_is():
    for name in ("copier-role", "copier-binding"):
        kubectl("apply", "-n", RESTRICTED, "-f", str(MANIFESTS / f"{name}.yaml"))
    annotations = ("openshift.io/sa.scc.uid-range", "openshift.io/sa.scc.supplemental-groups")
    kubectl("annotate", "ns", RESTRICTED, "--overwrite", *(f"{key}=1000680000/10000" for key in annotations))
    try:
        folder = MADE / "volumes" / RESTRICTED / "pvc-0"
        secret = folder / "of-the-group"
        secret.write_text("read\n")
        os.chown(secret, 0, 1000680000)
        secret.chmod(0o640)
        before = folder.stat(), secret.stat()
        mounted = mount(
            namespace=RESTRICTED,
            pvc="pvc-0",
            run_id="ids",
            pod_security="restricted",
            resources={"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
            priority_class="system-no-such",
        )
        assert "Priority class system-no-such doesn't exist" in mounted["msg"]
        mounted = mount(namespace=RESTRICTED, pvc="pvc-0", run_id="ids", pod_security="restricted")
        assert mounted.get("pod"), mounted
        script = "id -u; cat /mnt/pvc-0/of-the-group"
        said = kubectl("exec", "-n", RESTRICTED, mounted["pod"], "--", "sh", "-c", script)
        assert said.split() == ["1000680000", "read"]
        after = folder.stat(), secret.stat()
        assert [(x.st_uid, x.st_gid, x.st_mode) for x in before] == [
            (x.st_uid, x.st_gid, x.st_mode) for x in after
        ]
        secret.unlink()
    finally:
        kubectl("annotate", "ns", RESTRICTED, *(f"{key}-" for key in annotations))
        kubectl("delete", "-n", RESTRICTED, "-f", str(MANIFESTS / "copier-binding.yaml"))
