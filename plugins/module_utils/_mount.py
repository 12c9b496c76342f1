# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_mount`, and helper pods for the duration of another module's task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from . import _guard
from ._cluster import Cluster, connect
from ._endpoint_args import DEFAULT_WAIT
from ._errors import Interrupted, KubeferryError
from ._helper_pod import REMOVE_SECONDS, HelperPods, Mounted
from ._helper_spec import SCHEDULING, Further, HelperRequest, check_run_id, new_run_id
from ._interrupt import interruptible


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_mount`. Raises KubeferryError's children."""
    with interruptible():
        cluster = connect(params)
        pods = HelperPods(cluster)
        if params["state"] == "absent":
            result = _absent(cluster, pods, params, check_mode=check_mode)
        else:
            result = _present(cluster, pods, params, check_mode=check_mode)
    return {**result, "warnings": cluster.warnings}


@contextmanager
def borrowed(
    cluster: Cluster,
    endpoint: Mapping[str, Any],
    warnings: list[str],
    *,
    read_only: bool,
    also: Sequence[Further] = (),
) -> Iterator[Mounted]:
    """A helper pod for the claim of an endpoint, removed at the end of the block.

    It mounts the claims in `also`, too. That it couldn't be removed is added to `warnings`.

    A signal that asks the process to end leaves the block as Interrupted. Raises what `HelperPods.ensure` does.
    """
    request = HelperRequest.of_endpoint(endpoint, read_only=read_only, also=also)
    wait_seconds = float(endpoint.get("wait_timeout", DEFAULT_WAIT))
    pods = HelperPods(cluster)
    with interruptible():
        mounted, _guarded = _watched(cluster, pods, request, wait_seconds)
        try:
            yield mounted
        finally:
            # What goes wrong here must not hide how the work itself ended: the pod ends by its deadline anyway.
            try:
                pods.remove(request.namespace, request.run_id, REMOVE_SECONDS)
            except KubeferryError as exc:
                warnings.append(_left(request, exc))
            with suppress(KubeferryError):
                pods.reap(request.namespace)
            _guard.notify(_name(cluster, request.namespace, request.run_id))


def _left(request: HelperRequest, exc: KubeferryError) -> str:
    said = str(exc).rstrip(".")
    return (
        f"Helper pod {request.namespace}/{request.name} may be left for up to {request.lifetime} seconds, unless it is "
        f"removed by hand: {said[:1].lower()}{said[1:]}."
    )


def _present(
    cluster: Cluster, pods: HelperPods, params: Mapping[str, Any], *, check_mode: bool
) -> dict[str, Any]:
    request = _request(params)
    seconds = float(params["wait_timeout"])
    guarded = False
    if check_mode:
        mounted = pods.foresee(request)
    elif params["keep"]:
        mounted = pods.ensure(request, seconds)
    else:
        mounted, guarded = _watched(cluster, pods, request, seconds)
    reaped = pods.expired(request.namespace) if check_mode else pods.reap(request.namespace)
    return {
        **_facts(mounted),
        "also": [{"pvc": each.claim, "path": each.mount_path} for each in request.also],
        "changed": mounted.changed or bool(reaped),
        "guarded": guarded,
        "reaped": reaped,
        "removed": [],
        "diff": _diff([] if mounted.changed else [mounted.pod], [mounted.pod], reaped),
    }


def _watched(
    cluster: Cluster, pods: HelperPods, request: HelperRequest, wait_seconds: float
) -> tuple[Mounted, bool]:
    """A helper pod that is ready, and whether it has a guard.

    The guard is there before the pod is, as ansible-playbook may be killed while this waits for the pod. It may be
    that of an earlier task, which ends when it finds no pod, so another one is started after the wait; next to one
    that lives, it ends at once.
    Raises Interrupted, with no pod left, when ansible-playbook is gone.
    """
    watch = _watch(cluster, pods, request)
    guarded = _guard.start(watch)
    try:
        mounted = pods.ensure(request, wait_seconds)
        if guarded:
            _guard.start(watch)
    except Interrupted:
        pods.abandon(request.namespace, request.run_id)
        raise
    except BaseException:
        _guard.notify(watch.name)
        raise
    return mounted, guarded


def _absent(
    cluster: Cluster, pods: HelperPods, params: Mapping[str, Any], *, check_mode: bool
) -> dict[str, Any]:
    namespace, run_id = params["namespace"], params["run_id"]
    check_run_id(run_id)
    if check_mode:
        removed = pods.of_run(namespace, run_id)
        reaped = [name for name in pods.expired(namespace) if name not in removed]
    else:
        removed = pods.remove(namespace, run_id, max(REMOVE_SECONDS, float(params["wait_timeout"])))
        reaped = pods.reap(namespace)
        _guard.notify(_name(cluster, namespace, run_id))
    return {
        "namespace": namespace,
        "run_id": run_id,
        "changed": bool(removed or reaped),
        "reaped": reaped,
        "removed": removed,
        "diff": _diff(removed, [], reaped),
    }


def _request(params: Mapping[str, Any]) -> HelperRequest:
    given = {key: params[key] for key in ("path", *SCHEDULING) if params.get(key)}
    return HelperRequest(
        namespace=params["namespace"],
        claim=params["pvc"],
        run_id=params.get("run_id") or new_run_id(),
        image=params["image"],
        read_only=params["read_only"],
        lifetime=params["lifetime"],
        pod_security=params["pod_security"],
        run_as_user=params.get("run_as_user"),
        run_as_group=params.get("run_as_group"),
        also=[
            Further(each["pvc"], each.get("path") or "", each["read_only"])
            for each in params.get("also") or ()
        ],
        **given,
    )


def _watch(cluster: Cluster, pods: HelperPods, request: HelperRequest) -> _guard.Watch:
    namespace, run_id = request.namespace, request.run_id
    return _guard.Watch(
        name=_name(cluster, namespace, run_id),
        seconds=float(request.lifetime),
        left=lambda: pods.any_of_run(namespace, run_id),
        abandon=lambda: pods.abandon(namespace, run_id),
        detach=cluster.forget_connections,
    )


def _name(cluster: Cluster, namespace: str, run_id: str) -> str:
    return f"{cluster.server} {namespace} {run_id}"


def _facts(mounted: Mounted) -> dict[str, Any]:
    return {
        "namespace": mounted.namespace,
        "pod": mounted.pod,
        "container": mounted.container,
        "path": mounted.path,
        "node": mounted.node,
        "run_id": mounted.run_id,
        "volume": mounted.volume,
    }


def _diff(before: list[str], after: list[str], reaped: list[str]) -> dict[str, Any]:
    return {"before": {"helper_pods": sorted({*before, *reaped})}, "after": {"helper_pods": sorted(after)}}
