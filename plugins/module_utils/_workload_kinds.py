# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The kinds of workloads that can be quiesced: how each is stopped, and brought back. Nothing is asked here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._claims import claim_of

Object = Mapping[str, Any]

QUIESCED = "kubeferry.io/quiesced"
"""The annotation that records what a workload was; on a DaemonSet's pods also the label of a node that there isn't."""


# In the status: how many pods there are, and how many of them are of the newest template.
_PODS = {
    "Deployment": ("replicas", "updatedReplicas"),
    "DeploymentConfig": ("replicas", "updatedReplicas"),
    "DaemonSet": ("currentNumberScheduled", "updatedNumberScheduled"),
}
_REVISION = "controller-revision-hash"


@dataclass(frozen=True)
class Kind:
    """A kind of the API, and `by`, the field of its spec that stops it: replicas, suspend or nodeSelector."""

    name: str
    resource: str
    group: str
    by: str
    # Where the kind is missing or may not be looked at, there is none of it.
    optional: bool = False

    @property
    def api(self) -> str:
        """Its API group, without the version."""
        return self.group.partition("/")[0]

    def template(self, item: Object) -> Object:
        """The template of the pods that a workload makes."""
        spec = item.get("spec") or {}
        if self.name == "CronJob":
            spec = (spec.get("jobTemplate") or {}).get("spec") or {}
        return spec.get("template") or {}

    def pod_spec(self, item: Object) -> Object:
        """The spec of the pods that a workload makes."""
        return self.template(item).get("spec") or {}

    def state(self, item: Object) -> dict[str, Any]:
        """What has to be known to bring it back."""
        spec = item["spec"]
        if self.by == "replicas":
            state: dict[str, Any] = {"replicas": spec.get("replicas", 1)}
            if _deletes_claims(item):
                state["whenScaled"] = "Delete"
            return state
        if self.by == "suspend":
            return {"suspend": bool(spec.get("suspend"))}
        return {"nodeSelector": None}

    def is_stopped(self, item: Object) -> bool:
        """Whether its spec asks for no pods."""
        if self.by == "replicas":
            return bool(item["spec"].get("replicas", 1) == 0)
        if self.by == "suspend":
            return bool(item["spec"].get("suspend"))
        selector: Object = self.pod_spec(item).get("nodeSelector") or {}
        return QUIESCED in selector

    def stop(self, item: Object) -> dict[str, Any]:
        """The patch of the spec that ends its pods."""
        if self.by == "replicas":
            patch: dict[str, Any] = {"replicas": 0}
            if _deletes_claims(item):
                # Else scaling down would delete the very claims that are to be copied.
                patch["persistentVolumeClaimRetentionPolicy"] = {"whenScaled": "Retain"}
            return patch
        return {"suspend": True} if self.by == "suspend" else _node_selector("true")

    def back(self, item: Object, was: Mapping[str, Any]) -> dict[str, Any]:
        """The patch of the spec that makes it what it was. Where somebody has started it by hand, that stays."""
        patch: dict[str, Any] = {}
        if self.by == "replicas" and was.get("whenScaled"):
            patch["persistentVolumeClaimRetentionPolicy"] = {"whenScaled": was["whenScaled"]}
        if not self.is_stopped(item):
            return patch
        if self.by == "replicas":
            return {**patch, "replicas": int(was.get("replicas", 1))}
        return {"suspend": bool(was.get("suspend"))} if self.by == "suspend" else _node_selector(None)

    def has_former(self, item: Object, pods: Sequence[Object]) -> bool:
        """Whether some of its pods, which are among `pods`, are of another template than the one it would come back to.

        For a StatefulSet they are looked at: its status counts those that are ending, too.
        """
        status: Object = item.get("status") or {}
        if self.name in _PODS:
            there, current = (int(status.get(count) or 0) for count in _PODS[self.name])
            return current < there
        if self.name != "StatefulSet" or not status.get("updateRevision"):
            return False
        newest = status["updateRevision"]
        labels = [pod["metadata"].get("labels") or {} for pod in pods if _is_pod_of_set(pod, item)]
        return any(each.get(_REVISION, newest) != newest for each in labels)

    def mounts(self, item: Object, claim: str) -> bool:
        """Whether the pods that a workload makes mount the claim."""
        for volume in self.pod_spec(item).get("volumes") or []:
            if claim_of(volume) == claim:
                return True
        for each in item["spec"].get("volumeClaimTemplates") or []:
            name = f"{each['metadata']['name']}-{item['metadata']['name']}"
            if re.fullmatch(rf"{re.escape(name)}-\d+", claim):
                return True
        return False


