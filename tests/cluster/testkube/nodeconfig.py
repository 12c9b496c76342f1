# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The configuration files of a node's three services and of its pod network, as text.

All paths are as seen inside the node's mount namespace.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from .errors import ClusterError
from .layout import Instance
from .proc import run

STATE = "/run/kubeferry/state"
PAUSE_IMAGE = "docker.io/kubeferry/pause:1"
CNI_PLUGINS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")


def cni_plugins() -> str:
    """The directory that has the CNI plugins (distributions differ)."""
    for directory in CNI_PLUGINS:
        if (Path(directory) / "ptp").exists():
            return directory
    raise ClusterError(f"The CNI plugin ptp is in none of {', '.join(CNI_PLUGINS)}.")


def containerd(directory: Path) -> str:
    """Configuration of containerd, whose data ends up in ``directory``."""
    # overlayfs cannot be stacked on an overlay, which is what the root of most containers is
    stacked = run(["stat", "-f", "-c", "%T", directory]).stdout.strip() == "overlayfs"
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # A machine that withholds CAP_SYS_RESOURCE forbids a score below the current one, and runc then fails.
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{"native" if stacked else "overlayfs"}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins()}"
    conf_dir = "{STATE}/cni"
"""


def cni(pods: ipaddress.IPv4Network) -> str:
    """The pod network: every pod on a routed pair of interfaces.

    With ptp rather than a bridge all traffic between pods passes the node's own IP stack, so Services work
    for two pods of one node whether or not the kernel shows bridged frames to netfilter.
    """
    pool = {"type": "host-local", "ranges": [[{"subnet": str(pods)}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": pool},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "kubeferry", "plugins": plugins}, indent=1)


def kubelet(instance: Instance, cgroup: str) -> str:
    """KubeletConfiguration."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{STATE}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{STATE}/kubelet.crt",
            "tlsPrivateKeyFile": f"{STATE}/kubelet.key",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "healthzPort": 0,
            "readOnlyPort": 0,
            # No cluster DNS runs; an address nevertheless keeps a MissingClusterDNS warning out of every pod's events.
            "clusterDNS": [str(instance.services[10])],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{STATE}/resolv.conf",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            # A nearly full disk is the machine's business, not a reason to evict pods or to collect images.
            "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "imageMaximumGCAge": "0s",
        },
        indent=1,
    )


def kube_proxy(instance: Instance) -> str:
    """KubeProxyConfiguration."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": f"{STATE}/kube-proxy.kubeconfig"},
            "mode": "iptables",
            "clusterCIDR": str(instance.network),
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "oomScoreAdj": 0,
            # The connection table's limits belong to the machine.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        },
        indent=1,
    )
