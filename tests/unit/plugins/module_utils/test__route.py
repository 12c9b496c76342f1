# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which route is taken, and what becomes of one that fails. Pods are boxes of tools on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import engine
import pytest
from copyoptions import endpoint, options
from trees import unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _route
from ansible_collections.kubeferry.pvc.plugins.module_utils._copy import Copy, Options
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint import End, PodPlace
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ConnectionLost,
    Forbidden,
    HelperPodGone,
    NotFound,
    RouteFailed,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._route import (
    Candidate,
    Ends,
    Routed,
    opened_ends,
    routed,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import select
from ansible_collections.kubeferry.pvc.plugins.module_utils._transport import Moved


@dataclass
class Cluster:
    """What places ask of a cluster. `helpers` are the pods that are ours."""

    server: str = "one"
    helpers: tuple[str, ...] = ("a", "b")
    address: str = "127.0.0.1"

    def get_pod(self, namespace, name):
        labels = {"app.kubernetes.io/managed-by": "kubeferry"} if name in self.helpers else {}
        return {"metadata": {"name": name, "labels": labels}, "status": {"podIP": self.address}}


ONE = Cluster()


@pytest.fixture
def ends(boxes, tmp_path):
    """Makes the ends: a pod for each, of the kind and in the cluster that is named."""

    def make(pods=("a", "b"), kinds=("tls", "tls"), clusters=(ONE, ONE), closed=None):
        both = []
        for folder, pod, kind, cluster in zip(("source", "target"), pods, kinds, clusters, strict=True):
            place = tmp_path / folder
            place.mkdir(exist_ok=True)
            if not pod:
                both.append(End(engine.local(place)))
                continue
            runner = f"pod ns/{pod}"
            both.append(End(engine.shell(boxes[kind], place, runner), PodPlace(cluster, "ns", pod, "helper")))
        return Ends(*both, closed or {})

    return make


def chosen(ends, route="auto", transport="tar", closed_routes=None):
    params = {"route": route, "transport": transport, "closed_routes": closed_routes}
    return routed(ends, params, engine.progress())


def copied(ends, transport, tmp_path, **options):
    source, target = ends.source.tree, ends.target.tree
    selection = select(source.path, None, None, None)
    outcome = Copy(source, target, selection, Options(**options), transport, engine.progress()).run()
    assert engine.whole(outcome)
    assert unlike(tmp_path / "source", tmp_path / "target", unit=10**9) == {}
    return outcome


@pytest.mark.parametrize(
    ("options", "route", "reasons"),
    [
        ({"pods": ("a", "a")}, "mount", []),
        ({}, "direct", ["mount: source and target aren't in one pod"]),
        (
            {"closed": {"mount": "no node can have both"}},
            "direct",
            ["mount: no node can have both"],
        ),
        (
            {"kinds": ("tls", "busybox")},
            "stream",
            [
                "mount: source and target aren't in one pod",
                "direct: there is no openssl in pod ns/b, give an image that has it",
            ],
        ),
        (
            {"pods": ("app", "b")},
            "stream",
            ["mount: source and target aren't in one pod", "direct: pod ns/app isn't a helper pod"],
        ),
        (
            {"clusters": (ONE, Cluster("two"))},
            "stream",
            ["mount: source and target aren't in one pod", "direct: source and target aren't in one cluster"],
        ),
        (
            {"clusters": (ONE, Cluster(address=""))},
            "stream",
            ["mount: source and target aren't in one pod", "direct: pod ns/b has no address"],
        ),
        (
            {"pods": ("a", "")},
            "stream",
            [
                "mount: an end is a directory on the machine that runs the task",
                "direct: an end is a directory on the machine that runs the task",
            ],
        ),
    ],
)
def test_the_first_route_that_is_open_is_taken_and_the_others_have_reasons(ends, options, route, reasons):
    transport = chosen(ends(**options))
    assert (transport.route, transport.passed_over) == (route, reasons)


def test_a_route_that_is_asked_for_and_closed_is_refused_with_the_reason(ends):
    with pytest.raises(
        UsageError, match="route: mount can't be taken here, since source and target aren't in one pod"
    ):
        chosen(ends(), "mount")
    with pytest.raises(UsageError, match="there is no openssl in pod ns/a, give an image that has it"):
        chosen(ends(kinds=("busybox", "tls")), "direct")
    with pytest.raises(UsageError, match="rsync needs one end on that machine"):
        chosen(ends(), "direct", transport="rsync")


def test_routes_that_are_said_to_be_closed_are_passed_over(ends):
    transport = chosen(ends(), closed_routes={"mount": "so it was found", "direct": "not here"})
    assert transport.route == "stream"
    assert transport.passed_over == ["mount: so it was found", "direct: not here"]
    transport = chosen(ends(), "stream", closed_routes={"direct": "not here", "stream": "it was cut"})
    assert (transport.route, transport.passed_over) == (
        "stream",
        ["direct: not here", "stream: it was cut"],
    )


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        ({"Mount": "x"}, "closed_routes: Mount is no route: name one of mount, direct, stream."),
        ({"mount": None}, "closed_routes.mount: say in words why it is closed."),
        ({"direct": ["x"]}, "closed_routes.direct: say in words why it is closed."),
    ],
)
def test_what_closes_no_route_is_refused_before_anything_is_opened(closed, said):
    with pytest.raises(UsageError) as caught, opened_ends({"closed_routes": closed}, None, []):
        pass
    assert str(caught.value) == said


