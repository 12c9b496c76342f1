# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""From endpoints' options to their trees: connect, mount where a claim is named, and clean up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import _mount
from ._cluster import Cluster, connect
from ._cluster_api import Object
from ._errors import ClusterError, NotFound, RouteFailed, UsageError
from ._exec_errors import Target, gone_helper
from ._helper_pod import Mounted
from ._helper_spec import Further, is_helper
from ._local_tree import LocalTree
from ._overlap import Origin
from ._progress import Progress
from ._shell_tree import ShellTree
from ._staged_tree import StagedTree
from ._transport import AnyTree


@dataclass(frozen=True)
class PodPlace:
    """Which pod a tree is reached in."""

    cluster: Cluster
    namespace: str
    pod: str
    container: str

    @property
    def where(self) -> str:
        return f"pod {self.namespace}/{self.pod}"

    def is_helper(self) -> bool:
        """Whether it is a pod that `pvc_mount` made."""
        return is_helper(self._pod())

    def address(self) -> str:
        """Its address in the cluster's network; empty if it has none."""
        return str((self._pod().get("status") or {}).get("podIP") or "")

    def origin(self, path: str) -> Origin:
        """What lies at `path`, in words that are the same for each pod that has the claim, as far as one is there."""
        try:
            spec = self._pod().get("spec") or {}
        except ClusterError:
            spec = {}  # who may not look at a pod can still copy
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in spec.get("volumes") or ()
            if volume.get("persistentVolumeClaim")
        }
        mounts = [
            mount
            for container in spec.get("containers") or ()
            if self.container in ("", container["name"])
            for mount in container.get("volumeMounts") or ()
            if f"{path}/".startswith(mount["mountPath"].rstrip("/") + "/")
        ]
        mount = max(mounts, key=lambda each: len(each["mountPath"]), default={"name": "", "mountPath": ""})
        if mount["name"] not in claims or mount.get("subPathExpr"):
            container = f", container {self.container}," if self.container else ""
            return Origin(path, f"in {self.where}{container} at {self.cluster.server}")
        below = os.path.relpath(path, mount["mountPath"])
        inner = os.path.normpath(os.path.join(mount.get("subPath") or ".", below))
        return Origin(inner, f"in claim {self.namespace}/{claims[mount['name']]} at {self.cluster.server}")

    def _pod(self) -> Object:
        try:
            return self.cluster.get_pod(self.namespace, self.pod)
        except NotFound:
            target = Target(self.namespace, self.pod, self.container)
            if target.is_helper:
                raise gone_helper(target, "") from None
            raise

    def same_cluster(self, other: PodPlace) -> bool:
        return self.cluster.server == other.cluster.server

    def same_pod(self, other: PodPlace) -> bool:
        ours, theirs = ((each.namespace, each.pod, each.container) for each in (self, other))
        return ours == theirs and self.same_cluster(other)


@dataclass(frozen=True)
class End:
    """The tree of an endpoint; without `place` it is a directory on this machine."""

    tree: AnyTree
    place: PodPlace | None = None

    def origin(self) -> Origin:
        """What the tree is, in words that are the same for each way to it."""
        if self.place:
            return self.place.origin(self.tree.path)
        return Origin(os.path.realpath(self.tree.path), "on this machine")


@contextmanager
def opened(params: Mapping[str, Any], option: str, progress: Progress, warnings: list[str]) -> Iterator[End]:
    """The endpoint in the option called `option` (`target` means that it may be written to).

    Raises UsageError for options that don't fit together, and the errors of mounting a claim.
    """
    endpoint = params[option]
    if not endpoint.get("namespace"):
        yield End(_local(endpoint, option, progress))
        return
    _check(endpoint, option)
    cluster = connect(params, endpoint)
    warnings += [text for text in cluster.warnings if text not in warnings]
    if endpoint.get("pvc"):
        with _mount.borrowed(cluster, endpoint, warnings, read_only=option != "target") as pod:
            yield _end(cluster, pod, _below(pod.path, endpoint, option), progress)
        return
    yield _in_pod(cluster, endpoint, option, progress)


