# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_quiesce`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import _guard
from ._claim_task import require
from ._cluster import Cluster, connect
from ._errors import ClusterError, Forbidden, UsageError
from ._interrupt import interruptible
from ._lease import Hold, Leases
from ._placement import tolerated
from ._quiesce import Quiescer
from ._revisions import forget_stopped
from ._running_again import left_stopped, not_running
from ._workload_kinds import Workload

# What ends a playbook that runs longer than this brings nothing back; the next run does.
_LONGEST_RUN = 14 * 24 * 3600.0


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_quiesce`. Raises KubeferryError's children."""
    endpoint = params["claim"]
    claim = endpoint.get("pvc") or ""
    if params["state"] != "restored" and not claim:
        raise UsageError("claim.pvc is missing: name the claim whose users are to be stopped.")
    runs = _runs(params)
    away: list[str] = []
    with interruptible():
        cluster = connect(params, endpoint)
        quiescer = Quiescer(cluster, endpoint["namespace"], check=_guard.find_controller)
        if params["state"] == "quiesced":
            require(cluster, endpoint["namespace"], claim)
            if check_mode:
                found = quiescer.find(claim)
                changed = not all(each.is_stopped_for(claim) for each in found)
                result = {"changed": changed, "guarded": False, "tolerations": _tolerated(found)}
            else:
                found, result = _quiesced(cluster, quiescer, params)
        elif params["state"] == "held":
            quiescer.check_stopped(claim)
            found, result = [], {"changed": False, "guarded": False}
        else:
            if not check_mode:
                quiescer.record_again(claim, runs[:1], params["stopped"] or [])
            if params["state"] == "kept":
                found = quiescer.stopped(claim, runs[:1]) if check_mode else quiescer.keep(claim, runs[0])
            else:
                work = quiescer.stopped if check_mode else quiescer.restore
                found = work(claim, runs, leased=_has_lease(cluster, params))
            if not check_mode and claim:
                _guard.notify(_name(cluster, params))
            result = {"changed": bool(found), "guarded": False}
            if params["state"] == "restored" and not check_mode:
                forget_stopped(cluster, endpoint["namespace"], found)
                away = not_running(cluster, endpoint["namespace"], found)
                result["not_running"] = away
                result["left"] = _left(quiescer, claim, everywhere=not params["run_id"])
    return {**result, "workloads": _told(found), "warnings": [*cluster.warnings, *quiescer.warnings, *away]}


def _runs(params: Mapping[str, Any]) -> list[str]:
    """The run that this task is of, if it is of one, and the dead one that it takes the place of."""
    return [run for run in (params["run_id"], params["taken_from"]) if run]


def _has_lease(cluster: Cluster, params: Mapping[str, Any]) -> bool:
    """Whether the run that this task is of has the claim's lease, as far as it may be looked at."""
    claim = params["claim"]
    if not params["run_id"] or not claim.get("pvc"):
        return False
    hold = Hold(claim["namespace"], claim["pvc"], params["run_id"])
    try:
        return Leases(cluster).held_by(hold) == hold.holder
    except Forbidden:
        return False


def _quiesced(
    cluster: Cluster, quiescer: Quiescer, params: Mapping[str, Any]
) -> tuple[list[Workload], dict[str, Any]]:
    claim = params["claim"]["pvc"]
    runs = _runs(params)
    own = runs[:1]
    watch = _guard.Watch(
        name=_name(cluster, params),
        seconds=_LONGEST_RUN,
        left=lambda: bool(quiescer.stopped(claim, own)),
        abandon=lambda: _restore(quiescer, claim, own),
        detach=cluster.forget_connections,
    )
    # The guard is there first, as ansible-playbook may be killed while this waits for the pods' end. It may be that of
    # an earlier task, which looks once a minute whether there is something to bring back: so it is started again.
    guarded = _guard.start(watch)
    try:
        leased = _has_lease(cluster, params)
        stopped = quiescer.quiesce(claim, params["wait_timeout"], runs, leased=leased)
        tolerations = _tolerated(quiescer.stopped(claim, runs))  # an earlier run may have stopped some
        if guarded:
            _guard.start(watch)
    except BaseException:
        quiescer.restore(claim, own)
        _guard.notify(watch.name)
        raise
    return stopped, {"changed": bool(stopped), "guarded": guarded, "tolerations": tolerations}


def _left(quiescer: Quiescer, claim: str, *, everywhere: bool) -> list[dict[str, str]]:
    """What stays stopped for other claims: in the whole namespace, or of what mounts the claim."""
    try:
        found = quiescer.stopped()
    except ClusterError as exc:
        quiescer.warnings.append(
            f"Whether anything stays stopped for other claims couldn't be looked at: {exc}"
        )
        return []
    return left_stopped([each for each in found if everywhere or each.kind.mounts(each.item, claim)], claim)


def _restore(quiescer: Quiescer, claim: str, runs: Sequence[str]) -> None:
    quiescer.restore(claim, runs)


def _tolerated(found: Sequence[Workload]) -> list[dict[str, Any]]:
    return tolerated([each.kind.pod_spec(each.item) for each in found])


def _told(found: Sequence[Workload]) -> list[dict[str, Any]]:
    return [{"kind": each.kind.name, "name": each.name, "was": each.was} for each in found]


def _name(cluster: Cluster, params: Mapping[str, Any]) -> str:
    claim = params["claim"]
    return f"{cluster.server} quiesced {claim['namespace']}/{claim['pvc']} {params['run_id'] or ''}"
