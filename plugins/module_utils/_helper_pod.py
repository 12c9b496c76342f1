# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Helper pods: made for a claim, waited for, found again, removed. What they are is in `_helper_spec`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from ._claims import users_of
from ._cluster_api import ClusterApi, Object
from ._errors import ClusterError, HelperPodError, KubeferryError, NoRoom, NotFound
from ._helper_diagnosis import diagnosis, hopeless, refused_creation, unusable_claim, user_in_the_way
from ._helper_spec import (
    CONTAINER,
    OURS,
    RESTRICTED,
    RUN,
    SPEC,
    HelperRequest,
    Placement,
    has_expired,
    helper_pod,
)
from ._nodes import cordoned_nodes
from ._placement import (
    CORDONED,
    is_kept_off_cordoned,
    lie_apart,
    needs_cordoned_node,
    placement,
    together,
)
from ._pod_state import is_ready

_PAUSE = 0.25
_LONGEST_PAUSE = 1.0

# A quota takes some time to know that a pod is gone.
_QUOTA_LAG = 5.0

REMOVE_SECONDS = 60.0
"""How long it is waited until a pod that was told to end is gone, unless the user gives more."""


@dataclass
class Mounted:
    """A helper pod that is ready. `changed` tells whether it had to be made."""

    namespace: str
    pod: str
    container: str
    path: str
    node: str
    run_id: str
    changed: bool
    volume: dict[str, Any] = field(default_factory=dict)


