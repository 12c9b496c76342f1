# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from fakeapi import claim, pod

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ClusterError,
    Forbidden,
    HelperPodError,
    NoRoom,
    NotFound,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_diagnosis import (
    diagnosis,
    hopeless,
    refused_creation,
    unusable_claim,
    user_in_the_way,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._helper_spec import HelperRequest

KILLED = "container init was OOM-killed (memory limit too low?)"
REQUEST = HelperRequest("ns", "pvc-0", "r1", image="image:1")


def waiting(reason, message=""):
    return {"status": {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda item: item["metadata"].update(deletionTimestamp="now"), "being deleted"),
        (lambda item: item["spec"].update(volumeMode="Block"), "raw block device"),
        (lambda item: item["status"].update(phase="Lost"), "lost its volume"),
    ],
)
def test_claims_that_cannot_be_mounted(change, words):
    item = claim()
    assert unusable_claim(item, REQUEST) is None
    change(item)
    assert words in str(unusable_claim(item, REQUEST))
    assert "ns/pvc-0" in str(unusable_claim(item, REQUEST))


def test_a_claim_that_waits_for_its_first_pod_can_be_mounted():
    item = claim(volumeName="")
    item["status"]["phase"] = "Pending"
    assert unusable_claim(item, REQUEST) is None


def test_a_claim_for_one_pod_names_the_pod_that_has_it():
    alone = claim(accessModes=["ReadWriteOncePod"])
    assert "pod app has it" in str(user_in_the_way(alone, [pod("app")], REQUEST))
    assert user_in_the_way(alone, [], REQUEST) is None
    assert user_in_the_way(claim(), [pod("app")], REQUEST) is None


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (
            'pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
            HelperPodError,
            "set pod_security to restricted",
        ),
        ("unable to validate against any security context constraint: []", HelperPodError, "pod_security"),
        (
            'pods "p" is forbidden: exceeded quota: q, requested: pods=1',
            NoRoom,
            "quota of pods: raise it",
        ),
        (
            'pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=1',
            HelperPodError,
            "set resources",
        ),
        ('pods "p" is forbidden: failed quota: q: must specify limits.cpu', HelperPodError, "set resources"),
        (
            'pods "p" is forbidden: error looking up service account ns/x: serviceaccount "x" not found',
            NotFound,
            "Service account default",
        ),
        (
            'Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression',
            UsageError,
            "with these resources: write quantities such as 500m",
        ),
        ('Pod "p" is invalid: spec.tolerations[0].operator: Unsupported value', UsageError, "tolerations"),
        ('pods is forbidden: User "u" cannot create resource "pods"', Forbidden, "the original"),
    ],
)
def test_refusals_of_admission_say_what_to_do(said, error, words):
    exc = Forbidden("the original")
    exc.said = said
    found = refused_creation(exc, REQUEST)
    assert found.__class__ is error
    assert words in str(found)


def test_under_restricted_another_advice_is_given():
    exc = ClusterError("")
    exc.said = 'violates PodSecurity "restricted:latest"'
    found = refused_creation(exc, HelperRequest("ns", "c", "r", pod_security="restricted"))
    assert "set pod_security" not in str(found)
    assert "run_as_user" in str(found)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (waiting("ImagePullBackOff", "Back-off pulling image"), "image image:1 can't be pulled"),
        (waiting("InvalidImageName"), "isn't an image name"),
        (
            waiting("RunContainerError", KILLED),
            "limit of memory is too low for it: raise limits in resources",
        ),
        (
            {
                "status": {
                    "phase": "Failed",
                    "containerStatuses": [
                        {"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
                    ],
                }
            },
            "limit of memory is too low for it: raise limits in resources",
        ),
        (
            waiting("CreateContainerConfigError", "image will run as root"),
            r"run_as_user.*image will run as root",
        ),
        ({"status": {"phase": "Failed", "reason": "DeadlineExceeded"}}, "DeadlineExceeded"),
        (
            {
                "status": {
                    "phase": "Succeeded",
                    "containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}],
                }
            },
            "Completed 0",
        ),
    ],
)
def test_when_waiting_is_no_use(status, words):
    error = hopeless(status, REQUEST)
    assert error is not None
    with pytest.raises(HelperPodError, match=words):
        raise error


@pytest.mark.parametrize(
    "status", [waiting("ContainerCreating"), waiting("ErrImagePull"), {"status": {}}, pod()]
)
def test_when_it_may_still_start(status):
    assert hopeless(status, REQUEST) is None


def event(reason, message, kind="Warning"):
    return {"reason": reason, "message": message, "type": kind}


def unscheduled(message):
    return {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}}


@pytest.mark.parametrize(
    ("item", "events", "claim_events", "words"),
    [
        (
            unscheduled("0/3 nodes are available: insufficient cpu."),
            [],
            [],
            "no node takes it: check node_selector",
        ),
        (
            unscheduled("pod has unbound immediate PersistentVolumeClaims"),
            [],
            [event("ProvisioningFailed", 'storageclass "x" not found')],
            'isn\'t bound to a volume: check its storage class (the server says: storageclass "x" not found)',
        ),
        (
            unscheduled(
                "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind."
            ),
            [],
            [],
            "claim ns/pvc-0 isn't bound to a volume",
        ),
        (pod(), [event("FailedMount", "mount failed: exit status 32")], [], "exit status 32"),
        (
            pod(),
            [
                event("FailedAttachVolume", "Multi-Attach error for volume"),
                event("Pulled", "image", "Normal"),
            ],
            [],
            "still attached to another node",
        ),
        (pod(), [event("FailedCreatePodSandBox", "no network")], [], "no network"),
        (
            waiting("ErrImagePull", "no such host"),
            [event("Failed", "Error: ImagePullBackOff")],
            [],
            "its image image:1 can't be pulled: check the name, and image_pull_secrets (the server says: no such host)",
        ),
        (
            pod(),
            [event("Failed", KILLED)],
            [],
            "limit of memory is too low for it: raise limits in resources",
        ),
        (pod(), [], [], "no event that tells why"),
    ],
)
def test_why_it_was_not_ready_in_time(item, events, claim_events, words):
    assert words in diagnosis(item, events, claim_events, REQUEST)
