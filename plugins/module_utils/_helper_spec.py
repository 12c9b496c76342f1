# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What a helper pod looks like: a request in, the dictionary to create out. Nothing is asked of a cluster here."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ._endpoint_args import DEFAULT_IMAGE, DEFAULT_LIFETIME
from ._errors import UsageError

MANAGED_BY = "app.kubernetes.io/managed-by"
RUN = "kubeferry.io/run"
CLAIM = "kubeferry.io/claim"
EXPIRES = "kubeferry.io/expires"
SPEC = "kubeferry.io/spec"
OURS = f"{MANAGED_BY}=kubeferry"

CONTAINER = "helper"
BASELINE = "baseline"
RESTRICTED = "restricted"

# Process 1 gets no signal that it doesn't handle: without the trap each removal would take the whole grace
# period. `wait` returns at once when a trapped signal comes, `sleep` in the foreground would not.
_COMMAND = ("sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done")

# What root needs to read any file and to give one its owner, mode, set-id bits, capabilities or device
# numbers. Pod Security "baseline" allows all six; CAP_DAC_READ_SEARCH, which would do for reading, it doesn't.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")

SCHEDULING = (
    "service_account",
    "image_pull_secrets",
    "node_selector",
    "tolerations",
    "resources",
    "priority_class",
    "supplemental_groups",
)
"""What a request says of its pod besides what runs in it, by the names of its fields and of the options."""

_RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_LENGTH = 63

# The API server drops any other key without a word.
_RESOURCES = frozenset({"requests", "limits", "claims"})
_TOLERATION = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})

# Where an image has its programs, or the runtime what they need.
_HIDING = re.compile(r"/|(/usr)?/(s?bin|lib[^/]*)|/usr|/etc|/(proc|sys|dev)(/.*)?")


@dataclass(frozen=True)
class Further:
    """One more claim of the same namespace for a helper pod, and where it goes."""

    claim: str
    path: str = ""
    read_only: bool = False

    @property
    def mount_path(self) -> str:
        return self.path or f"/mnt/{self.claim}"


@dataclass(frozen=True)
class HelperRequest:
    """A claim to mount, and how. `lifetime` is in seconds."""

    namespace: str
    claim: str
    run_id: str
    path: str = ""
    image: str = DEFAULT_IMAGE
    read_only: bool = False
    lifetime: int = DEFAULT_LIFETIME
    pod_security: str = BASELINE
    run_as_user: int | None = None
    run_as_group: int | None = None
    service_account: str = ""
    image_pull_secrets: Sequence[str] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    priority_class: str = ""
    supplemental_groups: Sequence[int] = ()
    also: Sequence[Further] = ()

    def __post_init__(self) -> None:
        check_run_id(self.run_id)
        paths = [self.mount_path, *(each.mount_path for each in self.also)]
        for path in paths:
            if not path.startswith("/") or ":" in path:
                raise UsageError(
                    f"path {path!r} can't be a mount point: give an absolute path without a colon."
                )
            if _HIDING.fullmatch(_plain(path)):
                raise UsageError(
                    f"path {path!r} can't be a mount point, as it hides what the pod needs to run: give another one, "
                    f"such as /mnt/{self.claim}."
                )
        if len({*map(_plain, paths)}) < len(paths):
            raise UsageError(
                f"Two claims can't be mounted at {self.mount_path}: give each a path of its own."
            )
        if not self.image:
            raise UsageError("image is empty: give it, or leave it out.")
        if unknown := sorted(self.resources.keys() - _RESOURCES):
            raise UsageError(
                f"resources has no {' and '.join(map(repr, unknown))}: give requests, limits or claims."
            )
        if unknown := sorted({key for each in self.tolerations for key in each} - _TOLERATION):
            raise UsageError(
                f"A toleration has no {' and '.join(map(repr, unknown))}: give key, operator, value, effect or "
                "tolerationSeconds in tolerations."
            )
        if self.lifetime < 1:
            raise UsageError(
                f"lifetime {self.lifetime} is no time to live: give a number of seconds above 0."
            )

    @classmethod
    def of_endpoint(
        cls, endpoint: Mapping[str, Any], *, read_only: bool = False, also: Sequence[Further] = ()
    ) -> HelperRequest:
        """The pod of a new run for an endpoint's claim, and for those in `also`."""
        given = {
            key: endpoint[key]
            for key in ("image", "lifetime", "pod_security", "run_as_user", "run_as_group", *SCHEDULING)
            if endpoint.get(key) is not None
        }
        return cls(
            namespace=endpoint["namespace"],
            claim=endpoint["pvc"],
            run_id=new_run_id(),
            read_only=read_only,
            also=also,
            **given,
        )

    @property
    def mount_path(self) -> str:
        return self.path or f"/mnt/{self.claim}"

    def each(self) -> list[HelperRequest]:
        """A request for each of the claims alone."""
        others = {each.claim for each in self.also} - {self.claim}
        return [replace(self, claim=claim, path="", also=()) for claim in (self.claim, *sorted(others))]

    @property
    def name(self) -> str:
        """The pod's name: a DNS label, the same for the same run and claim."""
        run = self.run_id if len(self.run_id) <= 12 else _digest(self.run_id, 10)
        return f"kubeferry-{as_label(self.claim, _LABEL_LENGTH - len('kubeferry--') - len(run))}-{run}"


