# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Whether workloads that were brought back run again, what keeps them from it, and which stay stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ._api_errors import server_says
from ._cluster_api import ClusterApi, Object
from ._errors import ClusterError, NotFound
from ._placement import is_kept_off_cordoned, unscheduled
from ._pod_state import describe, is_ready
from ._rest import Request
from ._workload_kinds import Workload, has_ended

# Enough for the scheduler, and for most images that are on the node. A run has to wait for it with each claim.
_SECONDS = 20.0
_PAUSE = 1.0


def not_running(
    cluster: ClusterApi,
    namespace: str,
    workloads: Sequence[Workload],
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """A sentence for each of `workloads` that lacks pods, a ready one, or a node for one of them, after a while."""
    deadline = time.monotonic() + _SECONDS
    left = [each for each in workloads if each.kind.name != "CronJob"]
    try:
        while left := _still_away(cluster, namespace, left):
            if time.monotonic() >= deadline:
                pods = cluster.list_pods(namespace)
                return [
                    f"{each.title} isn't running again{_why(cluster, each, _pods_of(each, pods))}."
                    for each in left
                ]
            sleep(_PAUSE)
    except ClusterError as exc:
        return [f"Whether what was brought back runs again couldn't be looked at: {exc}"]
    return []


def left_stopped(workloads: Sequence[Workload], claim: str) -> list[dict[str, str]]:
    """For each of `workloads`, and each claim but `claim` that it is stopped for: that claim, and a sentence, `msg`."""
    return [
        {"claim": f"{each.item['metadata']['namespace']}/{other}", "msg": _stays(each, other)}
        for each in workloads
        if each.kind.is_stopped(each.item)
        for other in each.claims
        if other != claim
    ]


def _stays(workload: Workload, claim: str) -> str:
    run = workload.run_of(claim)
    by = (
        f" by run {run}, which may be at work on it: wait for its end, or, if it has died"
        if run
        else ": to end that"
    )
    return (
        f"{workload.title} stays stopped for claim {claim}{by}, run the playbook kubeferry.pvc.restore for that claim, "
        "or kubeferry.pvc.pvc_quiesce with state restored where no inventory has it."
    )


def _still_away(cluster: ClusterApi, namespace: str, workloads: Sequence[Workload]) -> list[Workload]:
    """Those that don't run yet, as they are now."""
    if not workloads:
        return []
    found = []
    for each in workloads:
        request = Request("get", each.kind.resource, namespace, each.name, group=each.kind.group)
        try:
            found.append(replace(each, item=cluster.call(request)))
        except NotFound:
            continue
    pods = cluster.list_pods(namespace)
    return [each for each in found if _wants_pods(each) and not _runs(each, _pods_of(each, pods))]


def _wants_pods(workload: Workload) -> bool:
    item = workload.item
    if workload.kind.name == "DaemonSet":
        status = item.get("status") or {}
        # Right after it was brought back, its status is that of the time before.
        is_current = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        return not is_current or bool(status.get("desiredNumberScheduled"))
    return not workload.kind.is_stopped(item) and not has_ended(item)


def _pods_of(workload: Workload, pods: Sequence[Object]) -> list[Object]:
    """Its pods, by the labels of its template."""
    template = workload.item["spec"].get("template") or {}
    labels = ((template.get("metadata") or {}).get("labels") or {}).items()
    return [
        pod
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and labels <= (pod["metadata"].get("labels") or {}).items()
    ]


def _wanted(workload: Workload) -> int:
    """How many pods there are to be; 1 where they come one after the other, or it isn't known."""
    item, name = workload.item, workload.kind.name
    if name == "DaemonSet":
        return int((item.get("status") or {}).get("desiredNumberScheduled") or 1)
    if name == "StatefulSet" and item["spec"].get("podManagementPolicy") != "Parallel":
        return 1
    return int(item["spec"].get("replicas", 1))


def _runs(workload: Workload, pods: Sequence[Object]) -> bool:
    done = [pod for pod in pods if is_ready(pod) or (pod.get("status") or {}).get("phase") == "Succeeded"]
    return bool(done) and len(pods) >= _wanted(workload) and not any(unscheduled(pod) for pod in pods)


def _why(cluster: ClusterApi, workload: Workload, pods: Sequence[Object]) -> str:
    """The end of the sentence: what there is may still be on its way, as a volume takes time to be attached."""
    for pod in pods:
        if reasons := unscheduled(pod):
            undo = "; what is stopped can't come back to a cordoned node before that is undone"
            return f": {', '.join(reasons)}{undo if is_kept_off_cordoned(pod) else ''}"
    wanted = _wanted(workload)
    if len(pods) < wanted:
        there = f" with all its pods: there are {len(pods)} of {wanted}" if pods else ": it has no pod"
        return f"{there} after {_SECONDS:.0f} s{_failed_creation(cluster, workload)}"
    return f" yet: pod {pods[0]['metadata']['name']} isn't ready after {_SECONDS:.0f} s ({describe(pods[0])})"


def _failed_creation(cluster: ClusterApi, workload: Workload) -> str:
    """Why pods couldn't be made, in brackets: by its status, or the newest event, as not all kinds have it there."""
    metadata = workload.item["metadata"]
    found = [
        each
        for each in (workload.item.get("status") or {}).get("conditions") or []
        if each.get("type") == "ReplicaFailure" and each.get("status") == "True"
    ]
    if not found:
        events = cluster.events_of(
            metadata["namespace"], workload.kind.name, workload.name, metadata.get("uid", "")
        )
        found = [each for each in events if each.get("reason") == "FailedCreate"][-1:]
    said = server_says(found[0]).rstrip(".") if found else ""
    return f" ({said})" if said else ""
