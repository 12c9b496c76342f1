# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""From an endpoint's options to its tree: connect, mount where a claim is named, and clean up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from . import _mount
from ._cluster import Cluster, connect
from ._errors import UsageError
from ._local_tree import LocalTree
from ._object_names import check_objects
from ._progress import Progress
from ._shell_tree import ShellTree
from ._staged_tree import StagedTree
from ._transport import AnyTree

MOUNT_SECONDS = 120.0


@contextmanager
def opened(
    params: Mapping[str, Any], option: str, progress: Progress, warnings: list[str]
) -> Iterator[AnyTree]:
    """The tree of the endpoint in the option called `option` (`target` means that it may be written to).

    Raises UsageError for options that don't fit together, and the errors of mounting a claim.
    """
    endpoint = params[option]
    if not endpoint.get("namespace"):
        yield _local(endpoint, option, progress)
        return
    check_objects(endpoint, f"{option}.")
    cluster = connect(params, endpoint)
    warnings += [text for text in cluster.warnings if text not in warnings]
    if endpoint.get("pvc"):
        with _mount.borrowed(cluster, endpoint, MOUNT_SECONDS, read_only=option != "target") as pod:
            path = os.path.normpath(os.path.join(pod.path, (endpoint.get("path") or ".").lstrip("/")))
            if path != pod.path and not path.startswith(pod.path + "/"):
                raise UsageError(
                    f"{option}.path: {endpoint['path']!r} leads out of the claim: give a path in it."
                )
            yield ShellTree(cluster.runner(pod.namespace, pod.pod, pod.container), path, progress)
        return
    yield _in_pod(cluster, endpoint, option, progress)


def _local(endpoint: Mapping[str, Any], option: str, progress: Progress) -> LocalTree:
    for key in ("pod", "pvc", "container"):
        if endpoint.get(key):
            raise UsageError(f"{option}: {key} needs a namespace: add {option}.namespace.")
    if not endpoint.get("path"):
        raise UsageError(
            f"{option}: no path and no namespace: give the directory, or the pod or claim that holds it."
        )
    path = os.path.expanduser(endpoint["path"])
    if endpoint.get("manifest"):
        return StagedTree(path, endpoint["manifest"], progress, as_source=option != "target")
    return LocalTree(path, progress)


def _in_pod(cluster: Cluster, endpoint: Mapping[str, Any], option: str, progress: Progress) -> ShellTree:
    path = endpoint.get("path")
    if not endpoint.get("pod"):
        raise UsageError(f"{option}: a namespace but neither pod nor pvc: say which one holds the files.")
    if endpoint.get("manifest"):
        raise UsageError(f"{option}: manifest is for a directory on this machine: leave it out for a pod.")
    if not path:
        raise UsageError(f"{option}: a pod but no path: give its directory that holds the files, from / on.")
    if not path.startswith("/"):
        raise UsageError(f"{option}.path: {path!r} isn't absolute: give the directory in the pod from / on.")
    runner = cluster.runner(endpoint["namespace"], endpoint["pod"], endpoint.get("container") or "")
    return ShellTree(runner, os.path.normpath(path), progress)
