# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_quiesce`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import _guard
from ._cluster import Cluster, connect
from ._errors import UsageError
from ._interrupt import interruptible
from ._placement import tolerated
from ._quiesce import Quiescer
from ._workload_kinds import Workload

# What ends a playbook that runs longer than this brings nothing back; the next run does.
_LONGEST_RUN = 14 * 24 * 3600.0


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_quiesce`. Raises KubeferryError's children."""
    endpoint = params["claim"]
    namespace, claim = endpoint["namespace"], endpoint.get("pvc") or ""
    if params["state"] == "quiesced" and not claim:
        raise UsageError("claim.pvc is missing: name the claim whose users are to be stopped.")
    cluster = connect(params, endpoint)
    quiescer = Quiescer(cluster, namespace)
    with interruptible():
        if params["state"] == "restored":
            found = quiescer.stopped(claim) if check_mode else quiescer.restore(claim)
            if not check_mode and claim:
                _guard.notify(_name(cluster, namespace, claim))
            result: dict[str, Any] = {"changed": bool(found), "guarded": False}
        elif check_mode:
            found = quiescer.find(claim)
            changed = any(claim not in each.claims for each in found)
            result = {"changed": changed, "guarded": False, "tolerations": _tolerated(found)}
        else:
            found, result = _quiesced(cluster, quiescer, params)
    return {**result, "workloads": _told(found), "warnings": cluster.warnings}


def _quiesced(
    cluster: Cluster, quiescer: Quiescer, params: Mapping[str, Any]
) -> tuple[list[Workload], dict[str, Any]]:
    namespace, claim = params["claim"]["namespace"], params["claim"]["pvc"]
    watch = _guard.Watch(
        name=_name(cluster, namespace, claim),
        seconds=_LONGEST_RUN,
        left=lambda: bool(quiescer.stopped(claim)),
        abandon=lambda: _restore(quiescer, claim),
        detach=cluster.forget_connections,
    )
    # The guard is there first, as ansible-playbook may be killed while this waits for the pods' end. It looks once a
    # minute whether there is something to bring back, so it has to be started again if that took longer.
    cluster.read_certificates()
    guarded = not params["keep"] and _guard.start(watch)
    try:
        stopped = quiescer.quiesce(claim, params["wait_timeout"])
        tolerations = _tolerated(quiescer.stopped(claim))  # an earlier run may have stopped some
    except BaseException:
        quiescer.restore(claim)
        _guard.notify(watch.name)
        raise
    if guarded:
        _guard.start(watch)
    return stopped, {"changed": bool(stopped), "guarded": guarded, "tolerations": tolerations}


def _restore(quiescer: Quiescer, claim: str) -> None:
    quiescer.restore(claim)


def _tolerated(found: Sequence[Workload]) -> list[dict[str, Any]]:
    return tolerated([each.kind.template(each.item) for each in found])


def _told(found: Sequence[Workload]) -> list[dict[str, Any]]:
    return [
        {
            "kind": each.kind.name,
            "name": each.name,
            "was": each.record.get("was") or each.kind.state(each.item),
        }
        for each in found
    ]


def _name(cluster: Cluster, namespace: str, claim: str) -> str:
    return f"{cluster.server} quiesced {namespace}/{claim}"
