# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What keeps two checkouts' clusters apart."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from testkube import layout
from testkube.layout import MAX_NODES, SLOTS, TEST_NETWORK, Instance, Layout


def test_checkouts_have_names_of_their_own():
    one, two = Layout(Path("/a")), Layout(Path("/b"))
    assert one.id != two.id
    assert one.bridge != two.bridge
    assert one.cgroup != two.cgroup


def test_interface_names_fit_the_kernel():
    assert len(f"{Layout(Path('/a')).bridge}-{MAX_NODES}") <= 15


def test_slots_do_not_overlap_and_stay_in_the_test_range():
    slots = [Instance(slot, 0, 0, 0).network for slot in range(SLOTS)]
    assert all(slot.subnet_of(TEST_NETWORK) for slot in slots)
    assert not any(a.overlaps(b) for i, a in enumerate(slots) for b in slots[i + 1 :])


def test_a_slot_holds_every_network_of_its_cluster():
    instance = Instance(7, 1, 2, 3)
    networks = [instance.nodes, instance.services, *(instance.pods(n) for n in range(1, MAX_NODES + 1))]
    assert all(network.subnet_of(instance.network) for network in networks)
    assert len(set(networks)) == len(networks)
    assert ipaddress.ip_address(instance.node_address(MAX_NODES)) in instance.nodes


def test_a_slot_in_use_is_skipped(monkeypatch):
    taken = Instance(int(Layout(Path("/a")).id, 16) % SLOTS, 0, 0, 0)
    monkeypatch.setattr(layout, "_in_use", lambda: [taken.nodes])
    assert layout._new_instance(Layout(Path("/a"))).slot == (taken.slot + 1) % SLOTS


def test_ports_in_use_are_skipped():
    first = layout._free_ports(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first[0]))
        taken.listen()
        assert first[0] not in layout._free_ports(3)


def test_an_unreadable_record_is_no_record(tmp_path):
    where = Layout(tmp_path)
    where.state.mkdir(parents=True)
    (where.state / "instance.json").write_text('{"slot": 1, "unknown')
    assert layout.load(where) is None