class HelperPods:
    """Makes and removes helper pods in one cluster."""

    def __init__(self, cluster: ClusterApi, sleep: Callable[[float], None] = time.sleep) -> None:
        self._cluster = cluster
        self._sleep = sleep

    def ensure(self, request: HelperRequest, wait_seconds: float) -> Mounted:
        """A ready helper pod for `request`: the one that is there, or a new one.

        Whatever goes wrong, the pod is removed again. Raises HelperPodError with the diagnosis when it
        doesn't become ready, NoRoom, NotFound, Forbidden and the other errors of a request.
        """
        deadline = time.monotonic() + wait_seconds
        claims = self._claims(request)
        changed = False
        try:
            if not self._find(request, deadline):
                changed = True
                self._make(request, claims, deadline)
            pod = self._wait(request, claims, deadline)
        except BaseException:
            self._discard(request)
            raise
        return _mounted(request, pod, claims[0], changed=changed)

    def foresee(self, request: HelperRequest) -> Mounted:
        """What `ensure` would do, found out without doing it: the server checks the new pod and drops it."""
        claims = self._claims(request)
        there = self._get(request)
        if there and is_ready(there) and _is_wanted(there, request):
            return _mounted(request, there, claims[0], changed=False)
        pod = {} if there else self._create(request, claims, dry_run=True)
        return _mounted(request, pod, claims[0], changed=True)

    def remove(self, namespace: str, run_id: str, wait_seconds: float) -> list[str]:
        """Remove all helper pods of a run in `namespace`, and wait until they are gone; their names."""
        deadline = time.monotonic() + wait_seconds
        pods = self._of_run(namespace, run_id)
        for pod in pods:
            self._delete(pod)
        for pod in pods:
            self._gone(pod, deadline)
        return [str(pod["metadata"]["name"]) for pod in pods]

    def abandon(self, namespace: str, run_id: str) -> None:
        """Tell all helper pods of a run to end, without waiting for it."""
        for pod in self._of_run(namespace, run_id):
            self._delete(pod)

    def of_run(self, namespace: str, run_id: str) -> list[str]:
        """The names of a run's helper pods."""
        return [str(pod["metadata"]["name"]) for pod in self._of_run(namespace, run_id)]

    def any_of_run(self, namespace: str, run_id: str) -> bool:
        """Whether the run has a helper pod that hasn't been told to end."""
        return any(not pod["metadata"].get("deletionTimestamp") for pod in self._of_run(namespace, run_id))

    def expired(self, namespace: str) -> list[str]:
        """The helper pods, of any run, that have ended or whose time is over."""
        return [str(pod["metadata"]["name"]) for pod in self._expired(namespace)]

    def reap(self, namespace: str) -> list[str]:
        """Remove what :meth:`expired` finds: the remains of runs that were killed. Their names."""
        pods = self._expired(namespace)
        for pod in pods:
            self._delete(pod)
        return [str(pod["metadata"]["name"]) for pod in pods]

    def _claims(self, request: HelperRequest) -> list[Object]:
        """The claims to mount, the first one first."""
        claims = []
        for each in request.each():
            try:
                claim = self._cluster.get_claim(each.namespace, each.claim)
            except NotFound:
                self._cluster.check_namespace(each.namespace)
                raise
            error = unusable_claim(claim, each)
            if error:
                raise error
            claims.append(claim)
        return claims

    def _of_run(self, namespace: str, run_id: str) -> list[Object]:
        return self._cluster.list_pods(namespace, labels=f"{OURS},{RUN}={run_id}")

    def _expired(self, namespace: str) -> list[Object]:
        now = datetime.now(UTC)
        return [pod for pod in self._cluster.list_pods(namespace, labels=OURS) if has_expired(pod, now)]

    def _get(self, request: HelperRequest) -> Object | None:
        try:
            return self._cluster.get_pod(request.namespace, request.name)
        except NotFound:
            return None

    def _find(self, request: HelperRequest, deadline: float) -> bool:
        """Whether the pod that is asked for is there; one that differs, or is on its way out, is cleared away."""
        pod = self._get(request)
        if pod is None:
            return False
        labels = pod["metadata"].get("labels") or {}
        if labels.get(RUN) != request.run_id:
            raise HelperPodError(
                f"Pod {request.namespace}/{request.name} is in the way and isn't ours: remove it, or give a run_id."
            )
        leaving = pod["metadata"].get("deletionTimestamp") or has_expired(pod, datetime.now(UTC))
        if not leaving and _is_wanted(pod, request):
            return True
        self._delete(pod)
        self._gone(pod, deadline)
        return False

    def _make(
        self, request: HelperRequest, claims: Sequence[Object], deadline: float, *, cordoned: bool = False
    ) -> None:
        """Create the pod; where helper pods of other runs use up a quota of pods, as soon as one of them is gone."""
        pause = _PAUSE
        patience = time.monotonic() + _QUOTA_LAG
        while True:
            try:
                self._create(request, claims, dry_run=False, cordoned=cordoned)
                return
            except NoRoom as exc:
                now = time.monotonic()
                if others_at_work(self._cluster, request):
                    patience = now + _QUOTA_LAG
                    if now >= deadline:
                        raise NoRoom(
                            f"{exc} Helper pods for other claims were there to the last: copy fewer claims at a time "
                            "(--forks), or give more wait_timeout."
                        ) from None
                elif now >= min(patience, deadline):
                    raise
            self._sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _create(
        self, request: HelperRequest, claims: Sequence[Object], *, dry_run: bool, cordoned: bool = False
    ) -> Object:
        self._cluster.require_pod_removal(request.namespace, request.name)
        place = self._place(request, claims)
        if cordoned:
            place = replace(place, tolerations=[*place.tolerations, CORDONED])
        body = helper_pod(request, datetime.now(UTC), place)
        try:
            return self._cluster.create_pod(request.namespace, body, dry_run=dry_run)
        except ClusterError as exc:
            raise refused_creation(exc, request) from None

    def _place(self, request: HelperRequest, claims: Sequence[Object]) -> Placement:
        """Where the pods that use the claims now let a further one go."""
        pods = self._cluster.list_pods(request.namespace)
        namespace = self._cluster.get_namespace(request.namespace) if _asks_for_ids(request) else {}
        places = []
        for claim, each in zip(claims, request.each(), strict=True):
            users = users_of(pods, each.claim)
            error = user_in_the_way(claim, users, each)
            if error:
                raise error
            places.append(placement(claim, users, namespace, each))
        place = together(places)
        if place is None:
            raise _apart(request)
        return place

    def _wait(self, request: HelperRequest, claims: Sequence[Object], deadline: float) -> Object:
        pause = _PAUSE
        # A volume that can't go elsewhere is what one may want to carry away from a node that is cordoned. A claim
        # that has none yet would get a new one there.
        elsewhere = all(claim["spec"].get("volumeName") for claim in claims)
        alone = cache(lambda: bool(cordoned_nodes(self._cluster, claims)))
        while True:
            pod = self._cluster.get_pod(request.namespace, request.name)
            if is_ready(pod):
                return pod
            error = hopeless(pod, request)
            if error:
                raise error
            if elsewhere and (needs_cordoned_node(pod) or (is_kept_off_cordoned(pod) and alone())):
                elsewhere = False
                self._delete(pod)
                self._gone(pod, deadline)
                self._make(request, claims, deadline, cordoned=True)
            if request.also and lie_apart(pod):
                raise _apart(request)
            if time.monotonic() >= deadline:
                subject = f"Helper pod {request.namespace}/{request.name}"
                raise HelperPodError(f"{subject} wasn't ready in time: {self._diagnose(pod, request)}.")
            self._sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _diagnose(self, pod: Object, request: HelperRequest) -> str:
        events = self._cluster.events_of(
            request.namespace, "Pod", request.name, str(pod["metadata"].get("uid", ""))
        )
        unbound = self._unbound(request)
        claim_events = self._cluster.events_of(unbound.namespace, "PersistentVolumeClaim", unbound.claim)
        return diagnosis(pod, events, claim_events, unbound)

    def _unbound(self, request: HelperRequest) -> HelperRequest:
        """The request for the first of the claims that has no volume; for the first of all if they have one."""
        claims = request.each()
        for each in claims:
            with suppress(KubeferryError):
                claim = self._cluster.get_claim(each.namespace, each.claim)
                if (claim.get("status") or {}).get("phase") == "Pending":
                    return each
        return claims[0]

    def _delete(self, pod: Object) -> None:
        metadata = pod["metadata"]
        self._cluster.delete_pod(metadata["namespace"], metadata["name"], uid=str(metadata.get("uid", "")))

    def _gone(self, pod: Object, deadline: float) -> None:
        metadata = pod["metadata"]
        pause = _PAUSE
        while True:
            try:
                now = self._cluster.get_pod(metadata["namespace"], metadata["name"])
            except NotFound:
                return
            if now["metadata"].get("uid") != metadata.get("uid"):
                return
            if time.monotonic() >= deadline:
                raise HelperPodError(
                    f"Helper pod {metadata['namespace']}/{metadata['name']} was told to end but is still there: "
                    "check its node; it can't be removed while the node is away."
                )
            self._sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _discard(self, request: HelperRequest) -> None:
        """Remove the pod without waiting and without hiding the error that led here."""
        try:
            pod = self._get(request)
            if pod and (pod["metadata"].get("labels") or {}).get(RUN) == request.run_id:
                self._delete(pod)
        except KubeferryError:
            return  # its deadline ends it, and the next run reaps it