def test_an_attempt_is_told_of_beside_routes_that_are_closed(tmp_path):
    here = endpoint(path=str(tmp_path))
    params = options(here, here, closed_routes={"with the first helper pod": "it was lost"})
    with opened_ends(params, engine.progress(), []) as opened:
        assert routed(opened, params, engine.progress()).passed_over == [
            "with the first helper pod: it was lost"
        ]


@pytest.mark.parametrize("pods", [("a", "a"), ("a", "b")])
def test_a_copy_over_the_route_that_was_chosen_is_whole(ends, tmp_path, pods):
    made = ends(pods=pods)
    write(tmp_path / "source", "some/file", b"content")
    copied(made, chosen(made), tmp_path)


def test_who_may_not_look_at_a_pod_streams(ends, monkeypatch):
    def refuse(_cluster, _namespace, _name):
        raise Forbidden("nobody may not get pods")

    monkeypatch.setattr(Cluster, "get_pod", refuse)
    transport = chosen(ends())
    assert (transport.route, transport.passed_over[-1]) == ("stream", "direct: nobody may not get pods")


def test_a_helper_pod_that_is_gone_is_no_route_that_is_closed(ends, monkeypatch):
    def gone(_cluster, namespace, name):
        raise NotFound(f"Pod {namespace}/{name} doesn't exist.")

    made = ends(pods=("a", "kubeferry-b"))
    monkeypatch.setattr(Cluster, "get_pod", gone)
    with pytest.raises(UsageError, match="since Pod ns/a doesn't exist"):
        chosen(made, "direct")
    made = ends(pods=("kubeferry-a", "kubeferry-b"))
    for route in ("direct", "auto"):
        with pytest.raises(HelperPodGone, match=r"^Helper pod ns/kubeferry-a was removed, or has ended"):
            chosen(made, route)


class Failing:
    """A transport that fails in this way, so many times."""

    name = "failing"

    def __init__(self, error, times=1000):
        self.error, self.times = error, times

    def move(self, fresh, changed, checksum):
        if self.times:
            self.times -= 1
            raise self.error
        return Moved(7)


def routes(*transports):
    candidates = [
        Candidate(f"route {number}", str, lambda each=each: each) for number, each in enumerate(transports)
    ]
    return Routed(candidates)


def test_a_route_that_fails_gives_way_to_the_next_in_the_middle_of_a_copy(ends, tmp_path):
    made = ends()
    write(tmp_path / "source", "some/file", b"content")
    stream = chosen(made, "stream")
    transport = routes(Failing(RouteFailed("no way through")), Failing(RouteFailed("nor here")), stream)
    outcome = copied(made, transport, tmp_path)
    assert (transport.route, transport.name) == ("route 2", stream.name)
    assert transport.passed_over == ["route 0: no way through", "route 1: nor here"]
    assert outcome.retries == 0


def test_a_connection_that_is_lost_is_tried_again_once_before_the_next_route():
    transport = routes(Failing(ConnectionLost("cut"), 1), Failing(RouteFailed("never")))
    with pytest.raises(ConnectionLost):
        transport.move((), (), "md5")
    assert transport.move((), (), "md5").bytes == 7
    assert transport.passed_over == []

    transport = routes(Failing(ConnectionLost("cut")), Failing(None, 0))
    with pytest.raises(ConnectionLost):
        transport.move((), (), "md5")
    assert transport.move((), (), "md5").bytes == 7
    assert transport.passed_over == ["route 0: cut"]


def test_the_last_route_keeps_its_retries():
    transport = routes(Failing(ConnectionLost("cut"), 3))
    for _attempt in range(3):
        with pytest.raises(ConnectionLost):
            transport.move((), (), "md5")
    assert transport.move((), (), "md5").bytes == 7
    with pytest.raises(RouteFailed):
        routes(Failing(RouteFailed("never"))).move((), (), "md5")


def test_the_order_is_the_fastest_first():
    assert _route.ORDER == ("mount", "direct", "stream")


MOUNTS = [("data", "/mnt", "deep"), ("cache", "/mnt/pvc-0/cache", None), ("claim", "/mnt/pvc-0", None)]


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/mnt/pvc-0", ". in claim ns/files at one"),
        ("/mnt/pvc-0/a/b", "a/b in claim ns/files at one"),
        ("/mnt/other", "deep/other in claim ns/data at one"),
        ("/mnt/pvc-0/cache/x", "/mnt/pvc-0/cache/x in pod ns/app at one"),
        ("/etc", "/etc in pod ns/app at one"),
    ],
)
def test_a_claim_is_the_same_origin_in_every_pod(path, origin):
    volumes = [
        {"name": "claim", "persistentVolumeClaim": {"claimName": "files"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "cache", "emptyDir": {}},
    ]
    mounts = [{"name": name, "mountPath": at, "subPath": sub} for name, at, sub in MOUNTS]
    containers = [{"name": "other", "volumeMounts": []}, {"name": "main", "volumeMounts": mounts}]

    class Asked(Cluster):
        def get_pod(self, namespace, name):
            return {"spec": {"containers": containers, "volumes": volumes}}

    for container in ("", "main"):
        found = str(PodPlace(Asked(), "ns", "app", container).origin(path))
        assert found.replace(", container main,", "") == origin
    other = str(PodPlace(Asked(), "ns", "app", "other").origin(path))
    assert other == f"{path} in pod ns/app, container other, at one"


def test_a_pod_that_may_not_be_looked_at_has_an_origin():
    class Closed(Cluster):
        def get_pod(self, namespace, name):
            raise Forbidden("You may not get pods.")

    assert str(PodPlace(Closed(), "ns", "app", "").origin("/mnt")) == "/mnt in pod ns/app at one"
