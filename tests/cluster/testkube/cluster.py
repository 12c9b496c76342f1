# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Bringing the whole cluster up and down, and breaking it on request."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from . import api, build, cgroups, content, controlplane, images, packages
from . import layout as layouts
from .errors import ClusterError
from .group import Group, kill_all
from .kubectl import Kubectl
from .node import Node
from .proc import mutex, wait_until

LOCK_TIMEOUT = 180


@dataclass(frozen=True)
class Cluster:
    """The cluster of one checkout."""

    layout: layouts.Layout

    @property
    def kubectl(self) -> Kubectl:
        """Kubectl as the administrator."""
        return Kubectl(build.binaries() / "kubectl", self.layout.kubeconfig)

    @property
    def control(self) -> Group:
        """The control plane's supervisor."""
        return controlplane.group(self.layout)

    def nodes(self, instance: layouts.Instance) -> list[Node]:
        """The cluster's nodes; whatever is done to a node is done to each of these."""
        return [Node(self.layout, instance, number) for number in range(1, instance.node_count + 1)]

    def instance(self) -> layouts.Instance:
        """What the running cluster was given."""
        instance = layouts.load(self.layout)
        if instance is None:
            raise ClusterError("There is no cluster in this checkout; `make cluster` starts one.")
        return instance

    def _locked(self) -> AbstractContextManager[None]:
        """One command at a time changes the cluster."""
        return mutex(f"kubeferry-cluster-{self.layout.id}", LOCK_TIMEOUT)

    def up(self, node_count: int = 1) -> str:
        """Make a running cluster of whatever is there: nothing, a dead or half-dead one, or a running one.

        What fails is left as it is, to be looked at; the next ``up`` goes on from there.
        Returns a line to print.
        """
        start = time.monotonic()
        packages.ensure()
        binaries = build.build()
        with self._locked():
            instance = layouts.load(self.layout)
            if instance is None:
                self._remove_remains()  # of a cluster whose files somebody deleted
            else:
                missing = f"node{node_count} is missing" if node_count > instance.node_count else None
                fault = missing or self.fault(instance, binaries)
                if fault is None:
                    content.write_token(self.layout, self.kubectl)
                    return f"Cluster {self.layout.id} is running: KUBECONFIG={self.layout.kubeconfig}"
                print(f"Repairing cluster {self.layout.id}: {fault} ...", flush=True)
            instance = layouts.claim(self.layout, running=self.control.pid is not None, node_count=node_count)
            controlplane.start(self.layout, instance, binaries)
            nodes = self.nodes(instance)
            with ThreadPoolExecutor(1) as pool:
                runtimes = pool.submit(_start_runtimes, nodes)
                controlplane.wait_ready(self.layout, instance)
                runtimes.result()
            kubectl = self.kubectl
            for node in nodes:
                node.start_kubelet(binaries)
            content.seed(self.layout, kubectl)
            for node in nodes:
                self._wait_ready(instance, node)
            content.sleepers(kubectl)
            content.write_token(self.layout, kubectl)
        seconds = time.monotonic() - start
        return f"Cluster {self.layout.id} is up after {seconds:.1f} s: KUBECONFIG={self.layout.kubeconfig}"

    def fault(self, instance: layouts.Instance, binaries: Path) -> str | None:
        """What is not as it should be, or None if there is nothing for ``up`` to do."""
        if fault := self.control.fault(controlplane.services(self.layout, instance, binaries)):
            return fault
        for node in self.nodes(instance):
            node.prepare()
            if fault := node.group.fault(node.services(binaries)):
                return fault
        for path in self.ready_paths(instance):
            if not api.has_ready_condition(self.layout, instance, path):
                return f"{path} is not Ready"
        return None

    def ready_paths(self, instance: layouts.Instance) -> list[str]:
        """The API paths of the nodes and pods that should be Ready."""
        return [f"/api/v1/nodes/{node.name}" for node in self.nodes(instance)] + [
            f"/api/v1/namespaces/{namespace}/pods/{content.SLEEPER}"
            for namespace in (content.SOURCE, content.DESTINATION)
        ]

    def _wait_ready(self, instance: layouts.Instance, node: Node) -> None:
        wait_until(
            f"{node.name} to be Ready",
            lambda: api.has_ready_condition(self.layout, instance, f"/api/v1/nodes/{node.name}"),
            90,
            log=self.layout.logs / f"{node.name}-kubelet.log",
        )

    def down(self) -> str:
        """Remove every trace of the cluster; does nothing if there is none."""
        with self._locked():
            there = self.layout.state.exists()
            self._remove_remains()
            if there:
                shutil.rmtree(self.layout.state)
        return f"Cluster {self.layout.id} is gone." if there else "There is no cluster in this checkout."

    def _remove_remains(self) -> None:
        """End the processes and remove what of the cluster is not a file."""
        kill_all(self.layout.state)
        layouts.delete_bridge(self.layout)
        cgroups.remove(self.layout.cgroup)

    def stop_apiserver(self) -> str:
        """Stop the API server, and nothing else, until it is started again."""
        with self._locked():
            self.instance()
            self.control.apply([s for s in self.control.desired() if s.name != "kube-apiserver"])
        return "The API server is stopped; `cluster start-apiserver` starts it again."

    def start_apiserver(self) -> str:
        """Start the API server after :meth:`stop_apiserver` and wait until it is ready."""
        with self._locked():
            instance = self.instance()
            self.control.apply(controlplane.services(self.layout, instance, build.binaries()))
            controlplane.wait_ready(self.layout, instance)
        return "The API server is ready."

    def restart_apiserver(self) -> str:
        """Cut every connection to the API server by restarting it, and wait until it is ready."""
        with self._locked():
            instance = self.instance()
            self.control.restart("kube-apiserver")
            controlplane.wait_ready(self.layout, instance)
        return "The API server was restarted and is ready."

    def restart_containerd(self) -> str:
        """Cut every exec stream in its middle by restarting containerd; the containers keep running."""
        with self._locked():
            for node in self.nodes(self.instance()):
                node.group.restart("containerd")
                node.wait_runtime()
        return "containerd was restarted and answers."


def _start_runtimes(nodes: list[Node]) -> None:
    archives = images.build()
    for node in nodes:
        node.start_runtime()
        images.load(node, archives)