# In the order in which they are stopped: first what starts others, last what others store their data in.
KINDS = (
    Kind("CronJob", "cronjobs", "batch/v1", "suspend"),
    Kind("Job", "jobs", "batch/v1", "suspend"),
    Kind("Deployment", "deployments", "apps/v1", "replicas"),
    Kind("DeploymentConfig", "deploymentconfigs", "apps.openshift.io/v1", "replicas", optional=True),
    Kind("ReplicaSet", "replicasets", "apps/v1", "replicas"),
    Kind("ReplicationController", "replicationcontrollers", "", "replicas", optional=True),
    Kind("DaemonSet", "daemonsets", "apps/v1", "nodeSelector"),
    Kind("StatefulSet", "statefulsets", "apps/v1", "replicas"),
)


@dataclass(frozen=True)
class Workload:
    """An object of a kind, as it was read."""

    kind: Kind
    item: Object

    @property
    def name(self) -> str:
        return str(self.item["metadata"]["name"])

    @property
    def title(self) -> str:
        return f"{self.kind.name} {self.item['metadata']['namespace']}/{self.name}"

    @property
    def record(self) -> dict[str, Any]:
        """What the annotation holds: `was`, `claims`, for which it was stopped, and `runs` that answer for them.

        `leased` are those of the claims whose leases these runs had. It is empty if it wasn't stopped, or if the
        annotation isn't of that shape: anybody who may change the workload may have written it.
        """
        try:
            record = json.loads((self.item["metadata"].get("annotations") or {}).get(QUIESCED, ""))
        except (ValueError, RecursionError):
            return {}
        return record if _is_record(record) else {}

    @property
    def has_odd_record(self) -> bool:
        """Whether the annotation is there and holds no record."""
        return QUIESCED in (self.item["metadata"].get("annotations") or {}) and not self.record

    @property
    def claims(self) -> list[str]:
        return list(self.record.get("claims", []))

    @property
    def was(self) -> dict[str, Any]:
        """What has to be known to bring it back, now or once it is stopped.

        Where somebody has started it by hand, what is on record is older than that. Only the policy that was changed
        to stop it is still to come back.
        """
        then, now = self.record.get("was", {}), self.kind.state(self.item)
        return {**now, **then} if self.kind.is_stopped(self.item) else {**then, **now}

    def is_stopped_for(self, claim: str) -> bool:
        """Whether it is on record as stopped for a claim, and nobody has started it since."""
        return claim in self.claims and self.kind.is_stopped(self.item)

    def run_of(self, claim: str) -> str:
        """The run that has stopped it for a claim, and is to bring it back; empty where none is."""
        return str(self.record.get("runs", {}).get(claim, ""))

    def leased_run_of(self, claim: str) -> str:
        """The run that has stopped it for a claim whose lease it had then; empty where none is."""
        return self.run_of(claim) if claim in self.record.get("leased", ()) else ""

    def stopped_for(self, claim: str = "", runs: Sequence[str] = ()) -> list[str]:
        """Those of its claims that are `claim`, or any, and were stopped by one of `runs`, or by any."""
        return [
            each
            for each in self.claims
            if (not claim or each == claim) and (not runs or self.run_of(each) in runs)
        ]


