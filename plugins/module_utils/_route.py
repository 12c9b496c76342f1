# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Routes: the way that contents take from pod to pod. Which one is open is found out here, and by trying.

A route is a transport, and the engine knows nothing else of it: manifests, plan, proof and retries are those of any
copy. So a route that fails in the middle is replaced by the next, and what has arrived by then stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ._carry import carrying
from ._endpoint import End, PodPlace, opened, opened_in_one_pod
from ._entry import Entry
from ._errors import ClusterError, ConnectionLost, HelperPodError, RouteFailed, UsageError, route_closed
from ._link import PodLink
from ._names import shown
from ._progress import Progress
from ._shell_tree import ShellTree
from ._tls_link import TlsLink
from ._transport import Moved, Transport, choose

AUTO, MOUNT, DIRECT, STREAM = "auto", "mount", "direct", "stream"
ORDER = (MOUNT, DIRECT, STREAM)
"""What C(auto) tries, the fastest first."""


@dataclass(frozen=True)
class Ends:
    """Both ends of a copy, and why routes are closed to them that is known from opening them."""

    source: End
    target: End
    closed: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def opened_ends(params: Mapping[str, Any], progress: Progress, warnings: list[str]) -> Iterator[Ends]:
    """Source and target of `params`; where the route asks for it, two claims in one pod.

    Raises UsageError for options that don't fit together, and the errors of mounting a claim.
    """
    _require_routes(params["closed_routes"] or {})
    closed = {}
    claims = all(params[option].get("pvc") for option in ("source", "target"))
    with ExitStack() as stack:
        if claims and params["route"] in (MOUNT, AUTO):
            try:
                ends = Ends(*stack.enter_context(opened_in_one_pod(params, progress, warnings)))
            except (RouteFailed, HelperPodError) as exc:
                if params["route"] == MOUNT:
                    raise route_closed(MOUNT, str(exc)) from exc
                closed[MOUNT] = str(exc)
            else:
                yield ends
                return
        source, target = (
            stack.enter_context(opened(params, option, progress, warnings)) for option in ("source", "target")
        )
        yield Ends(source, target, closed)


def _require_routes(closed: Mapping[str, Any]) -> None:
    """Raises UsageError for a word that is no route, which would leave the one open that was meant, and for no reason.

    Several words are no route's name misspelt: they tell of an attempt.
    """
    for route, why in closed.items():
        if route not in ORDER and " " not in route.strip():
            raise UsageError(f"closed_routes: {shown(route)} is no route: name one of {', '.join(ORDER)}.")
        if not (isinstance(why, str) and why):
            raise UsageError(f"closed_routes.{route}: say in words why it is closed.")


@dataclass(frozen=True)
class Candidate:
    """A route that may be taken: why it isn't open, empty if it is, and what makes its transport."""

    route: str
    why_not: Callable[[], str]
    make: Callable[[], Transport]


class Routed:
    """A transport that goes on with the next route where one isn't open or fails; `passed_over` says why.

    Raises UsageError where none is open.
    """

    def __init__(self, candidates: Sequence[Candidate], passed_over: Sequence[str] = ()) -> None:
        self._candidates = list(candidates)
        self.passed_over = list(passed_over)
        self._lost = False
        self._take()

    @property
    def name(self) -> str:
        return self._transport.name

    def move(self, fresh: Sequence[Entry], changed: Sequence[Entry], checksum: str) -> Moved:
        while True:
            try:
                return self._transport.move(fresh, changed, checksum)
            except (RouteFailed, ConnectionLost) as exc:
                # A connection that is lost once is tried again, as on any route.
                again = not isinstance(exc, RouteFailed) and not self._lost
                self._lost = True
                if again or not self._candidates:
                    raise
                self.passed_over.append(f"{self.route}: {exc}")
                self._take()

    def _take(self) -> None:
        """Take the first of the candidates that is open."""
        candidate = self._candidates.pop(0)
        while why := candidate.why_not():
            if not self._candidates:
                raise route_closed(candidate.route, why)
            self.passed_over.append(f"{candidate.route}: {why}")
            candidate = self._candidates.pop(0)
        self.route, self._transport = candidate.route, candidate.make()
        self._lost = False


def routed(ends: Ends, params: Mapping[str, Any], progress: Progress) -> Routed:
    """The transport for the `route` and `transport` of `params`. Raises UsageError where they can't be had."""
    route, transport = params["route"], params["transport"]
    source, target = ends.source.tree, ends.target.tree
    makers: dict[str, Callable[[], Transport]] = {
        MOUNT: lambda: _mounted(ends, progress),
        DIRECT: lambda: _direct(ends, progress),
        STREAM: lambda: choose(transport, source, target, progress),
    }
    told = params["closed_routes"] or {}
    closed = {**told, **ends.closed} if route == AUTO else ends.closed
    wanted = ORDER if route == AUTO else ()

    def why_not(each: str) -> str:
        try:
            return str(closed.get(each) or _why_not(each, ends, transport))
        except ClusterError as exc:
            return str(exc)  # who may not look at a pod can still copy

    candidates = [Candidate(each, partial(why_not, each), makers[each]) for each in wanted or (route,)]
    return Routed(candidates, [f"{each}: {why}" for each, why in told.items() if each not in wanted])


def _why_not(route: str, ends: Ends, transport: str) -> str:
    """Why a route isn't open, as far as that can be known without trying; empty if it is."""
    if route == STREAM:
        return ""
    here, there = ends.source.place, ends.target.place
    if here is None or there is None:
        return "an end is a directory on the machine that runs the task"
    if transport == "rsync":
        return "rsync needs one end on that machine"
    for end in (ends.source.tree, ends.target.tree):
        if "dd" not in end.facts().tools:
            return f"{end.where} has no dd"
    if route == MOUNT:
        return "" if here.same_pod(there) else "source and target aren't in one pod"
    return _why_not_direct(ends, here, there)


def _why_not_direct(ends: Ends, here: PodPlace, there: PodPlace) -> str:
    """A pod of the user's doesn't get to write an archive that root unpacks, nor does a port open in it."""
    if not here.same_cluster(there):
        return "source and target aren't in one cluster"
    if here.same_pod(there):
        return "source and target are in one pod"
    for end, place in ((ends.source, here), (ends.target, there)):
        if not place.is_helper():
            return f"{place.where} isn't a helper pod"
        if "openssl" not in end.tree.facts().tools:
            return f"there is no openssl in {place.where}, give an image that has it"
    return "" if there.address() else f"{there.where} has no address"


def _mounted(ends: Ends, progress: Progress) -> Transport:
    source, target = _shells(ends)
    return carrying(PodLink(source.pieces().place, target.pieces().place), source, target, progress)


def _direct(ends: Ends, progress: Progress) -> Transport:
    source, target = _shells(ends)
    address = ends.target.place.address() if ends.target.place else ""
    link = TlsLink(source.pieces().place, target.pieces().place, address)
    return carrying(link, source, target, progress)


def _shells(ends: Ends) -> tuple[ShellTree, ShellTree]:
    source, target = ends.source.tree, ends.target.tree
    if not isinstance(source, ShellTree) or not isinstance(target, ShellTree):
        raise RouteFailed("an end isn't in a pod")
    return source, target
