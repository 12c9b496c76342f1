# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_spec import (
    CLAIM,
    EXPIRES,
    RUN,
    SPEC,
    Further,
    HelperRequest,
    Placement,
    has_expired,
    helper_pod,
    new_run_id,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
BASELINE = {
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
}


def request(**options):
    return HelperRequest(**{"namespace": "ns", "claim": "pvc-0", "run_id": "r1", **options})


@pytest.mark.parametrize(
    "claim", ["pvc-0", "data.db", "a" * 253, "a" * 40 + "-" + "b" * 40, "x." * 20 + "y", "A", "a" * 51 + "-b"]
)
@pytest.mark.parametrize("run_id", ["r1", "a" * 63, "0123456789ab", "0123456789abc"])
def test_every_name_is_a_dns_label_and_every_label_is_one(claim, run_id):
    pod = helper_pod(request(claim=claim, run_id=run_id), NOW)
    label = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
    for text in (pod["metadata"]["name"], *pod["metadata"]["labels"].values()):
        assert label.fullmatch(text), text
    assert pod["metadata"]["annotations"][CLAIM] == claim


def test_different_claims_and_runs_have_different_names():
    long = "a" * 60
    pairs = [
        (long + "b", "r"),
        (long + "c", "r"),
        ("a.b", "r"),
        ("a-b", "r"),
        ("a", "x" * 20),
        ("a", "x" * 21),
    ]
    assert len({request(claim=claim, run_id=run).name for claim, run in pairs}) == len(pairs)
    assert request(claim="pvc-0", run_id="r1").name == "kubeferry-pvc-0-r1"


@pytest.mark.parametrize(
    "options",
    [
        {"run_id": ""},
        {"run_id": "a_b"},
        {"run_id": "-a"},
        {"run_id": "a" * 64},
        {"run_id": "A"},
        {"path": "mnt"},
        *(
            {"path": path}
            for path in ("/", "//", "/bin", "/usr/", "/mnt/../lib64", "//etc", "/proc", "/sys/fs/x")
        ),
        {"also": [Further("b", "/dev/shm")]},
        {"path": "/data", "also": [Further("b", "//data/")]},
        {"path": "/a:b"},
        {"lifetime": 0},
        {"also": [Further("other", "mnt")]},
        {"also": [Further("other", "/mnt/pvc-0")]},
        {"also": [Further("pvc-0")]},
    ],
)
def test_what_kubernetes_would_refuse_is_refused_before(options):
    with pytest.raises(UsageError):
        request(**options)


def test_new_run_ids_differ_and_are_valid():
    assert len({request(run_id=new_run_id()).run_id for _number in range(100)}) == 100


def test_a_pod_with_nothing_but_the_claim():
    pod = helper_pod(request(), NOW)
    spec = pod["spec"]
    assert spec["volumes"] == [{"name": "claim", "persistentVolumeClaim": {"claimName": "pvc-0"}}]
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": "claim", "mountPath": "/mnt/pvc-0", "readOnly": False}
    ]
    assert spec["activeDeadlineSeconds"] == 4 * 3600
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert "fsGroup" not in spec["securityContext"]
    assert pod["metadata"]["labels"][RUN] == "r1"
    assert pod["metadata"]["annotations"][EXPIRES] == "2026-01-02T07:04:05+00:00"


def test_a_pod_with_further_claims_mounts_each_and_a_claim_twice_is_one_volume():
    also = [Further("source", read_only=True), Further("pvc-0", "/mnt/again", read_only=True)]
    pod = helper_pod(request(also=also), NOW)
    claims = {each["name"]: each["persistentVolumeClaim"]["claimName"] for each in pod["spec"]["volumes"]}
    assert sorted(claims.values()) == ["pvc-0", "source"]
    mounts = {
        each["mountPath"]: (claims[each["name"]], each["readOnly"])
        for each in pod["spec"]["containers"][0]["volumeMounts"]
    }
    assert mounts == {
        "/mnt/pvc-0": ("pvc-0", False),
        "/mnt/source": ("source", True),
        "/mnt/again": ("pvc-0", True),
    }
    assert pod["metadata"]["name"] == "kubeferry-pvc-0-r1"
    alone = helper_pod(request(), NOW)["metadata"]["annotations"][SPEC]
    assert pod["metadata"]["annotations"][SPEC] != alone


