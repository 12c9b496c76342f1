# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Why a helper pod doesn't start: sentences made of what the API server has on record. Nothing is asked here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ._api_errors import last_warning, quoted, server_says
from ._errors import ClaimTaken, ClusterError, HelperPodError, NoRoom, NotFound, UsageError
from ._helper_spec import RESTRICTED, HelperRequest

Object = Mapping[str, Any]

# Waiting won't help: the kubelet goes on trying, but with the same image name, secret or user.
_HOPELESS = {
    "ImagePullBackOff": "its image {image} can't be pulled: check the name, and image_pull_secrets",
    "InvalidImageName": "its image {image} isn't an image name: check image",
    "ErrImageNeverPull": "its image {image} isn't on the node and may not be pulled: load it there",
    "CreateContainerConfigError": "its container can't be set up: check run_as_user and the image's own user",
    "CreateContainerError": "its container can't be made: check that the image has sh",
    "RunContainerError": "its container can't be started: check that the image has sh",
}
_PULLING = ("ImagePullBackOff", "ErrImagePull")
_MEMORY = "its limit of memory is too low for it: raise limits in resources"
_TELLING = (
    "FailedMount",
    "FailedAttachVolume",
    "FailedScheduling",
    "FailedCreatePodSandBox",
    "Failed",
    "Evicted",
)


def unusable_claim(claim: Object, request: HelperRequest) -> HelperPodError | None:
    """Why a claim can't be mounted by any pod, found before one is made."""
    subject = f"Claim {request.namespace}/{request.claim}"
    if claim["metadata"].get("deletionTimestamp"):
        return HelperPodError(f"{subject} is being deleted, and no new pod can mount it: name another claim.")
    if claim["spec"].get("volumeMode") == "Block":
        return HelperPodError(
            f"{subject} is a raw block device (volumeMode: Block), which has no files: name a claim with a file system."
        )
    if (claim.get("status") or {}).get("phase") == "Lost":
        return HelperPodError(f"{subject} has lost its volume: restore the volume, or name another claim.")
    return None


def user_in_the_way(claim: Object, users: Sequence[Object], request: HelperRequest) -> ClaimTaken | None:
    """Why the pods that mount the claim now keep a further one from it (ReadWriteOncePod)."""
    if "ReadWriteOncePod" not in (claim["spec"].get("accessModes") or []) or not users:
        return None
    return ClaimTaken(
        f"Claim {request.namespace}/{request.claim} allows one pod only (ReadWriteOncePod), and pod "
        f"{users[0]['metadata']['name']} has it: name that pod as the endpoint, or stop it."
    )


def refused_creation(error: ClusterError, request: HelperRequest) -> ClusterError | UsageError:
    """What to do about an admission plugin's refusal to create the pod. Other errors stay as they are."""
    text = error.said
    says = quoted({"message": text})
    subject = f"A helper pod for claim {request.claim} may not be made in namespace {request.namespace}"
    if "violates PodSecurity" in text or "security context constraint" in text:
        advice = (
            "give run_as_user, a service_account with the right, or another namespace"
            if request.pod_security == RESTRICTED
            else "set pod_security to restricted, and run_as_user to the owner of the files"
        )
        return HelperPodError(f"{subject} under its Pod Security rules: {advice}{says}.")
    if re.search(r"exceeded quota.*requested: [^ ]*pods=", text):
        return NoRoom(f"{subject} under its quota of pods: raise it, or end a pod there{says}.")
    if re.search(r"exceeded quota|must specify|(maximum|minimum) (cpu|memory|ephemeral-storage)", text):
        return HelperPodError(f"{subject} under its quota or limits: set resources{says}.")
    if re.search(r"no PriorityClass with name", text):
        return NotFound(
            f"Priority class {request.priority_class} doesn't exist in the cluster: check priority_class."
        )
    if re.search(r'serviceaccounts? ("[^"]*" )?not found|service account .* not found', text, re.IGNORECASE):
        return NotFound(
            f"Service account {request.service_account or 'default'} doesn't exist in namespace "
            f"{request.namespace}: check service_account."
        )
    if "quantities must match" in text:
        return UsageError(f"{subject} with these resources: write quantities such as 500m or 64Mi{says}.")
    if " is invalid: " in text:
        return UsageError(f"{subject} as it was asked for: check the options for the pod{says}.")
    return error


def hopeless(pod: Object, request: HelperRequest) -> HelperPodError | None:
    """Why it is no use to wait for the pod any longer; None while it may still start."""
    status = pod.get("status") or {}
    subject = f"Helper pod {request.namespace}/{request.name}"
    for waiting in _waiting(status):
        reason = str(waiting.get("reason") or "")
        if reason in _HOPELESS:
            words = _MEMORY if _lacks_memory(waiting) else _HOPELESS[reason].format(image=request.image)
            return HelperPodError(f"{subject} doesn't start: {words}{quoted(dict(waiting))}.")
    if status.get("phase") in {"Failed", "Succeeded"}:
        words = server_says(dict(status)) or _ending(status)
        if "OOMKilled" in words:
            return HelperPodError(f"{subject} ended before it was ready: {_MEMORY}.")
        return HelperPodError(
            f"{subject} ended before it was ready: {words}; try again, or give a longer lifetime."
        )
    return None


def _waiting(status: Object) -> list[Object]:
    """What containers wait for, by a pod's status."""
    states = [each.get("state") or {} for each in status.get("containerStatuses") or []]
    return [state["waiting"] for state in states if state.get("waiting")]


def _lacks_memory(told: Object) -> bool:
    return "OOM-killed" in server_says(dict(told))


def diagnosis(
    pod: Object, events: Sequence[Object], claim_events: Sequence[Object], unbound: HelperRequest
) -> str:
    """Why the pod isn't ready, for the message when the time is over.

    `unbound` is the request for that of its claims which may have no volume, `claim_events` what is said of it.
    """
    conditions = {each.get("type"): each for each in (pod.get("status") or {}).get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    last = next((each for each in reversed(events) if each.get("reason") in _TELLING), {})
    said = server_says(dict(last))
    if scheduled.get("status") == "False":
        text = server_says(dict(scheduled))
        return _unscheduled(text, claim_events, unbound)
    if pulling := [each for each in _waiting(pod.get("status") or {}) if each.get("reason") in _PULLING]:
        return _HOPELESS[_PULLING[0]].format(image=unbound.image) + quoted(dict(pulling[0]))
    if _lacks_memory(last):
        return f"{_MEMORY}{quoted(dict(last))}"
    if "Multi-Attach" in said:
        return f"its volume is still attached to another node: stop the pod that uses it there{quoted(dict(last))}"
    if last.get("reason") in {"FailedMount", "FailedAttachVolume"}:
        return f"its volume can't be mounted: check the storage behind the claim{quoted(dict(last))}"
    if said:
        return f"it is still starting: check its node{quoted(dict(last))}"
    return "it is still starting, and there is no event that tells why: check its node, or give more wait_timeout"


def _unscheduled(text: str, claim_events: Sequence[Object], request: HelperRequest) -> str:
    if re.search(
        r"unbound|persistentvolumeclaim .* not (bound|found)|persistent volumes to bind", text, re.IGNORECASE
    ):
        says = quoted(last_warning(claim_events) or {"message": text})
        return f"claim {request.namespace}/{request.claim} isn't bound to a volume: check its storage class{says}"
    return f"no node takes it: check node_selector, tolerations and resources{quoted({'message': text})}"


def _ending(status: Object) -> str:
    for container in status.get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended:
            return f"its container ended with {ended.get('reason') or 'exit status'} {ended.get('exitCode')}"
    return "no reason is on record"
