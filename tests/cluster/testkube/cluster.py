# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Bringing the whole cluster up and down, and saying how it is."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from . import build, cgroups, content, controlplane, images, layout, packages
from .errors import ClusterError
from .kubectl import Kubectl
from .node import Node
from .proc import mutex, run

LOCK_TIMEOUT = 120


@dataclass(frozen=True)
class Cluster:
    """The cluster of one checkout."""

    layout: layout.Layout

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as the administrator."""
        return Kubectl(build.binaries() / "kubectl", self.layout.kubeconfig)

    def lock(self) -> object:
        return mutex(f"kubeferry-cluster-{self.layout.id}", LOCK_TIMEOUT)

    # --- up -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Make a running cluster out of whatever is there: nothing, a dead or half-dead one, or a running one."""
        start = time.monotonic()
        packages.ensure()
        binaries = build.build()
        with mutex(f"kubeferry-cluster-{self.layout.id}", LOCK_TIMEOUT):
            instance = layout.load(self.layout) or layout.allocate(self.layout)
            layout.make_bridge(self.layout, instance)
            controlplane.start(self.layout, instance, binaries)
            node = Node(self.layout, instance)
            with ThreadPoolExecutor(1) as pool:
                runtime = pool.submit(self._start_runtime, node)
                controlplane.wait_ready(self.layout, instance)
                runtime.result()
            node.start_kubelet(binaries)
            kubectl = self.kubectl
            content.seed(self.layout, kubectl)
            kubectl.retry("get", f"node/{node.name}", timeout=60)
            kubectl("wait", f"node/{node.name}", "--for=condition=Ready", "--timeout=60s", timeout=70)
            content.sleepers(kubectl)
            content.write_token(self.layout, kubectl)
        print(f"Cluster {self.layout.id} is up ({time.monotonic() - start:.1f} s): KUBECONFIG={self.layout.kubeconfig}")

    def _start_runtime(self, node: Node) -> None:
        archives = images.build()
        node.start_runtime()
        images.load(node, archives)

    # --- down ---------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Remove every trace of the cluster; does nothing if there is none."""
        with mutex(f"kubeferry-cluster-{self.layout.id}", LOCK_TIMEOUT):
            instance = layout.load(self.layout)
            if instance is not None:
                Node(self.layout, instance).stop()
            controlplane.group(self.layout).stop()
            cgroups.remove(self.layout.cgroup)
            if run(["ip", "link", "show", self.layout.bridge], check=False).returncode == 0:
                run(["ip", "link", "delete", self.layout.bridge])
            if self.layout.state.exists():
                shutil.rmtree(self.layout.state)
        print(f"Cluster {self.layout.id} is gone.")

    # --- looking ------------------------------------------------------------------------------------------------

    def require(self) -> layout.Instance:
        """The recorded instance, or an error that says what to do."""
        instance = layout.load(self.layout)
        if instance is None:
            raise ClusterError("There is no cluster here; `make cluster` starts one.")
        return instance
