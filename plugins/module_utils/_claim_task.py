# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_claim`: a claim made, or found as it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._cluster import connect
from ._cluster_api import ClusterApi
from ._errors import ClusterError, Conflict, NotFound, UsageError
from ._interrupt import interruptible
from ._new_claim import NewClaim, refused_claim, unfit
from ._rest import Request


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_claim`. Raises KubeferryError's children."""
    endpoint = params["claim"]
    if not endpoint.get("pvc"):
        raise UsageError("claim.pvc is missing: name the claim to make.")
    new = NewClaim(
        endpoint["namespace"],
        endpoint["pvc"],
        params["storage_class"] or "",
        params["access_modes"],
        params["size"],
    )
    with interruptible():
        cluster = connect(params, endpoint)
        there = find(cluster, new.namespace, new.name)
        if there is None:
            create(cluster, new, dry_run=check_mode)
        elif error := unfit(there, new):
            raise error
    return {"changed": there is None, "warnings": cluster.warnings}


def find(cluster: ClusterApi, namespace: str, name: str) -> dict[str, Any] | None:
    """The claim; None if it doesn't exist. Raises NotFound if its namespace doesn't."""
    try:
        return cluster.get_claim(namespace, name)
    except NotFound:
        cluster.check_namespace(namespace)
        return None


def create(cluster: ClusterApi, new: NewClaim, *, dry_run: bool) -> None:
    """Make the claim, or have the server say whether it would. Raises ClusterError with what to do."""
    query = {"dryRun": "All"} if dry_run else {}
    try:
        cluster.call(Request("create", "persistentvolumeclaims", new.namespace, new.name, query, new.body()))
    except Conflict:
        return  # another run was quicker; the copy itself says if it isn't fit
    except ClusterError as exc:
        raise refused_claim(exc, new) from None
