# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A node: containerd, kubelet and kube-proxy in network, mount and pid namespaces of their own.

Inside, the usual paths (/run, /var/lib, /var/log) are the node's alone, so that nodes do not collide with each
other or with what the machine itself runs, and the host's interfaces, mounts and iptables stay as they are.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from . import cgroups, nodeconfig
from .group import Group, Service
from .kubeconfig import write as write_kubeconfig
from .layout import Instance, Layout
from .pki import Pki
from .proc import run, wait_until, write_if_changed

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Node:
    """Node ``number`` (from 1) of a cluster."""

    layout: Layout
    instance: Instance
    number: int = 1

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return f"node{self.number}"

    @property
    def directory(self) -> Path:
        """All of the node's files."""
        return self.layout.state / self.name

    @property
    def group(self) -> Group:
        """The node's supervisor."""
        return Group(self.directory, own_network=True)

    @property
    def cgroup(self) -> str:
        """The cgroup under which the kubelet puts the pods."""
        return f"{self.layout.cgroup}/{self.name}"

    @property
    def address(self) -> str:
        """The node's address on the cluster's network."""
        return self.instance.node_address(self.number)

    def _log(self, service: str) -> Path:
        return self.layout.logs / f"{self.name}-{service}.log"

    def start_runtime(self) -> None:
        """Start the namespaces, the network and containerd, if they are not there."""
        self.prepare()
        if self.group.pid is None:
            # of a node that was killed: the kubelet would wait 3 s for each container that these seem to hold
            cgroups.remove(self.cgroup)
            cgroups.make(self.cgroup)
            self.group.launch(self._setup())
        self._connect()
        if "containerd" not in self.group.services():
            self.group.apply([self._containerd()])
        self.wait_runtime()

    def start_kubelet(self, binaries: Path) -> None:
        """Start all of the node's services; the API server must be up."""
        self.group.apply(self.services(binaries))

    def wait_runtime(self) -> None:
        """Wait until containerd answers."""
        wait_until(
            "containerd to answer",
            lambda: "Server:" in self.ctr("version", check=False),
            30,
            log=self._log("containerd"),
        )

    def ctr(self, *words: str | Path, timeout: float = 60, check: bool = True) -> str:
        """Run containerd's client on this node, in the namespace that the kubelet uses."""
        return self.group.enter(
            "ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", *words, timeout=timeout, check=check
        )

    def _setup(self) -> list[list[str]]:
        """Commands that give the new mount and network namespaces the node's own view."""
        node, volumes = self.directory, self.layout.volumes
        volumes.mkdir(parents=True, exist_ok=True)
        script = f"""
            set -e
            mount -t tmpfs -o mode=755 kubeferry-run /run
            mkdir -p /run/kubeferry/state /run/kubeferry/lib /run/kubeferry/volumes /run/lock
            mount --bind {_quoted(node)} /run/kubeferry/state
            mount --bind {_quoted(node / "lib")} /run/kubeferry/lib
            mount --bind {_quoted(volumes)} /run/kubeferry/volumes
            mount --bind {_quoted(node / "log")} /var/log
            mount --bind /run/kubeferry/lib /var/lib
            # The kubelet insists on these values and would set them for the whole machine; let it find them here.
            mkdir /run/kubeferry/sysctl
            fake() {{
                if [ -e "/proc/sys/$1" ]; then
                    echo "$2" > "/run/kubeferry/sysctl/${{1##*/}}"
                    mount --bind "/run/kubeferry/sysctl/${{1##*/}}" "/proc/sys/$1"
                fi
            }}
            fake vm/overcommit_memory 1
            fake vm/panic_on_oom 0
            fake kernel/panic 10
            fake kernel/panic_on_oops 1
            fake kernel/keys/root_maxkeys 1000000
            fake kernel/keys/root_maxbytes 25000000
            hostname {self.name}
            ip link set lo up
            echo 1 > /proc/sys/net/ipv4/ip_forward
        """
        return [["sh", "-c", script]]

    def _connect(self) -> None:
        """Join the node to the cluster's bridge, and tell the host where the node's pods are."""
        host_end, bridge = f"{self.layout.bridge}-{self.number}", self.layout.bridge
        if run(["ip", "link", "show", host_end], check=False).returncode:
            pid = str(self.group.pid)
            run(["ip", "link", "add", host_end, "type", "veth", "peer", "name", "eth0", "netns", pid])
        run(["ip", "link", "set", host_end, "master", bridge, "up"])
        self.group.enter(
            "ip", "address", "replace", f"{self.address}/{self.instance.nodes.prefixlen}", "dev", "eth0"
        )
        self.group.enter("ip", "link", "set", "eth0", "up")
        for peer in range(1, self.instance.node_count + 1):
            if peer != self.number:
                pods, gateway = str(self.instance.pods(peer)), self.instance.node_address(peer)
                self.group.enter("ip", "route", "replace", pods, "via", gateway)
        routes = [self.instance.pods(self.number)] + ([self.instance.services] if self.number == 1 else [])
        for network in routes:
            run(["ip", "route", "replace", str(network), "via", self.address, "dev", bridge])

    def prepare(self) -> None:
        """Configuration, certificates and kubeconfigs of the node."""
        for name in ("lib", "lib/containerd", "lib/kubelet", "log", "cni"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        pki = Pki(self.layout.pki)
        pki.issue(
            self.name,
            "ca",
            f"system:node:{self.name}",
            "system:nodes",
            [f"DNS:{self.name}", f"IP:{self.address}"],
        )
        server = f"https://{self.instance.host_address}:{self.instance.api_port}"
        write_kubeconfig(self.directory / "kubelet.kubeconfig", server, pki, self.name, self.name)
        write_kubeconfig(self.directory / "kube-proxy.kubeconfig", server, pki, "kube-proxy", "kube-proxy")
        files = {
            "containerd.toml": nodeconfig.containerd(self.directory),
            "cni/10-ptp.conflist": nodeconfig.cni(self.instance.pods(self.number)),
            "kubelet.json": nodeconfig.kubelet(self.instance, self.cgroup),
            "kube-proxy.json": nodeconfig.kube_proxy(self.instance),
            "resolv.conf": "",
            "ca.crt": pki.certificate("ca").read_text(),
            "kubelet.crt": pki.certificate(self.name).read_text(),
            "kubelet.key": pki.key(self.name).read_text(),
        }
        for name, text in files.items():
            write_if_changed(self.directory / name, text)

    def _digest(self, *names: str) -> str:
        content = b"".join((self.directory / name).read_bytes() for name in names)
        return hashlib.sha256(content).hexdigest()[:12]

    def _containerd(self) -> Service:
        return Service(
            "containerd",
            ["containerd", "--config", "/run/kubeferry/state/containerd.toml"],
            str(self._log("containerd")),
            nonce=self._digest("containerd.toml"),
        )

    def services(self, binaries: Path) -> list[Service]:
        """The node's processes, in the order in which they start; :meth:`prepare` has written their files."""
        kubelet = [
            str(binaries / "kubelet"),
            "--config=/run/kubeferry/state/kubelet.json",
            "--kubeconfig=/run/kubeferry/state/kubelet.kubeconfig",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
        ]
        proxy = [
            str(binaries / "kube-proxy"),
            "--config=/run/kubeferry/state/kube-proxy.json",
            f"--hostname-override={self.name}",
        ]
        return [
            self._containerd(),
            Service(
                "kubelet",
                kubelet,
                str(self._log("kubelet")),
                nonce=self._digest("kubelet.json", "kubelet.kubeconfig", "kubelet.crt"),
            ),
            Service(
                "kube-proxy",
                proxy,
                str(self._log("kube-proxy")),
                nonce=self._digest("kube-proxy.json", "kube-proxy.kubeconfig"),
            ),
        ]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
