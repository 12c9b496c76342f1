# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_plan`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import _mount
from ._cluster import Cluster, connect
from ._errors import ClaimTaken, ClusterError, ProtocolError, UsageError
from ._helper_spec import HelperRequest
from ._interrupt import interruptible
from ._new_claim import NewClaim
from ._pair_plan import PairPlan, Side, plan_pair, plan_source, plan_target
from ._route_plan import plan_route
from ._runner import output

# The size of each file, how many names it has, and which file it is; what a file isn't costs next to nothing.
_SIZES = 'cd "$1" && find . -path ./.kubeferry -prune -o -type f -exec stat -c "%s %h %d:%i" {} +'

_SIZE = re.compile(rb"(\d{1,19}) (\d{1,10}) (\d{1,20}:\d{1,20})")


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_plan`. Raises KubeferryError's children."""
    for option in ("source", "target"):
        if not params[option].get("pvc"):
            raise UsageError(f"{option}.pvc is missing: a plan is for claims.")
    if params["create"] and not (params["size"] and params["access_modes"]):
        raise UsageError("create needs size and access_modes: give both.")
    source, target = params["source"], params["target"]
    plan = PairPlan()
    with interruptible():
        here, there = connect(params, source), connect(params, target)
        one, other = (
            Side(here, HelperRequest.of_endpoint(source)),
            Side(there, HelperRequest.of_endpoint(target)),
        )
        plan_source(plan, one, quiesce=params["quiesce"])
        plan.trying(lambda: plan_pair(plan, one, other, _chained(params)))
        plan.trying(lambda: plan_target(plan, other, _new(params, target), into_used=params["into_used"]))
        plan.trying(lambda: plan_route(plan, one, other, params["route"]))
        measured = _measure(here, source, plan) if params["measure"] else {}
    if "bytes" in measured:
        plan.measured(measured["bytes"])
    problems = "; ".join(plan.problems)
    told = {"msg": f"Claim {one.title} can't be copied to {other.title}: {problems}."} if problems else {}
    return {
        **told,
        "changed": False,
        "source": one.title,
        "target": other.title,
        "possible": not plan.problems,
        "problems": plan.problems,
        "notes": plan.notes,
        "workloads": plan.workloads,
        "capacity": plan.capacity,
        "origin": plan.origin,
        "creates": plan.creates,
        "quotas": plan.quotas,
        **measured,
        "warnings": [*dict.fromkeys([*here.warnings, *there.warnings, *plan.warnings])],
    }


def _measure(cluster: Cluster, endpoint: Mapping[str, Any], plan: PairPlan) -> dict[str, int]:
    """Files and bytes that the source holds now; nothing if it can't be mounted.

    That a pod has it which is going to be stopped is no problem.
    """
    if plan.problems:
        return {}
    try:
        tolerations = [*(endpoint.get("tolerations") or []), *plan.tolerations]
        tolerant = {**endpoint, "tolerations": tolerations}
        with _mount.borrowed(cluster, tolerant, cluster.warnings, read_only=True) as pod:
            runner = cluster.runner(pod.namespace, pod.pod, pod.container)
            _status, printed, _said = output(runner, ["sh", "-c", _SIZES, "sh", pod.path])
    except ClusterError as exc:
        said = str(exc).rstrip(".")
        if isinstance(exc, ClaimTaken) and plan.workloads:
            plan.notes.append(f"could not be measured: {said}")
        else:
            plan.problems.append(said)
        return {}
    return _totals(printed)


def _totals(printed: bytes) -> dict[str, int]:
    """Files and their bytes, each once, however many names it has."""
    lines = printed.splitlines()
    files = [found.groups() for line in lines if (found := _SIZE.fullmatch(line))]
    if len(files) != len(lines):
        raise ProtocolError("The source can't be measured: its stat prints what can't be; check the image.")
    linked = {which: int(size) for size, names, which in files if names != b"1"}
    alone = [int(size) for size, names, _which in files if names == b"1"]
    return {"files": len(alone) + len(linked), "bytes": sum(alone) + sum(linked.values())}


def _chained(params: Mapping[str, Any]) -> Side | None:
    chained = params["chained"]
    if not chained:
        return None
    return Side(connect(params, chained), HelperRequest.of_endpoint(chained))


def _new(params: Mapping[str, Any], target: Mapping[str, Any]) -> NewClaim | None:
    if not params["create"]:
        return None
    return NewClaim(
        target["namespace"],
        target["pvc"],
        params["storage_class"] or "",
        params["access_modes"],
        params["size"],
    )
