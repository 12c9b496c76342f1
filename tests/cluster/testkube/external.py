# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A cluster that the user already has: make what the tests need and is not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from . import content
from .content import CLAIM, SLEEPER
from .errors import ClusterError
from .kubectl import Kubectl, find


def check(namespaces: Sequence[str]) -> str:
    """Verify the cluster of ``$KUBECONFIG``; what is absent is made, what is there is left as it is."""
    paths = [Path(p).expanduser() for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    if not paths:
        raise ClusterError("KUBECONFIG is not set; `cluster check` is for a cluster that you already have.")
    if not any(path.exists() for path in paths):
        raise ClusterError(f"KUBECONFIG names {paths[0]}, which does not exist.")
    kubectl = Kubectl(find(), os.pathsep.join(str(path) for path in paths))
    kubectl("version", timeout=30)
    made = []
    for namespace in namespaces:
        if not kubectl.get("-n", namespace, f"pvc/{CLAIM}"):
            made += _make_claim(kubectl, namespace)
        if not kubectl.get("-n", namespace, f"pod/{SLEEPER}"):
            made.append(f"{namespace}/{SLEEPER}")
    # a pod runs only once its claim is bound, also where binding waits for the first pod
    content.sleepers(kubectl, namespaces)
    return f"The cluster has what the tests need (made: {', '.join(made) or 'nothing'})."


def _make_claim(kubectl: Kubectl, namespace: str) -> list[str]:
    """Make the claim, and its namespace if that is missing too; return what was made."""
    made = []
    if not kubectl.get(f"namespace/{namespace}"):
        kubectl("create", "namespace", namespace)
        kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline")
        made.append(namespace)
    claim = content.Claim(namespace, CLAIM, size="1Gi").objects(None)[0]
    del claim["spec"]["storageClassName"]  # absent means: the cluster's default class
    kubectl.apply([claim])
    return [*made, f"{namespace}/{CLAIM}"]
