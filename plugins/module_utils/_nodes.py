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
    requests = [
        Request("get", "persistentvolumes", name=str(each["spec"].get("volumeName"))) for each in claims
    ]
    try:
        volumes = [cluster.call(request) for request in requests]
        return cordoned_alone(volumes, cluster.list_objects(Request("list", "nodes")))
    except ClusterError:
        return []


def cordoned_alone(volumes: Sequence[Object], nodes: Sequence[Object]) -> list[str]:
    """The names of the nodes that can have all of some volumes, if each of them is cordoned; else nothing.

    Volumes that any node can have say nothing.
    """
    wanted = [terms for terms in map(_terms, volumes) if terms]
    if not wanted:
        return []
    fit = [node for node in nodes if all(any(_fits(node, term) for term in terms) for terms in wanted)]
    if not all((node.get("spec") or {}).get("unschedulable") for node in fit):
        return []
    return sorted(str(node["metadata"]["name"]) for node in fit)


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
