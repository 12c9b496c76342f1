# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Where one checkout's cluster keeps its files, and which names, addresses and ports are its own.

Two checkouts on one machine must be able to run side by side, so each derives a short id from its path
and takes a slot of addresses that nothing else on the machine uses.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import shutil
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .errors import ClusterError
from .proc import mutex, run

# RFC 2544 reserves this range for tests between hosts of one's own, so no real network is shadowed by it.
TEST_NETWORK = ipaddress.IPv4Network("198.18.0.0/15")
SLOT_PREFIX = 20
SLOTS = 2 ** (SLOT_PREFIX - TEST_NETWORK.prefixlen)
FIRST_PORT = 21000  # below the kernel's range of ephemeral ports
MAX_NODES = 14  # as many networks for pods as a slot has beside the nodes' and the Services'
PORTS = 3  # the API server, etcd, etcd's peers
PORTS_PER_SLOT = 16


@dataclass(frozen=True)
class Layout:
    """The paths and names that follow from where the checkout is."""

    checkout: Path

    @property
    def id(self) -> str:
        """Six hex digits: short enough for an interface name."""
        return hashlib.sha256(os.fsencode(self.checkout)).hexdigest()[:6]

    @property
    def state(self) -> Path:
        """The one directory, git-ignored, that holds all of the cluster's files."""
        return self.checkout / ".cache" / "cluster"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        """One log file per service."""
        return self.state / "logs"

    @property
    def volumes(self) -> Path:
        """What the claims hold: ``volumes/NAMESPACE/CLAIM``."""
        return self.state / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def bridge(self) -> str:
        """The host's interface on the network that joins the nodes."""
        return f"kf{self.id}"

    @property
    def cgroup(self) -> str:
        """The parent of every cgroup that the cluster makes."""
        return f"kubeferry-{self.id}"


@dataclass(frozen=True)
class Instance:
    """What one cluster was given when it first started; recorded, so that it keeps it."""

    slot: int
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    node_count: int = 1

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The slot: every address that the cluster uses."""
        first = int(TEST_NETWORK.network_address) + self.slot * 2 ** (32 - SLOT_PREFIX)
        return ipaddress.IPv4Network((first, SLOT_PREFIX))

    def _part(self, number: int) -> ipaddress.IPv4Network:
        return list(self.network.subnets(new_prefix=24))[number]

    @property
    def nodes(self) -> ipaddress.IPv4Network:
        """The network of the host's bridge and the nodes."""
        return self._part(0)

    @property
    def services(self) -> ipaddress.IPv4Network:
        """The range of Service addresses."""
        return self._part(1)

    @property
    def host_address(self) -> str:
        """The host, as nodes and pods see it; the API server is reached there from inside."""
        return str(self.nodes[1])

    def node_address(self, number: int) -> str:
        """The address of node ``number`` (from 1)."""
        return str(self.nodes[10 + number])

    def pods(self, number: int) -> ipaddress.IPv4Network:
        """The pods' addresses on node ``number`` (from 1)."""
        return self._part(1 + number)


def _record(layout: Layout) -> Path:
    return layout.state / "instance.json"


def load(layout: Layout) -> Instance | None:
    """The recorded instance, or None if this checkout has no cluster."""
    try:
        return Instance(**json.loads(_record(layout).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _in_use() -> list[ipaddress.IPv4Network]:
    """Every IPv4 network that the machine has an address in or a route to."""
    used = []
    for link in json.loads(run(["ip", "-j", "-4", "addr"]).stdout):
        used += [
            ipaddress.ip_network(f"{a['local']}/{a['prefixlen']}", strict=False) for a in link["addr_info"]
        ]
    for route in json.loads(run(["ip", "-j", "-4", "route"]).stdout):
        if route["dst"] != "default":
            used.append(ipaddress.ip_network(route["dst"], strict=False))
    # a route to all of 0.0.0.0/1 or so is a VPN's default route, not a use of these addresses
    return [net for net in used if isinstance(net, ipaddress.IPv4Network) and net.prefixlen >= 8]


def _free_ports(slot: int) -> tuple[int, int, int]:
    free = []
    for port in range(FIRST_PORT + slot * PORTS_PER_SLOT, FIRST_PORT + (slot + 1) * PORTS_PER_SLOT):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
    if len(free) < PORTS:
        raise ClusterError(f"Fewer than {PORTS} ports are free from {FIRST_PORT + slot * PORTS_PER_SLOT} on.")
    return free[0], free[1], free[2]


def _is_free(slot: int, used: list[ipaddress.IPv4Network]) -> bool:
    network = Instance(slot, 0, 0, 0).network
    return not any(network.overlaps(net) for net in used)


def claim(layout: Layout, *, running: bool, node_count: int) -> Instance:
    """The cluster's slot and ports: the recorded ones if there are any and they are still free, else new ones.

    The bridge is the claim to a slot: once it has its address, no other checkout finds the slot free.
    ``running`` says that the recorded ports are in use by this very cluster. A cluster never loses nodes.
    Raises ClusterError if another cluster has taken the slot since (both were down): certificates and Services
    are tied to its addresses.
    """
    with mutex("kubeferry-cluster-addresses", 30):
        recorded = load(layout)
        has_bridge = run(["ip", "link", "show", layout.bridge], check=False).returncode == 0
        if recorded and not has_bridge and not _is_free(recorded.slot, _in_use()):
            raise ClusterError(
                "Another cluster took this one's addresses; `cluster down`, then `cluster up`."
            )
        instance = recorded or _new_instance(layout)
        instance = replace(instance, node_count=max(instance.node_count, node_count))
        if not running:
            instance = Instance(instance.slot, *_free_ports(instance.slot), node_count=instance.node_count)
        if not has_bridge:
            run(["ip", "link", "add", layout.bridge, "type", "bridge"])
        address = f"{instance.host_address}/{instance.nodes.prefixlen}"
        run(["ip", "address", "replace", address, "dev", layout.bridge])
        run(["ip", "link", "set", layout.bridge, "up"])
        if instance != recorded:
            layout.state.mkdir(parents=True, exist_ok=True)
            _record(layout).write_text(json.dumps(asdict(instance), indent=1) + "\n")
    return instance


def _new_instance(layout: Layout) -> Instance:
    used = _in_use()
    start = int(layout.id, 16)
    for slot in ((start + step) % SLOTS for step in range(SLOTS)):
        if _is_free(slot, used):
            return Instance(slot, *_free_ports(slot))
    raise ClusterError(f"No part of {TEST_NETWORK} is free on this machine for a cluster's addresses.")


def delete_bridge(layout: Layout) -> None:
    """Remove the bridge and the ends of the nodes' links that are plugged into it."""
    if shutil.which("ip") is None:
        return  # then there cannot be one
    for link in json.loads(run(["ip", "-j", "link"]).stdout):
        if link["ifname"] == layout.bridge or link["ifname"].startswith(f"{layout.bridge}-"):
            # a link goes by itself a moment after its node, so it may be gone by now
            run(["ip", "link", "delete", link["ifname"]], check=False)
