# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What the API server knows of claims, for choosing among them: pure functions over its objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ._claim_map import Source
from ._errors import UsageError
from ._quantity import to_bytes

Object = Mapping[str, Any]

_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_ENDED = {"Failed", "Succeeded"}


@dataclass(frozen=True)
class Choice:
    """Which claims are wanted. Empty lists take all; sizes are in bytes."""

    names: Sequence[str] = ()
    storage_classes: Sequence[str] = ()
    phases: Sequence[str] = ()
    min_size: int = 0
    max_size: int | None = None

    def takes(self, claim: Object) -> bool:
        """Whether a claim is wanted. One that is named, and not just matched by a pattern, is in any phase."""
        named = claim["metadata"]["name"] in self.names
        return self._matches(claim) and (named or not self.phases or phase_of(claim) in self.phases)

    def passes_over(self, claim: Object) -> bool:
        """Whether a claim would be wanted if it were bound to a volume."""
        return phase_of(claim) != "Bound" and self._matches(claim) and not self.takes(claim)

    def unknown(self, names: Collection[str]) -> list[str]:
        """The wanted names that aren't patterns and that no claim has, where `names` are those that there are."""
        return [name for name in self.names if name not in names and not set(name) & set("*?[")]

    def _matches(self, claim: Object) -> bool:
        """Whether it is wanted in some phase. Names and classes are shell patterns."""
        source = source_of(claim)
        return (
            _matches(source.claim, self.names)
            and _matches(source.storage_class, self.storage_classes)
            and self.min_size <= source.size
            and (self.max_size is None or source.size <= self.max_size)
        )


def choice(options: Mapping[str, Any]) -> Choice:
    """The choice that the inventory's options describe. Raises UsageError for sizes that are none."""
    sizes = {}
    for key in ("min_size", "max_size"):
        try:
            sizes[key] = to_bytes(str(options[key])) if options.get(key) else None
        except UsageError as exc:
            raise UsageError(f"{key}: {exc}") from None
    return Choice(
        names=options.get("names") or (),
        storage_classes=options.get("storage_classes") or (),
        phases=options.get("phases") or (),
        min_size=sizes["min_size"] or 0,
        max_size=sizes["max_size"],
    )


def phase_of(claim: Object) -> str:
    """Bound, Pending, Lost, or Terminating for one that is being deleted."""
    if claim["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str((claim.get("status") or {}).get("phase") or "Pending")


def source_of(claim: Object) -> Source:
    """The facts of a claim that a map asks for."""
    spec, metadata = claim["spec"], claim["metadata"]
    capacity = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    annotations = metadata.get("annotations") or {}
    return Source(
        namespace=str(metadata["namespace"]),
        claim=str(metadata["name"]),
        storage_class=str(spec.get("storageClassName") or annotations.get(_OLD_CLASS) or ""),
        access_modes=tuple(spec.get("accessModes") or ()),
        size=to_bytes(str(capacity or asked or "0")),
    )


def users_of(pods: Sequence[dict[str, Any]], claim: str) -> list[dict[str, Any]]:
    """Those of a namespace's pods that mount a claim and haven't ended."""
    return [
        pod
        for pod in pods
        if (pod.get("status") or {}).get("phase") not in _ENDED
        and (goes_with(pod, claim) or any(claim_of(volume) == claim for volume in _volumes(pod)))
    ]


def goes_with(pod: Object, claim: str) -> bool:
    """Whether a claim was made for a pod alone, and is deleted with it (a generic ephemeral volume)."""
    name = pod["metadata"]["name"]
    return any(f"{name}-{volume['name']}" == claim for volume in _volumes(pod) if volume.get("ephemeral"))


def _volumes(pod: Object) -> Sequence[Object]:
    return (pod.get("spec") or {}).get("volumes") or []


def claim_of(volume: Object) -> str | None:
    """The claim that a volume of a pod names, if it names one."""
    name: str | None = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    return name


def node_of(users: Sequence[Object]) -> str:
    """The node that has the claim now; empty where no pod uses it."""
    return next((str(pod["spec"]["nodeName"]) for pod in users if pod["spec"].get("nodeName")), "")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
