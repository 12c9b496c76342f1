# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What of a plan is about the route: whether the one that is asked for can be taken, and whether its pods have room."""

from __future__ import annotations

from ._errors import Forbidden, NoRoom, route_closed
from ._helper_spec import OURS
from ._nodes import lie_on_no_node
from ._pair_plan import PairPlan, Side
from ._quantity import to_bytes
from ._rest import Request

ROUTES = ("staging", "stream", "direct", "mount", "auto")
_QUOTAS = {"pods", "count/pods"}


def plan_route(plan: PairPlan, source: Side, target: Side, route: str) -> None:
    """Raises what keeps the files from going by `route`. `plan` has the workloads that are stopped for it."""
    one_cluster = source.cluster.server == target.cluster.server
    one_namespace = one_cluster and source.request.namespace == target.request.namespace
    if route == "mount":
        if not one_namespace:
            raise route_closed(route, "the claims aren't in one namespace of one cluster")
        if _lie_apart(source, target):
            raise route_closed(route, "no node can have the volumes of both claims")
        return
    if route == "direct" and not one_cluster:
        raise route_closed(route, "source and target aren't in one cluster")
    if not one_namespace:
        return
    # One pod will do for a pair that can be mounted in it.
    if (quota := _with_room_for_one(plan, target)) and (route != "auto" or _lie_apart(source, target)):
        raise NoRoom(
            f"The quota of pods of namespace {target.request.namespace} ({quota}) has room for one helper pod, and "
            "source and destination need one each: raise it, or end a pod there."
        )


def _lie_apart(source: Side, target: Side) -> bool:
    claims = [
        claim for claim in (source.claim(), target.claim()) if claim and claim["spec"].get("volumeName")
    ]
    return len(claims) == 2 and lie_on_no_node(target.cluster, claims)


def _with_room_for_one(plan: PairPlan, side: Side) -> str:
    """The quota of pods that has room for one helper pod, and for no other; empty if there is none.

    What is stopped makes room, and so do helper pods of others.
    """
    namespace = side.request.namespace
    try:
        quotas = side.cluster.list_objects(Request("list", "resourcequotas", namespace))
    except Forbidden:
        return ""
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue  # it may be for pods of another kind
        hard, used = status.get("hard") or {}, status.get("used") or {}
        for resource in _QUOTAS & hard.keys():
            left = to_bytes(str(hard[resource]))
            if not plan.workloads:
                passing = len(side.cluster.list_pods(namespace, labels=OURS))
                left -= to_bytes(str(used.get(resource, "0"))) - passing
            if left == 1:
                return str(quota["metadata"]["name"])
    return ""
