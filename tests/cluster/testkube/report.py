# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What a person asks a cluster: how is it, and what do its logs say."""

from __future__ import annotations

from pathlib import Path

from . import api
from .cluster import Cluster
from .errors import ClusterError
from .group import Group


def status(cluster: Cluster) -> tuple[str, bool]:
    """A page about the cluster, and whether all of it is well."""
    instance = cluster.instance()
    ready = api.is_ready(cluster.layout, instance)
    lines = [
        f"cluster     {cluster.layout.id} in {cluster.layout.state}",
        f"API server  https://127.0.0.1:{instance.api_port} ({'ready' if ready else 'not ready'})",
        f"inside      https://{instance.host_address}:{instance.api_port}",
        f"addresses   nodes {instance.nodes}, services {instance.services}, pods {instance.pods(1)} ...",
        "",
        f"{'service':<34}{'pid':>9}  restarts",
    ]
    well = ready
    groups = [cluster.control, *(node.group for node in cluster.nodes(instance))]
    for group in groups:
        lines += _services(group)
        well = well and all(state["pid"] for state in group.services().values())
        well = well and set(group.services()) == {s.name for s in group.desired()} != set()
    lines.append("")
    for path in cluster.ready_paths(instance):
        is_ready = api.has_ready_condition(cluster.layout, instance, path)
        name = path.removeprefix("/api/v1/").removeprefix("namespaces/")
        lines.append(f"{name:<48}{'Ready' if is_ready else 'not Ready'}")
        well = well and is_ready
    return "\n".join(lines), well


def _services(group: Group) -> list[str]:
    label = group.directory.name
    if group.pid is None:
        return [f"{label}: not running"]
    lines = []
    for name, state in group.services().items():
        pid = group.host_pid(state["pid"]) if state["pid"] else None
        lines.append(f"{label + '/' + name:<34}{pid or 'down':>9}  {state['restarts']}")
    return lines


def logs(cluster: Cluster, service: str | None, lines: int) -> str:
    """The end of one service's log, or the list of all logs."""
    cluster.instance()
    files = {path.stem: path for path in sorted(cluster.layout.logs.glob("*.log"))}
    if service is None:
        return "\n".join(f"{name:<28}{path}" for name, path in files.items())
    if service not in files:
        raise ClusterError(f"There is no log of {service!r}; there are: {', '.join(files)}.")
    return "\n".join(_tail(files[service], lines))


def _tail(path: Path, lines: int) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-lines:]
