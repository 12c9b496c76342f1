# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_lease`: a lease that outlives the task and ends with ansible-playbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import _guard
from ._claim_task import require
from ._cluster import Cluster, connect
from ._errors import ClusterError, UsageError
from ._helper_pod import REMOVE_SECONDS, HelperPods
from ._interrupt import interruptible
from ._lease import LONGEST_LOOK, Hold, Leases, Taken

# A playbook that runs longer than this has its leases expire.
_LONGEST_RUN = 14 * 24 * 3600.0


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_lease`. Raises KubeferryError's children."""
    claim = params["claim"]
    if not claim.get("pvc"):
        raise UsageError("claim.pvc is missing: name the claim.")
    if not (params["run_id"] or "").strip():
        raise UsageError("run_id is empty: give each run one of its own, as nobody would have the lease.")
    hold = Hold(claim["namespace"], claim["pvc"], params["run_id"], params["duration"])
    with interruptible():
        cluster = connect(params, claim)
        leases = Leases(cluster)
        if params["state"] == "present" and params["must_exist"]:
            require(cluster, hold.namespace, hold.claim)
        if params["state"] == "absent":
            result = _absent(cluster, leases, hold, check_mode=check_mode)
        elif params["state"] == "held":
            leases.check(hold)
            result = {"changed": False}
        elif check_mode:
            changed = leases.held_by(hold) != hold.holder
            result = {"changed": changed, "taken_from": "", "removed": [], "guarded": False}
        else:
            result = _present(cluster, leases, hold, params)
    return {
        **result,
        "namespace": hold.namespace,
        "lease": hold.name,
        "run_id": hold.holder,
        "warnings": cluster.warnings,
    }


def _present(cluster: Cluster, leases: Leases, hold: Hold, params: Mapping[str, Any]) -> dict[str, Any]:
    watch = _guard.Watch(
        name=_name(cluster, hold),
        seconds=_LONGEST_RUN,
        left=lambda: leases.renew(hold),
        abandon=lambda: _release(leases, hold),
        detach=cluster.forget_connections,
        # client-go renews at about a third of the time as well: two attempts may fail.
        every=min(hold.seconds, LONGEST_LOOK) / 3,
    )
    taken = leases.take(hold, params["wait_timeout"])
    removed = _bury(cluster, hold.namespace, taken.from_holder)
    try:
        guarded = _guard.start(watch)
        # The guard renews it out of sight: that it isn't allowed to has to show here. What nobody renews is valid as
        # long as the work may take.
        leases.renew(hold if guarded else replace(hold, seconds=params["lifetime"]))
    except BaseException:
        leases.release(hold)
        raise
    return {**_facts(taken), "removed": removed, "guarded": guarded}


def _bury(cluster: Cluster, namespace: str, run_id: str) -> list[str]:
    """Remove the helper pods of a run that has let its lease expire: nobody else will before their time is over."""
    if not run_id:
        return []
    try:
        return HelperPods(cluster).remove(namespace, run_id, REMOVE_SECONDS)
    except ClusterError as exc:
        cluster.warnings.append(f"Helper pods of run {run_id}, which is dead, may be left: {exc}")
        return []


def _absent(cluster: Cluster, leases: Leases, hold: Hold, *, check_mode: bool) -> dict[str, Any]:
    if check_mode:
        return {"changed": leases.held_by(hold) == hold.holder}
    released = leases.release(hold)
    _guard.notify(_name(cluster, hold))
    return {"changed": released}


def _release(leases: Leases, hold: Hold) -> None:
    leases.release(hold)


def _facts(taken: Taken) -> dict[str, Any]:
    return {"changed": taken.changed, "taken_from": taken.from_holder}


def _name(cluster: Cluster, hold: Hold) -> str:
    return f"{cluster.server} lease {hold.namespace}/{hold.name} {hold.holder}"