@contextmanager
def opened_in_one_pod(
    params: Mapping[str, Any], progress: Progress, warnings: list[str]
) -> Iterator[tuple[End, End]]:
    """Source and target, two claims of one namespace, in one helper pod. The source's is mounted read-only.

    Raises RouteFailed where they are nothing of the kind, and the errors of mounting a claim.
    """
    source, target = params["source"], params["target"]
    for option in ("source", "target"):
        _check(params[option], option)
        if not (params[option].get("namespace") and params[option].get("pvc")):
            raise RouteFailed(f"the {option} isn't a claim")
    cluster = connect(params, target)
    if connect(params, source).server != cluster.server or source["namespace"] != target["namespace"]:
        raise RouteFailed("the claims aren't in one namespace of one cluster")
    warnings += [text for text in cluster.warnings if text not in warnings]
    further = Further(source["pvc"], f"/mnt/source/{source['pvc']}", read_only=True)
    with _mount.borrowed(cluster, target, warnings, read_only=False, also=[further]) as pod:
        yield (
            _end(cluster, pod, _below(further.path, source, "source"), progress),
            _end(cluster, pod, _below(pod.path, target, "target"), progress),
        )


def _check(endpoint: Mapping[str, Any], option: str) -> None:
    """Raises UsageError for what can't be meant of a pod or claim."""
    if endpoint.get("manifest") and endpoint.get("namespace"):
        raise UsageError(
            f"{option}: manifest is for a directory on this machine: leave it out for a pod or claim."
        )


def _below(mounted: str, endpoint: Mapping[str, Any], option: str) -> str:
    """The path in the pod of an endpoint whose claim is mounted at `mounted`."""
    path = os.path.normpath(os.path.join(mounted, (endpoint.get("path") or ".").lstrip("/")))
    if path != mounted and not path.startswith(mounted + "/"):
        raise UsageError(f"{option}.path: {endpoint['path']!r} leads out of the claim: give a path in it.")
    return path


def _end(cluster: Cluster, pod: Mounted, path: str, progress: Progress) -> End:
    place = PodPlace(cluster, pod.namespace, pod.pod, pod.container)
    return End(ShellTree(cluster.runner(pod.namespace, pod.pod, pod.container), path, progress), place)


def _local(endpoint: Mapping[str, Any], option: str, progress: Progress) -> LocalTree:
    for key in ("pod", "pvc", "container"):
        if endpoint.get(key):
            raise UsageError(f"{option}: {key} needs a namespace: add {option}.namespace.")
    if not endpoint.get("path"):
        raise UsageError(
            f"{option}: no path and no namespace: give the directory, or the pod or claim that holds it."
        )
    path = os.path.expanduser(endpoint["path"])
    if path.startswith("~"):
        raise UsageError(
            f"{option}.path: there is no user {path.partition('/')[0][1:]!r} here: give the directory from / on, or "
            "write ./ in front of a name that begins so."
        )
    if endpoint.get("manifest"):
        return _staged(path, endpoint, option, progress)
    return LocalTree(path, progress)


def _staged(path: str, endpoint: Mapping[str, Any], option: str, progress: Progress) -> StagedTree:
    digest, as_source = endpoint.get("manifest_digest") or "", option != "target"
    if digest and not as_source:
        raise UsageError(f"{option}: manifest_digest is for a source: leave it out.")
    return StagedTree(path, endpoint["manifest"], progress, as_source, digest)


def _in_pod(cluster: Cluster, endpoint: Mapping[str, Any], option: str, progress: Progress) -> End:
    path = endpoint.get("path")
    if not endpoint.get("pod"):
        raise UsageError(f"{option}: a namespace but neither pod nor pvc: say which one holds the files.")
    if not path:
        raise UsageError(f"{option}: a pod but no path: give its directory that holds the files, from / on.")
    if not path.startswith("/"):
        raise UsageError(f"{option}.path: {path!r} isn't absolute: give the directory in the pod from / on.")
    namespace, pod = endpoint["namespace"], endpoint["pod"]
    container = endpoint.get("container") or cluster.default_container(namespace, pod)
    place = PodPlace(cluster, namespace, pod, container)
    runner = cluster.runner(namespace, pod, container)
    return End(ShellTree(runner, os.path.normpath(path), progress), place)
