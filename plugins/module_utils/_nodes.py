# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Which nodes can have a volume, by its node affinity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._cluster_api import ClusterApi, Object
from ._errors import ClusterError
from ._rest import Request


def cordoned_nodes(cluster: ClusterApi, claims: Sequence[Object]) -> list[str]:
    """What `cordoned_alone` says of the volumes of bound claims; nothing where volumes or nodes may not be read."""
    return cordoned_alone(*_read(cluster, claims))


def lie_on_no_node(cluster: ClusterApi, claims: Sequence[Object]) -> bool:
    """Whether no node can have the volumes of all these bound claims, where volumes and nodes may be read."""
    volumes, nodes = _read(cluster, claims)
    return bool(nodes) and not _fit(volumes, nodes)


def cordoned_alone(volumes: Sequence[Object], nodes: Sequence[Object]) -> list[str]:
    """The names of the nodes that can have all of some volumes, if each of them is cordoned; else nothing.

    Volumes that any node can have say nothing.
    """
    fit = _fit(volumes, nodes)
    if not any(map(_terms, volumes)) or not all(
        (node.get("spec") or {}).get("unschedulable") for node in fit
    ):
        return []
    return sorted(str(node["metadata"]["name"]) for node in fit)


def _read(cluster: ClusterApi, claims: Sequence[Object]) -> tuple[list[Object], list[Object]]:
    """The volumes of bound claims and all nodes; nothing where they may not be read."""
    requests = [
        Request("get", "persistentvolumes", name=str(each["spec"].get("volumeName"))) for each in claims
    ]
    try:
        return [cluster.call(request) for request in requests], cluster.list_objects(Request("list", "nodes"))
    except ClusterError:
        return [], []


def _fit(volumes: Sequence[Object], nodes: Sequence[Object]) -> list[Object]:
    """The nodes that can have all of some volumes."""
    wanted = [terms for terms in map(_terms, volumes) if terms]
    return [node for node in nodes if all(any(_fits(node, term) for term in terms) for terms in wanted)]


def _terms(volume: Object) -> Sequence[Object]:
    affinity = (volume.get("spec") or {}).get("nodeAffinity") or {}
    return (affinity.get("required") or {}).get("nodeSelectorTerms") or []


def _fits(node: Object, term: Object) -> bool:
    """Whether a node meets all requirements of a term; one without any fits nothing."""
    metadata = node["metadata"]
    by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    return bool(by_label or by_field) and all(
        _meets(values, each)
        for values, requirements in (
            (metadata.get("labels") or {}, by_label),
            ({"metadata.name": metadata["name"]}, by_field),
        )
        for each in requirements
    )


def _meets(values: Mapping[str, str], requirement: Object) -> bool:
    value, wanted = values.get(requirement["key"]), requirement.get("values") or []
    match requirement["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return True  # Gt and Lt, which no provisioner is known to use
