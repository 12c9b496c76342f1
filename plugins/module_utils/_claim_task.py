# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_claim`: a claim made, or found as it is wanted, and marked with whose files it gets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ._api_errors import last_warning, quoted
from ._claims import phase_of, source_of
from ._cluster import Cluster, connect
from ._cluster_api import ClusterApi, Object
from ._errors import ClusterError, Conflict, Forbidden, NotFound, UsageError
from ._interrupt import interruptible
from ._new_claim import NewClaim, class_of, mark_of, marked, mixed, refused_claim, unfit
from ._rest import Request

_PAUSE = 0.5


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
    if params["wait_timeout"] > 0 and not check_mode:
        _wait_for_volume(cluster, namespace, name, params["wait_timeout"])
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


def _wait_for_volume(cluster: ClusterApi, namespace: str, name: str, seconds: float) -> None:
    """Wait until a claim is bound to a volume, unless that has to wait for a pod.

    Raises ClusterError when the time is over. Who may not look at the storage classes doesn't wait.
    """
    deadline = time.monotonic() + seconds
    there = cluster.get_claim(namespace, name)
    if phase_of(there) != "Pending" or _waits_for_pod(cluster, there):
        return
    while phase_of(there) == "Pending":
        if time.monotonic() >= deadline:
            events = cluster.events_of(namespace, "PersistentVolumeClaim", name)
            raise ClusterError(
                f"Claim {namespace}/{name} isn't bound to a volume after {seconds:.0f} s: check its storage class, or "
                f"give more wait_timeout (migrate_wait_timeout of the role migrate){quoted(last_warning(events))}."
            )
        time.sleep(_PAUSE)
        there = cluster.get_claim(namespace, name)


def _waits_for_pod(cluster: ClusterApi, claim: Object) -> bool:
    """Whether a claim gets its volume with the first pod, or whether that can't be looked at."""
    try:
        classes = cluster.storage_classes()
    except Forbidden:
        return True
    wanted = source_of(claim).storage_class
    found = (class_of(wanted, classes) if wanted else None) or {}
    return found.get("volumeBindingMode") == "WaitForFirstConsumer"


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
