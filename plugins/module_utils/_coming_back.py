# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Whether the pods of a workload could be made anew, once it is stopped: the API server is asked to check one.

Pods that run outlive what would refuse them now: a label for Pod Security, limits, a quota that was lowered.
"""

from __future__ import annotations

import re

from ._api_errors import quoted
from ._cluster_api import ClusterApi, Object
from ._errors import ClusterError
from ._quantity import to_bytes
from ._workload_kinds import Workload

_REFUSED = re.compile(
    r"violates PodSecurity|security context constraint|must specify|(maximum|minimum) \S+ usage|"
    r"no PriorityClass with name|service ?accounts? .*not found"
)
_WEBHOOK = re.compile(r"admission webhook .* denied the request")
_QUOTA = re.compile(r"exceeded quota: .*, used: (\S+), limited: (\S+)")


def refusal(cluster: ClusterApi, workload: Workload) -> tuple[bool, str]:
    """Whether one of its pods is refused for sure, and what to say of it, as a piece of a sentence.

    That is empty if nothing is known to be in the way, or if it can't be asked. A webhook may judge by who asks.
    """
    try:
        cluster.create_pod(str(workload.item["metadata"]["namespace"]), _pod(workload), dry_run=True)
    except ClusterError as exc:
        sure = bool(_REFUSED.search(exc.said)) or _is_over(exc.said)
        says = quoted({"message": exc.said})
        if sure:
            return sure, (
                f"The pods of {workload.title} would not come back once they are stopped, as they may not be made any "
                f"more: mend its template or the rules of the namespace, or copy without quiescing{says}"
            )
        if _WEBHOOK.search(exc.said):
            return sure, f"the pods of {workload.title} may not come back once they are stopped{says}"
    return False, ""


def _is_over(text: str) -> bool:
    """Whether a quota has less than what is used: what a pod that is stopped has of it, it can have again."""
    found = _QUOTA.search(text)
    if not found:
        return False
    used, limited = (dict(each.split("=", 1) for each in part.split(",")) for part in found.groups())
    return any(to_bytes(used[name]) > to_bytes(most) for name, most in limited.items() if name in used)


def _pod(workload: Workload) -> Object:
    """A pod as its controller would make it, with a name of its own."""
    item, kind = workload.item, workload.kind
    template = kind.template(item)
    metadata = template.get("metadata") or {}
    owner = {
        "apiVersion": kind.group or "v1",
        "kind": kind.name,
        "name": workload.name,
        "uid": item["metadata"]["uid"],
        "controller": True,
    }
    spec = dict(template.get("spec") or {})
    claims = [each["metadata"]["name"] for each in item["spec"].get("volumeClaimTemplates") or []]
    spec["volumes"] = [
        *(spec.get("volumes") or []),
        *(
            {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{workload.name}-0"}}
            for name in claims
        ),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{workload.name[:240]}-kubeferry",
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": [owner],
        },
        "spec": spec,
    }