def others_at_work(cluster: ClusterApi, request: HelperRequest) -> bool:
    """Whether the namespace has helper pods of other runs, which make room when they are done."""
    pods = cluster.list_pods(request.namespace, labels=OURS)
    return any(pod["metadata"]["labels"].get(RUN) != request.run_id for pod in pods)


def _apart(request: HelperRequest) -> HelperPodError:
    names = " and ".join(each.claim for each in request.each())
    return HelperPodError(
        f"Claims {names} of namespace {request.namespace} can't be in one pod, since no node can have both: mount each "
        "in a pod of its own."
    )


def _asks_for_ids(request: HelperRequest) -> bool:
    return request.pod_security == RESTRICTED and (
        request.run_as_user is None or not request.supplemental_groups
    )


def _is_wanted(pod: Object, request: HelperRequest) -> bool:
    wanted = helper_pod(request, datetime.now(UTC))["metadata"]["annotations"][SPEC]
    return bool((pod["metadata"].get("annotations") or {}).get(SPEC) == wanted)


def _mounted(request: HelperRequest, pod: Object, claim: Object, *, changed: bool) -> Mounted:
    spec = claim["spec"]
    return Mounted(
        namespace=request.namespace,
        pod=request.name,
        container=CONTAINER,
        path=request.mount_path,
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        run_id=request.run_id,
        changed=changed,
        volume={
            "name": spec.get("volumeName") or "",
            "access_modes": list(spec.get("accessModes") or []),
            "storage_class": spec.get("storageClassName") or "",
            "capacity": ((claim.get("status") or {}).get("capacity") or {}).get("storage", ""),
        },
    )
