# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What stopping a DaemonSet leaves in its history: a revision that `kubectl rollout undo` would go back to."""

from __future__ import annotations

from collections.abc import Sequence

from ._cluster_api import ClusterApi, Object
from ._errors import ClusterError
from ._rest import Request
from ._workload_kinds import QUIESCED, Workload, controller_of

_APPS = "apps/v1"


def forget_stopped(cluster: ClusterApi, namespace: str, workloads: Sequence[Workload]) -> None:
    """Remove the revisions in which those that were brought back are stopped. Where that isn't allowed, they stay."""
    sets = [each for each in workloads if each.kind.name == "DaemonSet"]
    if not sets:
        return
    try:
        revisions = cluster.list_objects(Request("list", "controllerrevisions", namespace, group=_APPS))
        for each in sets:
            now = cluster.call(Request("get", each.kind.resource, namespace, each.name, group=_APPS))
            if each.kind.is_stopped(now):
                continue
            for revision in revisions:
                if _is_stopped(revision) and _belongs(revision, now):
                    name = str(revision["metadata"]["name"])
                    cluster.call(Request("delete", "controllerrevisions", namespace, name, group=_APPS))
    except ClusterError:
        return


def _is_stopped(revision: Object) -> bool:
    """Whether the template that a revision holds has the node selector that stops."""
    template = ((revision.get("data") or {}).get("spec") or {}).get("template") or {}
    return QUIESCED in ((template.get("spec") or {}).get("nodeSelector") or {})


def _belongs(revision: Object, owner: Object) -> bool:
    reference = controller_of(revision)
    return reference is not None and bool(reference["uid"] == owner["metadata"]["uid"])
