# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A claim that is to be copied to: its object, and what is known against it before it is. Nothing is asked here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._api_errors import quoted
from ._errors import ClusterError, UsageError
from ._quantity import to_bytes

Object = Mapping[str, Any]

ORIGIN = "kubeferry.io/source"
"""The annotation that tells which claim's files a claim is for."""

NO_PROVISIONER = "kubernetes.io/no-provisioner"
_DEFAULT = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
# Provisioners of block devices, which one node can have with a file system on it.
_ONE_NODE = re.compile(
    r"(kubernetes\.io/(aws-ebs|gce-pd|azure-disk|cinder|portworx-volume)|ebs\.csi\.aws\.com|pd\.csi\.storage\.gke\.io|"
    r"disk\.csi\.azure\.com|cinder\.csi\.openstack\.org|csi\.hetzner\.cloud|dobs\.csi\.digitalocean\.com|"
    r"linodebs\.csi\.linode\.com|topolvm\.io|rancher\.io/local-path|(.*\.)?rbd\.csi\.ceph\.com)"
)


@dataclass(frozen=True)
class NewClaim:
    """A claim that is wanted. `size` is a quantity; an empty `storage_class` is the cluster's default.

    `origin` is the claim whose files it is for, as `origin_of` tells it; empty if that isn't to be marked.
    """

    namespace: str
    name: str
    storage_class: str
    access_modes: Sequence[str]
    size: str
    origin: str = ""

    def __post_init__(self) -> None:
        if not self.access_modes:
            raise UsageError(
                f"Claim {self.namespace}/{self.name} needs access_modes: give a list with one at least."
            )
        if {*self.access_modes} == {"ReadOnlyMany"}:
            raise UsageError(
                f"Claim {self.namespace}/{self.name} couldn't be written to (ReadOnlyMany): choose another access mode."
            )
        if to_bytes(self.size) < 1:
            raise UsageError(
                f"Claim {self.namespace}/{self.name} needs a size above 0: give size, as in 10Gi."
            )

    def body(self) -> dict[str, Any]:
        """The object to create."""
        spec: dict[str, Any] = {
            "accessModes": list(self.access_modes),
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": self.size}},
        }
        if self.storage_class:
            spec["storageClassName"] = self.storage_class
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": self.name, "namespace": self.namespace, **marked(self.origin)},
            "spec": spec,
        }


def origin_of(source: Object) -> str:
    """The claim that is copied from, in words that no other claim has, of whatever cluster."""
    metadata = source["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}, uid {metadata['uid']}"


def marked(origin: str) -> dict[str, Any]:
    """The metadata that says whose files a claim is for."""
    return {"annotations": {ORIGIN: origin}} if origin else {}


def mark_of(there: Object) -> str:
    """The claim whose files this one is for; empty if it isn't marked."""
    return str((there["metadata"].get("annotations") or {}).get(ORIGIN) or "")


def mixed(there: Object, origin: str) -> ClusterError | None:
    """Why a claim can't get the files of `origin`, if it is for another one's."""
    mark = mark_of(there)
    if not origin or mark in ("", origin):
        return None
    namespace, name = there["metadata"]["namespace"], there["metadata"]["name"]
    return ClusterError(
        f"Claim {namespace}/{name} is marked as the destination of claim {mark}, so that the files of claim {origin} "
        f"don't get mixed with those: choose another claim, or remove its annotation {ORIGIN} if it has none of those, "
        "or if that is meant."
    )


def class_of(wanted: str, classes: Sequence[Object]) -> Object | None:
    """The storage class of that name; the cluster's default one, if the name is empty. None if there is none."""
    for each in classes:
        annotations = each["metadata"].get("annotations") or {}
        is_default = any(annotations.get(key) == "true" for key in _DEFAULT)
        if each["metadata"]["name"] == wanted or (not wanted and is_default):
            return each
    return None


def class_problem(new: NewClaim, classes: Sequence[Object]) -> str:
    """Why the storage class can't give the claim a volume; empty if nothing is known to speak against it."""
    found = class_of(new.storage_class, classes)
    subject = f"claim {new.namespace}/{new.name}"
    if found is None:
        there = ", ".join(sorted(str(each["metadata"]["name"]) for each in classes)) or "none"
        if new.storage_class:
            return f"storage class {new.storage_class} of {subject} doesn't exist: choose another (there are: {there})"
        return f"{subject} has no storage class and the cluster no default one: name one (there are: {there})"
    modes = {*new.access_modes} & {"ReadWriteMany", "ReadOnlyMany"}
    provisioner = str(found.get("provisioner"))
    if modes and _ONE_NODE.fullmatch(provisioner):
        return (
            f"storage class {found['metadata']['name']} of {subject} has volumes for one node ({provisioner}), not for "
            f"{', '.join(sorted(modes))}: choose another class or access mode"
        )
    return ""


def refused_claim(error: ClusterError, new: NewClaim) -> ClusterError:
    """What to do about the API server's refusal to make the claim. Other errors stay as they are."""
    says = quoted({"message": error.said})
    subject = f"Claim {new.namespace}/{new.name} may not be made with {new.size}"
    if "exceeded quota" in error.said:
        return ClusterError(f"{subject} under the quota of its namespace: raise it, or ask for less{says}.")
    if re.search(r"(maximum|minimum) storage usage", error.said):
        return ClusterError(f"{subject} under the limits of its namespace: change size{says}.")
    if " is invalid: " in error.said:
        return ClusterError(f"Claim {new.namespace}/{new.name} can't be made as it was asked for{says}.")
    return error


def unfit(there: Object, new: NewClaim) -> ClusterError | None:
    """Why a claim that is there already can't be taken for the one that is wanted."""
    words = unlike(there, new)
    if not words:
        return None
    return ClusterError(
        f"Claim {new.namespace}/{new.name} is there already and {words}: use it as it is (create: false), or name "
        "another."
    )


def unlike(there: Object, new: NewClaim) -> str:
    """What of a claim that is there already isn't as wanted and can't be changed; empty if it will do."""
    spec = there["spec"]
    if spec.get("volumeMode") == "Block":
        return "is a raw block device"
    if new.storage_class and spec.get("storageClassName") != new.storage_class:
        return f"has the storage class {spec.get('storageClassName')}, not {new.storage_class}"
    if missing := sorted({*new.access_modes} - {*(spec.get("accessModes") or [])}):
        return f"doesn't allow {', '.join(missing)}"
    capacity = ((there.get("status") or {}).get("capacity") or {}).get("storage")
    size = capacity or ((spec.get("resources") or {}).get("requests") or {}).get("storage") or "0"
    if to_bytes(str(size)) < to_bytes(new.size):
        return f"has {size}, not {new.size}"
    return ""
