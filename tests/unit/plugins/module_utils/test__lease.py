# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases against an API server in memory, with a clock of its own."""

from __future__ import annotations

import pytest
from fakeapi import FakeApi, sender, status

from ansible_collections.kubeferry.pvc.plugins.module_utils import _lease
from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster_api import ClusterApi
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import BusyError, Forbidden
from ansible_collections.kubeferry.pvc.plugins.module_utils._lease import Hold, Leases
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Rest


class Clock:
    def __init__(self):
        self.now = 0.0
        self.each_second = lambda: None

    def sleep(self, seconds):
        self.now += seconds
        self.each_second()


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(_lease.time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def api():
    return FakeApi()


@pytest.fixture
def leases(api, clock):
    return Leases(ClusterApi(Rest("https://h", list, sender(api))), clock.sleep)


def hold(holder, claim="pvc-0", seconds=30):
    return Hold("ns", claim, holder, seconds)


def test_one_has_it_and_may_take_it_again_and_release_it(api, leases):
    assert leases.take(hold("a")).changed
    assert not leases.take(hold("a")).changed
    assert leases.held_by(hold("b")) == "a"
    assert leases.take(hold("b", claim="other")).changed
    assert not leases.release(hold("b"))
    assert leases.release(hold("a"))
    assert not leases.release(hold("a"))
    assert [each["metadata"]["name"] for each in api.all("leases")] == ["kubeferry-other"]


def test_a_holder_that_lives_is_not_robbed(leases, clock):
    leases.take(hold("a"))
    clock.each_second = lambda: leases.renew(hold("a")) if clock.now % 10 == 0 else None
    with pytest.raises(BusyError, match=r"pvc-0 is being worked on by run a on .*wait for its end"):
        leases.take(hold("b"))
    assert clock.now == 10
    with pytest.raises(BusyError):
        leases.take(hold("b"), wait_seconds=100)
    assert clock.now >= 110
    assert leases.held_by(hold("b")) == "a"


def test_a_dead_holder_is_taken_over_once_its_time_is_over(leases, clock):
    leases.take(hold("a"))
    taken = leases.take(hold("b"))
    assert (taken.changed, taken.from_holder) == (True, "a")
    assert 30 < clock.now <= 32
    assert not leases.renew(hold("a"))
    assert not leases.release(hold("a"))
    assert leases.held_by(hold("a")) == "b"


def test_a_holder_whose_clock_is_hours_behind_is_not_robbed(api, leases, clock):
    leases.take(hold("a", seconds=120))

    def renew():
        if clock.now % 20 == 0:
            leases.renew(hold("a", seconds=120))
        api.all("leases")[0]["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"

    renew()
    clock.each_second = renew
    with pytest.raises(BusyError):
        leases.take(hold("b"), wait_seconds=300)
    assert leases.held_by(hold("b")) == "a"


def test_what_was_released_is_taken_at_once(api, leases, clock):
    leases.take(hold("a"))
    api.all("leases")[0]["spec"]["holderIdentity"] = ""
    assert leases.take(hold("b")).from_holder == ""
    assert clock.now == 0


def test_a_long_lease_that_nobody_renews_is_taken_when_it_is_past_by_the_clock(api, leases, clock):
    leases.take(hold("a", seconds=14400))
    api.all("leases")[0]["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
    assert leases.take(hold("b")).from_holder == "a"
    assert 60 < clock.now <= 62


def test_a_long_lease_that_nobody_renews_is_not_waited_for_to_its_end(leases, clock):
    leases.take(hold("a", seconds=14400))
    with pytest.raises(BusyError):
        leases.take(hold("b"))
    assert clock.now < 70


def test_of_two_at_once_one_gets_it(api, leases, clock):
    api.refuse[("create", "leases")] = [(409, status(409, "already exists"))]
    clock.each_second = lambda: api.all("leases") or leases.take(hold("a"))
    taken = leases.take(hold("b"))
    assert taken.from_holder == "a"


def test_a_lost_race_for_an_expired_lease_starts_the_wait_anew(api, leases, clock):
    leases.take(hold("a"))
    api.refuse[("update", "leases")] = [(409, status(409, "modified"))]
    assert leases.take(hold("b")).from_holder == "a"


def test_missing_rights_are_named(api, leases):
    api.refuse[("get", "leases")] = [(403, status(403, "no"))]
    with pytest.raises(Forbidden, match=r"verb get on leases\.coordination\.k8s\.io in namespace ns"):
        leases.take(hold("a"))
