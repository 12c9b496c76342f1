# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Where a helper pod has to go: read from the claim, the pods that use it, and the namespace. Nothing is asked here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ._helper_spec import RESTRICTED, HelperRequest, Placement

Object = Mapping[str, Any]

# https://docs.redhat.com/en/documentation/openshift_container_platform/: managing security context constraints
UID_RANGE = "openshift.io/sa.scc.uid-range"
GROUPS = "openshift.io/sa.scc.supplemental-groups"

CORDONED = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
"""Lets a pod onto a node that takes no new ones (`kubectl cordon`)."""

# The two ways in which ranges of ids are written: first/count and first-last. Several are separated by commas.
_FIRST = re.compile(r"\s*(\d+)\s*[/-]\s*\d+")
# What the scheduler says: `0/2 nodes are available: 1 node(s) were unschedulable, 1 node(s) had … . preemption: …`
_NO_NODE = re.compile(r"\d+/\d+ nodes are available: (.*?)\.(?: |$)")
_NEXT_REASON = re.compile(r", (?=\d+ )")
_ELSEWHERE = re.compile(r"volume node affinity conflict|PersistentVolume's node affinity")
# It is told before the volume is looked at, so it may be that of a node that can't have the volume anyway.
_TAINTED = re.compile(r"\btaint")
_CORDONED = re.compile(r"were unschedulable|taint.*node\.kubernetes\.io/unschedulable")


def placement(claim: Object, users: Sequence[Object], namespace: Object, request: HelperRequest) -> Placement:
    """The place of a helper pod for `claim`, which the pods `users` have mounted now.

    A pod that joins others at their volume gets what they tolerate too: it has to get to where they are. The node may
    have been cordoned since they came.
    """
    user = group = None
    if request.pod_security == RESTRICTED:
        annotations = (namespace.get("metadata") or {}).get("annotations") or {}
        user = _first(annotations.get(UID_RANGE))
        group = _first(annotations.get(GROUPS))
    neighbour = _neighbour(claim, users)
    if neighbour is None:
        return Placement(user=user, group=group)
    spec = neighbour["spec"]
    return Placement(str(spec["nodeName"]), [*tolerated([spec]), CORDONED], user, group)


def tolerated(specs: Sequence[Object]) -> list[dict[str, Any]]:
    """What pods with these specs tolerate for good, each once."""
    found: list[dict[str, Any]] = []
    for spec in specs:
        for each in spec.get("tolerations") or []:
            if not _is_short(each) and each not in found:
                found.append(dict(each))
    return found


def together(places: Sequence[Placement]) -> Placement | None:
    """The one place for a pod with several claims; None if they are in use on different nodes."""
    nodes = {place.node for place in places} - {""}
    if len(nodes) > 1:
        return None
    tolerations = [each for place in places for each in place.tolerations]
    unique = tuple(each for number, each in enumerate(tolerations) if each not in tolerations[:number])
    return replace(places[0], node="".join(nodes), tolerations=unique)


def unscheduled(pod: Object) -> list[str]:
    """Why no node takes a pod, as far as that is known."""
    for each in (pod.get("status") or {}).get("conditions") or []:
        if each.get("type") == "PodScheduled" and each.get("status") == "False":
            found = _NO_NODE.match(str(each.get("message") or ""))
            return _NEXT_REASON.split(found[1]) if found else []
    return []


def is_kept_off_cordoned(pod: Object) -> bool:
    """Whether a pod waits, and a cordoned node is among those that don't take it."""
    return any(_CORDONED.search(reason) for reason in unscheduled(pod))


def needs_cordoned_node(pod: Object) -> bool:
    """Whether a pod waits for a cordoned node, as all others are tainted or can't have its volume.

    What else keeps others from taking it may pass.
    """
    found = (_CORDONED, _ELSEWHERE, _TAINTED)
    return is_kept_off_cordoned(pod) and all(
        any(each.search(reason) for each in found) for reason in unscheduled(pod)
    )


def lie_apart(pod: Object) -> bool:
    """Whether no node can have all volumes of a pod."""
    reasons = unscheduled(pod)
    return bool(reasons) and all(_ELSEWHERE.search(reason) for reason in reasons)


def _neighbour(claim: Object, users: Sequence[Object]) -> Object | None:
    """The pod to join, as the claim's volume is attached to its node; None if any node will do."""
    if {*(claim["spec"].get("accessModes") or [])} & {"ReadWriteMany", "ReadOnlyMany"}:
        return None
    return next((pod for pod in users if pod["spec"].get("nodeName")), None)


def _is_short(toleration: Object) -> bool:
    """Whether it is one of those that every pod gets, for some minutes on a node that is away."""
    return toleration.get("tolerationSeconds") is not None


def _first(text: object) -> int | None:
    """The first id of a range; None where there is no such annotation, or none that can be read."""
    found = _FIRST.match(str(text or ""))
    return int(found[1]) if found else None