def check_run_id(run_id: str) -> None:
    """Raises UsageError for what can't be the label of a run's pods."""
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"run_id {run_id!r} can't be a label: use up to 63 small letters, digits and dashes."
        )


def new_run_id() -> str:
    """A run id that no other run has."""
    return secrets.token_hex(5)


@dataclass(frozen=True)
class Placement:
    """Where a helper pod has to go and what it takes to get in there, as the cluster says. Empty: anywhere, as anybody.

    `node` is the node that has the volume, `tolerations` what gets a pod onto it, `user` and `group` those that the
    namespace sets aside for its pods (OpenShift). The ids are for a pod that isn't told which to have.
    """

    node: str = ""
    tolerations: Sequence[Mapping[str, Any]] = ()
    user: int | None = None
    group: int | None = None


ANYWHERE = Placement()


def helper_pod(request: HelperRequest, now: datetime, place: Placement = ANYWHERE) -> dict[str, Any]:
    """The pod for `request`, to be scheduled to `place`."""
    spec = _spec(request)
    digest = _digest(json.dumps(spec, sort_keys=True, default=str), 16)
    _put(spec, request, place)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": request.name,
            "namespace": request.namespace,
            "labels": {
                MANAGED_BY: "kubeferry",
                RUN: request.run_id,
                CLAIM: as_label(request.claim, _LABEL_LENGTH),
            },
            "annotations": {
                CLAIM: request.claim,
                EXPIRES: (now + timedelta(seconds=request.lifetime))
                .astimezone(UTC)
                .isoformat(timespec="seconds"),
                # Tells whether a pod that is there already is the one that is asked for.
                SPEC: digest,
            },
        },
        "spec": spec,
    }


def is_helper(pod: Mapping[str, Any]) -> bool:
    """Whether it is a pod that this collection made."""
    return bool(((pod.get("metadata") or {}).get("labels") or {}).get(MANAGED_BY) == "kubeferry")


def has_expired(pod: Mapping[str, Any], now: datetime) -> bool:
    """Whether a helper pod's time is over, or it has ended: nobody needs it any more."""
    if (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}:
        return True
    text = ((pod.get("metadata") or {}).get("annotations") or {}).get(EXPIRES, "")
    try:
        expires = datetime.fromisoformat(text)
    except ValueError:
        return False
    return expires.tzinfo is not None and expires < now