def test_baseline_is_root_with_no_capability_that_the_level_forbids():
    context = helper_pod(request(), NOW)["spec"]["containers"][0]["securityContext"]
    assert context["runAsUser"] == 0
    assert context["capabilities"]["drop"] == ["ALL"]
    assert set(context["capabilities"]["add"]) <= BASELINE


def test_restricted_asks_for_nothing_that_the_level_forbids():
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    context = helper_pod(request(pod_security="restricted"), NOW)["spec"]["containers"][0]["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_every_option_arrives():
    pod = helper_pod(
        request(
            path="/data",
            image="registry/image:1",
            read_only=True,
            lifetime=60,
            run_as_user=5,
            run_as_group=6,
            service_account="sa",
            image_pull_secrets=["s"],
            node_selector={"a": "b"},
            tolerations=[{"operator": "Exists"}],
            resources={"limits": {"cpu": "1"}},
            priority_class="low",
            supplemental_groups=[7],
        ),
        NOW,
        Placement("node-7", [{"operator": "Exists"}, {"key": "a"}], user=8, group=9),
    )
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert container["image"] == "registry/image:1"
    assert container["volumeMounts"] == [{"name": "claim", "mountPath": "/data", "readOnly": True}]
    assert (container["securityContext"]["runAsUser"], container["securityContext"]["runAsGroup"]) == (5, 6)
    assert container["resources"] == {"limits": {"cpu": "1"}}
    assert spec["activeDeadlineSeconds"] == 60
    assert spec["serviceAccountName"] == "sa"
    assert spec["imagePullSecrets"] == [{"name": "s"}]
    assert spec["nodeSelector"] == {"a": "b"}
    assert spec["tolerations"] == [{"operator": "Exists"}, {"key": "a"}]
    assert spec["priorityClassName"] == "low"
    assert spec["securityContext"]["supplementalGroups"] == [7]
    assert "node-7" in str(spec["affinity"])


def test_the_place_gives_ids_to_a_pod_that_has_none():
    spec = helper_pod(request(pod_security="restricted"), NOW, Placement(user=8, group=9))["spec"]
    assert spec["containers"][0]["securityContext"]["runAsUser"] == 8
    assert spec["securityContext"]["supplementalGroups"] == [9]


def test_the_digest_tells_what_was_asked_for_and_not_when_or_where():
    def digest(pod):
        return pod["metadata"]["annotations"][SPEC]

    assert digest(helper_pod(request(), NOW)) == digest(
        helper_pod(request(), NOW + timedelta(hours=1), Placement("node", [{"key": "a"}], 5, 6))
    )
    assert digest(helper_pod(request(), NOW)) != digest(helper_pod(request(read_only=True), NOW))


@pytest.mark.parametrize(
    ("phase", "expires", "expired"),
    [
        ("Running", "2026-01-02T03:04:04+00:00", True),
        ("Running", "2026-01-02T03:04:06+00:00", False),
        ("Pending", "2026-01-02T03:04:04+00:00", True),
        ("Failed", "2026-01-02T03:04:06+00:00", True),
        ("Succeeded", "", True),
        ("Running", "", False),
        ("Running", "tomorrow", False),
        ("Running", "2026-01-02T03:04:04", False),
    ],
)
def test_what_has_expired(phase, expires, expired):
    pod = {"metadata": {"annotations": {EXPIRES: expires}}, "status": {"phase": phase}}
    assert has_expired(pod, NOW) is expired
