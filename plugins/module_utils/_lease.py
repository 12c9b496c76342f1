# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A Lease for each claim that is worked on: who has it excludes others, on whatever machine they run.

It works as the leader election of Kubernetes' own programs does (client-go, tools/leaderelection): the holder renews
the lease, and who wants it takes it over when it wasn't renewed for its whole duration *while being watched*. So the
clocks of two machines needn't agree. Only a lease that nobody renews, and that is valid for hours, is judged by them.
All writes name the version that was read, so that only one of two can succeed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ._cluster_api import ClusterApi, Object
from ._errors import BusyError, Conflict, NotFound
from ._helper_spec import CLAIM, MANAGED_BY, as_label
from ._rest import Request

GROUP = "coordination.k8s.io/v1"
HOST = "kubeferry.io/host"

LONGEST_LOOK = 60.0
"""The seconds after which a lease that wasn't renewed while being watched is one that nobody renews."""

_PAUSE = 1.0
# No two clocks that TLS works with are further apart.
_SKEW = timedelta(minutes=10)


@dataclass(frozen=True)
class Hold:
    """The lease of a claim, as `holder` has it or wants it; `seconds` is how long it is valid unless renewed."""

    namespace: str
    claim: str
    holder: str
    seconds: int = 30

    @property
    def name(self) -> str:
        return f"kubeferry-{as_label(self.claim, 50)}"


@dataclass(frozen=True)
class Taken:
    """`changed` tells whether the lease had to be taken; `from_holder` from which run that had let it expire."""

    changed: bool
    from_holder: str = ""


class Leases:
    """Takes, renews and releases leases in one cluster."""

    def __init__(self, cluster: ClusterApi, sleep: Callable[[float], None] = time.sleep) -> None:
        self._cluster = cluster
        self._sleep = sleep

    def take(self, hold: Hold, wait_seconds: float = 0.0) -> Taken:
        """Take the lease. Whoever is alive is waited for `wait_seconds`, whoever is dead until the lease has expired.

        Raises BusyError, which names the holder, and the errors of a request.
        """
        started = since = time.monotonic()
        seen, alive = "", False
        while True:
            found = self._get(hold)
            if found is None or _holder(found) == hold.holder or self._is_over(found, since, seen):
                if taken := self._write(hold, found):
                    return taken
                self._sleep(_PAUSE / 10)  # somebody was quicker: look again
                continue
            version = str(found["metadata"].get("resourceVersion"))
            if version != seen:
                alive, seen, since = bool(seen), version, time.monotonic()
            now = time.monotonic()
            looked = alive or now - since > min(_duration(found), LONGEST_LOOK) + 2 * _PAUSE
            if looked and now - started >= wait_seconds:
                raise BusyError(_busy(hold, found))
            self._sleep(_PAUSE)

    def renew(self, hold: Hold) -> bool:
        """Say that the holder lives; False if the lease isn't the holder's any more."""
        found = self._get(hold)
        if found is None or _holder(found) != hold.holder:
            return False
        return self._write(hold, found) is not None

    def release(self, hold: Hold) -> bool:
        """Let others have it; False if it isn't the holder's."""
        found = self._get(hold)
        if found is None or _holder(found) != hold.holder:
            return False
        metadata = found["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {key: metadata[key] for key in ("uid", "resourceVersion")},
        }
        try:
            self._cluster.call(Request("delete", "leases", hold.namespace, hold.name, body=body, group=GROUP))
        except NotFound:
            return False
        except Conflict:  # renewed in between, most likely
            return self.release(hold)
        return True

    def held_by(self, hold: Hold) -> str:
        """Who has the lease now; empty if nobody."""
        found = self._get(hold)
        return "" if found is None else _holder(found)

    def check(self, hold: Hold) -> None:
        """Raises BusyError if it isn't the holder's. Whoever has lost it never has it again without taking it."""
        holder = self.held_by(hold)
        if holder != hold.holder:
            raise BusyError(
                f"Run {hold.holder} has lost the lease {hold.name} of claim {hold.namespace}/{hold.claim} "
                f"({f'run {holder} has it' if holder else 'nobody has it'}), so another may have been at work on the "
                "claim: do it again."
            )

    def _get(self, hold: Hold) -> Object | None:
        try:
            return self._cluster.call(Request("get", "leases", hold.namespace, hold.name, group=GROUP))
        except NotFound:
            return None

    def _is_over(self, found: Object, since: float, seen: str) -> bool:
        if not _holder(found):
            return True
        if str(found["metadata"].get("resourceVersion")) != seen:
            return False
        unchanged = time.monotonic() - since
        if unchanged > _duration(found):
            return True
        return unchanged > LONGEST_LOOK and _is_past(found)

    def _write(self, hold: Hold, found: Object | None) -> Taken | None:
        """Make the lease the holder's; None if somebody was quicker."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = _holder(found) if found else ""
        spec: dict[str, Any] = dict(found["spec"]) if found else {}
        if before != hold.holder:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + bool(found)
            spec["acquireTime"] = now
        spec.update(holderIdentity=hold.holder, leaseDurationSeconds=hold.seconds, renewTime=now)
        metadata: dict[str, Any] = {
            "name": hold.name,
            "namespace": hold.namespace,
            "labels": {MANAGED_BY: "kubeferry"},
            "annotations": {CLAIM: hold.claim, HOST: socket.gethostname()},
        }
        if found:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        body = {"apiVersion": GROUP, "kind": "Lease", "metadata": metadata, "spec": spec}
        verb = "update" if found else "create"
        try:
            self._cluster.call(Request(verb, "leases", hold.namespace, hold.name, body=body, group=GROUP))
        except (Conflict, NotFound) as exc:
            if isinstance(exc, NotFound) and not found:
                raise  # the namespace is missing
            return None
        return Taken(before != hold.holder, before if before != hold.holder else "")


def _holder(found: Object) -> str:
    return str((found.get("spec") or {}).get("holderIdentity") or "")


def _duration(found: Object) -> float:
    return float((found.get("spec") or {}).get("leaseDurationSeconds") or 0)


def _is_past(found: Object) -> bool:
    """Whether a lease is over by the clocks of its holder and of this machine."""
    try:
        renewed = datetime.fromisoformat(str(found["spec"].get("renewTime")))
    except ValueError:
        return False
    return datetime.now(UTC) - renewed > timedelta(seconds=_duration(found)) + _SKEW


def _busy(hold: Hold, found: Object) -> str:
    host = (found["metadata"].get("annotations") or {}).get(HOST) or "an unknown machine"
    return (
        f"Claim {hold.namespace}/{hold.claim} is being worked on by run {_holder(found)} on {host}, which holds the "
        f"lease {hold.name}: wait for its end, or give more wait_timeout (migrate_lease_timeout of the role migrate)."
    )