def _plain(path: str) -> str:
    """An absolute path without what makes no difference to it; `normpath` alone keeps two slashes at the start."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _spec(request: HelperRequest) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "activeDeadlineSeconds": request.lifetime,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 2,
        # A helper pod has no business with the API server, nor with the namespace's services.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [
            {
                "name": CONTAINER,
                "image": request.image,
                "imagePullPolicy": "IfNotPresent",
                "command": list(_COMMAND),
                "securityContext": _container_security(request),
                "volumeMounts": _mounts(request),
            }
        ],
        "volumes": [
            {"name": name, "persistentVolumeClaim": {"claimName": claim}}
            for claim, name in _volumes(request).items()
        ],
        # Never an fsGroup: it would change the very owners and modes that are to be kept; a supplemental group lets the
        # pod read the same files and changes none. Where OpenShift puts an fsGroup in nevertheless, this policy limits
        # the damage to volumes whose root doesn't match it.
        "securityContext": {"fsGroupChangePolicy": "OnRootMismatch"},
    }
    if request.resources:
        spec["containers"][0]["resources"] = dict(request.resources)
    if request.service_account:
        spec["serviceAccountName"] = request.service_account
    if request.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in request.image_pull_secrets]
    if request.node_selector:
        spec["nodeSelector"] = dict(request.node_selector)
    if request.tolerations:
        spec["tolerations"] = [dict(each) for each in request.tolerations]
    if request.priority_class:
        spec["priorityClassName"] = request.priority_class
    if request.supplemental_groups:
        spec["securityContext"]["supplementalGroups"] = list(request.supplemental_groups)
    return spec


def _volumes(request: HelperRequest) -> dict[str, str]:
    """The name of each claim's volume in the pod. A claim that is mounted twice is one volume."""
    further = [each.claim for each in request.also if each.claim != request.claim]
    others = {claim: f"claim-{number}" for number, claim in enumerate(dict.fromkeys(further), 2)}
    return {request.claim: "claim", **others}


def _mounts(request: HelperRequest) -> list[dict[str, Any]]:
    volumes = _volumes(request)
    claims: list[HelperRequest | Further] = [request, *request.also]
    return [
        {"name": volumes[each.claim], "mountPath": each.mount_path, "readOnly": each.read_only}
        for each in claims
    ]


def _put(spec: dict[str, Any], request: HelperRequest, place: Placement) -> None:
    """Add to a pod's `spec` what its place asks for; what the request says itself stays."""
    if place.node:
        spec["affinity"] = _onto(place.node)
    given = spec.get("tolerations") or []
    if more := [dict(each) for each in place.tolerations if dict(each) not in given]:
        spec["tolerations"] = [*given, *more]
    if place.user is not None and request.run_as_user is None:
        spec["containers"][0]["securityContext"]["runAsUser"] = place.user
    if place.group is not None and not request.supplemental_groups:
        spec["securityContext"]["supplementalGroups"] = [place.group]


def _container_security(request: HelperRequest) -> dict[str, Any]:
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if request.pod_security == RESTRICTED:
        context["runAsNonRoot"] = True
    else:
        context["runAsUser"] = 0
        context["capabilities"]["add"] = list(_CAPABILITIES)
    if request.run_as_user is not None:
        context["runAsUser"] = request.run_as_user
    if request.run_as_group is not None:
        context["runAsGroup"] = request.run_as_group
    return context


def _onto(node: str) -> dict[str, Any]:
    """Affinity for one node. `spec.nodeName` would bypass the scheduler, and its look at volumes with it."""
    match = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"nodeSelectorTerms": [match]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def as_label(name: str, length: int) -> str:
    """`name` as a DNS label of at most `length` characters; what had to be changed ends in a digest."""
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")
    if plain == name and len(plain) <= length:
        return plain
    tail = _digest(name, 6)
    return f"{plain[: length - len(tail) - 1].rstrip('-')}-{tail}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
