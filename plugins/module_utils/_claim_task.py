# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_claim`: a claim made, or found as it is wanted, and marked with whose files it gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._cluster import Cluster, connect
from ._cluster_api import ClusterApi, Object
from ._errors import ClusterError, Conflict, Forbidden, NotFound, UsageError
from ._interrupt import interruptible
from ._new_claim import NewClaim, mark_of, marked, mixed, refused_claim, unfit
from ._rest import Request


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_claim`. Raises KubeferryError's children."""
    endpoint = params["claim"]
    if not endpoint.get("pvc"):
        raise UsageError("claim.pvc is missing: name the claim to copy to.")
    with interruptible():
        return _run(connect(params, endpoint), params, check_mode=check_mode)


def _run(cluster: Cluster, params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    namespace, name, origin = params["claim"]["namespace"], params["claim"]["pvc"], params["origin"] or ""
    new = None
    if params["create"]:
        modes, size = params["access_modes"], params["size"]
        new = NewClaim(namespace, name, params["storage_class"] or "", modes, size, origin)
    there = find(cluster, namespace, name)
    if there is not None:
        if error := (new and unfit(there, new)) or mixed(there, origin):
            raise error
        mark = bool(origin) and mark_of(there) != origin
        changed = mark and _mark(cluster, there, origin, dry_run=check_mode)
    elif new:
        create(cluster, new, dry_run=check_mode)
        changed = True
    else:
        raise NotFound(f"Claim {namespace}/{name} doesn't exist: make it, or set create.")
    return {"changed": changed, "warnings": cluster.warnings}


def _mark(cluster: ClusterApi, there: Object, origin: str, *, dry_run: bool) -> bool:
    """Note whose files the claim gets; False for who may not."""
    metadata = there["metadata"]
    query = {"dryRun": "All"} if dry_run else {}
    body = {"metadata": marked(origin)}
    try:
        cluster.call(
            Request("patch", "persistentvolumeclaims", metadata["namespace"], metadata["name"], query, body)
        )
    except Forbidden:
        return False
    return True


def find(cluster: ClusterApi, namespace: str, name: str) -> dict[str, Any] | None:
    """The claim; None if it doesn't exist. Raises NotFound if its namespace doesn't."""
    try:
        return cluster.get_claim(namespace, name)
    except NotFound:
        cluster.check_namespace(namespace)
        return None


def require(cluster: ClusterApi, namespace: str, name: str) -> None:
    """Raises NotFound if the claim or its namespace doesn't exist. Who may not look isn't told."""
    try:
        there = find(cluster, namespace, name)
    except Forbidden:
        return
    if there is None:
        raise NotFound(f"Claim {namespace}/{name} doesn't exist: check the namespace and the name.")


def create(cluster: ClusterApi, new: NewClaim, *, dry_run: bool) -> None:
    """Make the claim, or have the server say whether it would. Raises ClusterError with what to do."""
    query = {"dryRun": "All"} if dry_run else {}
    try:
        cluster.call(Request("create", "persistentvolumeclaims", new.namespace, new.name, query, new.body()))
    except Conflict:
        return  # another run was quicker; the copy itself says if it isn't fit
    except ClusterError as exc:
        raise refused_claim(exc, new) from None
