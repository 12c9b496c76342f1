# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the tests find in the cluster: namespaces, users, claims, sleeping pods."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .kubectl import Kubectl
from .layout import Layout
from .proc import wait_until, write_if_changed

MANIFESTS = Path(__file__).resolve().parent.parent / "manifests"
SOURCE, DESTINATION, RESTRICTED = "source-namespace", "destination-namespace", "restricted-namespace"
CLAIM = "pvc-0"
SLEEPER = "busybox-sleep"
TOKEN_LIFE = "24h"


@dataclass(frozen=True)
class Claim:
    """A claim to make, with a volume of its own unless it is to stay pending."""

    namespace: str
    name: str
    size: str = "10Gi"
    access_mode: str = "ReadWriteOnce"
    volume_mode: str = "Filesystem"
    storage_class: str = "kubeferry-test"
    pending: bool = False

    @property
    def volume(self) -> str:
        """The name of its volume, and the label by which it finds it."""
        return f"{self.namespace}-{self.name}"

    def objects(self, directory: Path | None) -> list[dict[str, Any]]:
        """The claim, and its volume at ``directory`` as the node sees it."""
        common = {
            "accessModes": [self.access_mode],
            "volumeMode": self.volume_mode,
            "storageClassName": self.storage_class,
        }
        reference = {"namespace": self.namespace, "name": self.name}
        label = {"kubeferry-volume": self.volume}
        requests = {"resources": {"requests": {"storage": self.size}}}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": reference,
            "spec": {**common, **requests, **({"selector": {"matchLabels": label}} if directory else {})},
        }
        if directory is None:
            return [claim]
        # "local" and not "hostPath": the kubelet applies fsGroup to it, as to a real disk. Any node will do.
        nodes = [{"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": self.volume, "labels": label},
            "spec": {
                **common,
                "capacity": {"storage": self.size},
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(directory)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": nodes}},
            },
        }
        return [volume, claim]


STANDARD_CLAIMS = (
    Claim(SOURCE, CLAIM),
    Claim(DESTINATION, CLAIM),
    Claim(RESTRICTED, CLAIM),
    Claim(SOURCE, "pending", storage_class="no-such-class", pending=True),
    Claim(SOURCE, "block", volume_mode="Block"),
)


def make_claims(layout: Layout, kubectl: Kubectl, claims: tuple[Claim, ...]) -> None:
    """Make the claims with their directories, and wait until those that should be are bound."""
    objects = []
    # a volume whose claim was deleted keeps the mark of it and would never bind again
    for volume in kubectl.get("pv").get("items", []):
        if volume["status"]["phase"] == "Released" and volume["metadata"]["name"] in {
            c.volume for c in claims
        }:
            kubectl("delete", f"pv/{volume['metadata']['name']}", "--timeout=30s")
    for claim in claims:
        relative = Path(claim.namespace) / claim.name
        if not claim.pending:
            (layout.volumes / relative).mkdir(parents=True, exist_ok=True)
            (layout.volumes / relative).chmod(0o755)  # whatever the umask
        objects += claim.objects(None if claim.pending else Path("/run/kubeferry/volumes") / relative)
    kubectl.apply(objects)
    for claim in claims:
        if not claim.pending and claim.storage_class != "kubeferry-wait":
            bound = "--for=jsonpath={.status.phase}=Bound"
            kubectl("wait", "-n", claim.namespace, f"pvc/{claim.name}", bound, "--timeout=60s", timeout=70)


def delete_claim(layout: Layout, kubectl: Kubectl, namespace: str, name: str) -> None:
    """Remove a claim and its volume's object; the files stay until the cluster goes down."""
    kubectl("delete", "-n", namespace, f"pvc/{name}", "--ignore-not-found", "--timeout=30s")
    kubectl("delete", f"pv/{Claim(namespace, name).volume}", "--ignore-not-found", "--timeout=30s")


def seed(layout: Layout, kubectl: Kubectl) -> None:
    """Namespaces, storage classes, the copier's rights and the standard claims."""
    kubectl("apply", *(f"-f={MANIFESTS / name}.yaml" for name in ("namespaces", "storage")))
    for namespace in (SOURCE, DESTINATION):
        let_copier_in(kubectl, namespace)
    copier = {"name": "copier", "namespace": SOURCE}
    kubectl.apply([{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": copier}])
    make_claims(layout, kubectl, STANDARD_CLAIMS)


def let_copier_in(kubectl: Kubectl, namespace: str) -> None:
    """Give the copier its rights in a namespace."""
    files = (f"-f={MANIFESTS / name}.yaml" for name in ("copier-role", "copier-binding"))
    kubectl("apply", "-n", namespace, *files)


def further(layout: Layout, kubectl: Kubectl, namespace: str) -> None:
    """Make a namespace of the same kind as the standard ones, with a claim and a sleeping pod of its own."""
    label = {"pod-security.kubernetes.io/enforce": "baseline"}
    kubectl.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": label}}]
    )
    let_copier_in(kubectl, namespace)
    make_claims(layout, kubectl, (Claim(namespace, CLAIM),))
    sleepers(kubectl, (namespace,))


def sleepers(kubectl: Kubectl, namespaces: Iterable[str] = (SOURCE, DESTINATION)) -> None:
    """Make the sleeping pods if they are missing, and wait until a command runs in each."""
    for namespace in namespaces:
        wait_until(f"{namespace}/{SLEEPER} to run", partial(_sleeps, kubectl, namespace), 90, interval=0.3)


def _sleeps(kubectl: Kubectl, namespace: str) -> bool:
    """Whether the sleeping pod runs; does the next thing towards it if it does not."""
    pod = kubectl.get("-n", namespace, f"pod/{SLEEPER}")
    if not pod:
        # until the namespace's default service account appears, no pod is admitted
        kubectl("apply", "-n", namespace, f"-f={MANIFESTS / 'busybox-sleep.yaml'}", check=False)
        return False
    if pod["metadata"].get("deletionTimestamp"):
        return False
    if pod["status"].get("phase") in ("Failed", "Succeeded"):  # a pod that ended does not start again
        kubectl("delete", "-n", namespace, f"pod/{SLEEPER}", "--timeout=60s", check=False, timeout=70)
        return False
    # After a restart of the node the pod's status is still the old one for a while; a command tells the truth.
    return pod["status"].get("phase") == "Running" and kubectl.succeeds(
        "exec", "-n", namespace, SLEEPER, "--", "true"
    )


def write_token(layout: Layout, kubectl: Kubectl) -> None:
    """A fresh bound token of the copier's service account, once the last one is half way through its life."""
    file = layout.state / "token-copier"
    if file.exists() and time.time() - file.stat().st_mtime < 12 * 3600:
        return
    token = kubectl("create", "token", "copier", "-n", SOURCE, f"--duration={TOKEN_LIFE}")
    write_if_changed(file, token)