def controller_of(item: Object) -> Object | None:
    """The reference to what made an object and looks after it."""
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def has_ended(item: Object) -> bool:
    """Whether a Job has run to its end."""
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(
        each.get("type") in {"Complete", "Failed"} and each.get("status") == "True" for each in conditions
    )


def known(owner: Object) -> bool:
    """Whether a reference is to one of the kinds that can be quiesced. Others may have the same name."""
    return any(each.name == owner.get("kind") and each.api == api_of(owner) for each in KINDS)


def api_of(owner: Object) -> str:
    """The API group of what a reference is to; empty for that of Kubernetes' core."""
    return str(owner.get("apiVersion") or "").rpartition("/")[0]


def on_claim(workloads: Sequence[Workload], claim: str, users: Sequence[Object]) -> list[Workload]:
    """The workloads that have pods with a claim, or are to have some, in order. The pods `users` mount it now.

    What another of them looks after goes with it. In the middle of a rollout, that may mount what the template of its
    owner doesn't mount any more.
    """
    by_name = {(each.kind.name, each.name): each for each in workloads}

    def owner_of(item: Object) -> Workload | None:
        owner = controller_of(item)
        return (
            by_name.get((str(owner.get("kind")), str(owner.get("name")))) if owner and known(owner) else None
        )

    found = [owner_of(pod) for pod in users if not pod["metadata"].get("deletionTimestamp")]
    found += [
        each
        for each in workloads
        # Deployments keep the ReplicaSets of former templates.
        if each.kind.mounts(each.item, claim)
        and (is_to_be_stopped(each) or not each.kind.is_stopped(each.item))
    ]
    wanted = set()
    for each in found:
        top = each
        while top and not is_to_be_stopped(top):
            top = owner_of(top.item)
        if top and not has_ended(top.item):
            wanted.add((top.kind.name, top.name))
    return [each for name, each in by_name.items() if name in wanted]


def stopped_for(workloads: Sequence[Workload], claim: str = "", runs: Sequence[str] = ()) -> list[Workload]:
    """Those that are on record as stopped for a claim, or for any, by one of `runs`, or by any."""
    return [each for each in workloads if each.stopped_for(claim, runs) and is_to_be_stopped(each)]


def is_to_be_stopped(workload: Workload) -> bool:
    """Whether it is stopped and brought back itself, and not by what looks after it.

    A Deployment's annotations are also those of its ReplicaSets, as its controller copies them.
    """
    owner = controller_of(workload.item)
    # A CronJob that is suspended doesn't end the Jobs that it has started.
    return owner is None or not known(owner) or owner.get("kind") == "CronJob"


def _is_record(record: object) -> bool:
    if not isinstance(record, dict) or not _are_texts(record.get("claims")):
        return False
    was, runs = record.get("was", {}), record.get("runs", {})
    return (
        isinstance(was, dict)
        and _is_count(was.get("replicas", 1))
        and isinstance(was.get("whenScaled", ""), str)
        and isinstance(runs, dict)
        and _are_texts([*runs.values()])
        and _are_texts(record.get("leased", []))
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_count(value: Any) -> bool:  # noqa: ANN401
    try:
        return int(value) >= 0
    except (TypeError, ValueError, OverflowError):
        return False


def _is_pod_of_set(pod: Object, item: Object) -> bool:
    """Whether a StatefulSet looks after a pod, which isn't ending."""
    owner = controller_of(pod) or {}
    found = (api_of(owner), owner.get("kind"), owner.get("name"))
    wanted = ("apps", "StatefulSet", item["metadata"]["name"])
    return found == wanted and not pod["metadata"].get("deletionTimestamp")


def _deletes_claims(item: Object) -> bool:
    policy = item["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return bool(policy.get("whenScaled") == "Delete")


def _node_selector(value: str | None) -> dict[str, Any]:
    return {"template": {"spec": {"nodeSelector": {QUIESCED: value}}}}
