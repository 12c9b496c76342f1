# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What would come of copying one claim to its counterpart: asked of both clusters, and nothing changed in either.

Whatever the server can judge itself (quota, limits, Pod Security, names) it is asked to, with requests that it checks
and drops (`dryRun`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ._claim_task import create, find
from ._claims import phase_of, source_of, users_of
from ._cluster_api import ClusterApi, Object
from ._coming_back import refusal
from ._errors import BusyError, ClusterError, Forbidden, KubeferryError, NoRoom
from ._helper_diagnosis import refused_creation, unusable_claim
from ._helper_pod import others_at_work
from ._helper_spec import HelperRequest, helper_pod, is_helper
from ._new_claim import NO_PROVISIONER, NewClaim, class_of, class_problem, mixed, origin_of, unfit
from ._nodes import cordoned_nodes
from ._placement import placement, tolerated
from ._quantity import readable, to_bytes
from ._quiesce import Quiescer
from ._rest import Request


@dataclass
class PairPlan:
    """`problems` keep the pair from being copied; `notes` are good to know. Each is a piece of a sentence.

    `warnings` are whole ones, and about more than the pair.

    `tolerations` are those of what is stopped, `creates` is what a claim that would be made asks of its namespace,
    `quotas` what is left there. `origin` is the claim to copy from, as it is marked on the one that is copied to.
    `capacity` and `room` are the bytes of the volumes of the two.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    workloads: list[dict[str, str]] = field(default_factory=list)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    creates: dict[str, Any] = field(default_factory=dict)
    quotas: list[dict[str, Any]] = field(default_factory=list)
    capacity: int = 0
    room: int = 0
    origin: str = ""

    def measured(self, size: int) -> None:
        """Add what is to be said of a source whose files have `size` bytes.

        Where they are more than its own volume can hold, volumes there aren't kept to their sizes.
        """
        if self.room < size <= self.capacity:
            self.problems.append(
                f"The claim to copy to has {readable(self.room)}, and the files of the source have {readable(size)}: "
                "give it more"
            )

    def trying(self, work: Callable[[], None]) -> None:
        """Do `work`; what it raises is a problem."""
        try:
            work()
        except KubeferryError as exc:
            said = str(exc).rstrip(".")
            if said not in self.problems:
                self.problems.append(said)


@dataclass(frozen=True)
class Side:
    """One end: its cluster, and the helper pod that would be made there."""

    cluster: ClusterApi
    request: HelperRequest

    @property
    def title(self) -> str:
        return f"{self.request.namespace}/{self.request.claim}"

    def claim(self) -> Object | None:
        return find(self.cluster, self.request.namespace, self.request.claim)

    def try_helper_pod(self, claim: Object, users: list[Object]) -> None:
        """Raises what the server has against the pod."""
        request = self.request
        place = placement(claim, users, self.cluster.get_namespace(request.namespace), request)
        try:
            body = helper_pod(request, datetime.now(UTC), place)
            self.cluster.create_pod(request.namespace, body, dry_run=True)
        except ClusterError as exc:
            raise refused_creation(exc, request) from None

    def users(self) -> list[Object]:
        return users_of(self.cluster.list_pods(self.request.namespace), self.request.claim)


def plan_source(plan: PairPlan, side: Side, *, quiesce: bool) -> None:
    """Add what is to be said of the claim to copy from."""
    claim = side.claim()
    subject = f"Claim {side.title}"
    if claim is None:
        plan.problems.append(f"{subject} doesn't exist: check the namespace and the name")
        return
    plan.capacity = source_of(claim).size
    plan.origin = origin_of(claim)
    if error := unusable_claim(claim, side.request):
        plan.problems.append(str(error).rstrip("."))
        return
    if phase_of(claim) != "Bound":
        plan.problems.append(f"{subject} isn't bound to a volume, so there is nothing to copy")
        return
    users = side.users()
    if quiesce:
        plan.trying(lambda: _add_workloads(plan, side))
        _add_cordoned(plan, side.cluster, claim)
    elif users and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or []):
        name = users[0]["metadata"]["name"]
        plan.problems.append(
            f"{subject} allows one pod only (ReadWriteOncePod), and pod {name} has it: quiesce it"
        )
    elif users:
        names = ", ".join(str(pod["metadata"]["name"]) for pod in users[:3])
        plan.notes.append(f"is in use by {names} while it is copied")
    plan.trying(lambda: _try_helper_pod(plan, side, claim, users))


def plan_target(plan: PairPlan, side: Side, new: NewClaim | None, *, into_used: bool) -> None:
    """Add what is to be said of the claim to copy to. `new` is given where it may be made.

    `into_used` tells whether others than helper pods may have it mounted.
    """
    subject = f"Claim {side.title}"
    claim = side.claim()
    if claim is None:
        if new is None:
            plan.problems.append(f"{subject} doesn't exist: make it, or set create")
            return
        _plan_new(plan, side.cluster, new)
    else:
        _plan_existing(plan, side, claim, new)
        _plan_users(plan, side, claim, into_used=into_used)
    plan.trying(lambda: _try_helper_pod(plan, side, claim or (new.body() if new else {}), []))


def plan_pair(plan: PairPlan, source: Side, target: Side, chained: Side | None) -> None:
    """Add what keeps the two from being a pair. `chained` is a claim to copy from that has the target's names.

    The claims are compared by their uids, as one cluster may have several addresses.
    """
    if source.title == target.title and _is_one(source, target):
        plan.problems.append(f"Claim {source.title} would be copied to itself: give its rule another target")
    if chained and _is_one(chained, target):
        plan.problems.append(
            f"Claim {target.title} would get the files of {source.title} and is itself copied from: change the rules, "
            "so that no claim is both"
        )


def _is_one(one: Side, other: Side) -> bool:
    found, there = one.claim(), other.claim()
    return bool(found and there and found["metadata"]["uid"] == there["metadata"]["uid"])


def _try_helper_pod(plan: PairPlan, side: Side, claim: Object, users: list[Object]) -> None:
    """That helper pods for other claims leave no room is no problem: they go when they are done."""
    try:
        side.try_helper_pod(claim, users)
    except NoRoom:
        if not others_at_work(side.cluster, side.request):
            raise
        namespace = side.request.namespace
        plan.notes.append(
            f"waits for helper pods of other claims, which use up the quota of pods of {namespace}"
        )


def _plan_existing(plan: PairPlan, side: Side, claim: Object, new: NewClaim | None) -> None:
    subject = f"Claim {side.title}"
    if error := unusable_claim(claim, side.request) or (new and unfit(claim, new)):
        plan.problems.append(str(error).rstrip("."))
    if error := mixed(claim, plan.origin):
        plan.problems.append(str(error).rstrip("."))
    modes = {*(claim["spec"].get("accessModes") or [])}
    if modes == {"ReadOnlyMany"}:
        plan.problems.append(f"{subject} can't be written to (ReadOnlyMany): choose another access mode")
    if phase_of(claim) == "Pending":
        plan.notes.append(f"{side.request.claim} isn't bound yet")
    plan.room = source_of(claim).size
    _note_room(plan, side.request.claim)


def _plan_users(plan: PairPlan, side: Side, claim: Object, *, into_used: bool) -> None:
    subject = f"Claim {side.title}"
    users = side.users()
    others = [pod for pod in users if not is_helper(pod)]
    names = ", ".join(str(pod["metadata"]["name"]) for pod in others[:3])
    if users and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or []):
        name = users[0]["metadata"]["name"]
        plan.problems.append(f"{subject} allows one pod only, and pod {name} has it: stop it")
    elif others and not into_used:
        plan.problems.append(
            f"{subject} is in use by pod {names}, and what was written there would be replaced: stop what uses it, or "
            "set into_used (migrate_into_used of the role migrate) to go on all the same"
        )
    elif others:
        plan.notes.append(f"{side.title} is mounted by pod {names}, which may see files that aren't whole")


def _note_room(plan: PairPlan, name: str) -> None:
    if plan.room < plan.capacity:
        plan.notes.append(f"{name} is smaller than the source")


def _plan_new(plan: PairPlan, cluster: ClusterApi, new: NewClaim) -> None:
    plan.room = to_bytes(new.size)
    _note_room(plan, new.name)
    plan.creates = {
        "namespace": new.namespace,
        "storage_class": new.storage_class,
        "bytes": plan.room,
        "server": cluster.server,
    }
    try:
        classes = cluster.storage_classes()
    except Forbidden:
        plan.notes.append("whether the storage class exists can't be looked at")
    else:
        if problem := class_problem(new, classes):
            plan.problems.append(problem)
        found = class_of(new.storage_class, classes) or {}
        if found.get("provisioner") == NO_PROVISIONER:
            plan.notes.append("its storage class makes no volumes: a free one must be there")
    plan.trying(lambda: create(cluster, new, dry_run=True))
    try:
        quotas = cluster.list_objects(Request("list", "resourcequotas", new.namespace))
    except Forbidden:
        return
    plan.quotas = _left(quotas)


def _left(quotas: list[Object]) -> list[dict[str, Any]]:
    """What each quota leaves of the things that claims count against."""
    found = []
    for quota in quotas:
        status = quota.get("status") or {}
        for resource, hard in (status.get("hard") or {}).items():
            if resource.endswith(("requests.storage", "persistentvolumeclaims")):
                used = (status.get("used") or {}).get(resource, "0")
                left = to_bytes(str(hard)) - to_bytes(str(used))
                found.append({"quota": quota["metadata"]["name"], "resource": resource, "left": left})
    return found


def _add_workloads(plan: PairPlan, side: Side) -> None:
    quiescer = Quiescer(side.cluster, side.request.namespace)
    try:
        found = quiescer.find(side.request.claim)
    except Forbidden as exc:
        raise BusyError(f"What uses the claim can't be looked at: {exc}") from None
    plan.workloads = [{"kind": each.kind.name, "name": each.name} for each in found]
    plan.tolerations = tolerated([each.kind.pod_spec(each.item) for each in found])
    plan.warnings = quiescer.warnings
    for each in found:
        if each.kind.is_stopped(each.item):
            continue
        sure, said = refusal(side.cluster, each)
        if said:
            (plan.problems if sure else plan.notes).append(said)


def _add_cordoned(plan: PairPlan, cluster: ClusterApi, claim: Object) -> None:
    """Say that what is stopped can't come back for now; nothing where nodes and volumes may not be looked at."""
    if plan.workloads and (names := cordoned_nodes(cluster, [claim])):
        plan.notes.append(
            f"its volume is on {' and '.join(names)} alone, which is cordoned: what is stopped can't come back there "
            "before that is undone"
        )
