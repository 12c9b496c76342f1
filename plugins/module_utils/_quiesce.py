# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Stop the workloads that use a claim, and make them what they were.

What a workload was is recorded in an annotation of its own by the very change that stops it, with the claims for which
it is: several may be copied at the same time, and the last of them brings it back. So whoever comes later, on whatever
machine, can bring it back, too. What somebody has started by hand since is recorded anew when it is stopped again. With
each claim is the run that has stopped it: no other starts what that one needs stopped. One that had the claim's lease
is over once another has it. All changes name the version that was read; who was too slow reads again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ._claims import goes_with, users_of
from ._cluster_api import ClusterApi
from ._errors import BusyError, ClusterError, Conflict, Forbidden, Interrupted, KubeferryError, NotFound
from ._helper_spec import is_helper
from ._interrupt import undisturbed
from ._rest import Request
from ._workload_kinds import (
    KINDS,
    QUIESCED,
    Workload,
    api_of,
    controller_of,
    is_to_be_stopped,
    known,
    on_claim,
    stopped_for,
)

_PAUSE = 1.0
_ATTEMPTS = 20


class Quiescer:
    """Stops and restores workloads in one namespace of a cluster.

    `check` is asked before each is stopped, and raises what is to keep it from that. `warnings` tell what was left.
    """

    def __init__(
        self,
        cluster: ClusterApi,
        namespace: str,
        sleep: Callable[[float], None] = time.sleep,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._sleep = sleep
        self._check = check
        self.warnings: list[str] = []

    def find(self, claim: str) -> list[Workload]:
        """The workloads that use a claim, in the order in which they are stopped.

        Raises BusyError for a pod, or a workload, that nothing of ours could bring back.
        """
        pods = self._cluster.list_pods(self._namespace)
        users = _using(pods, claim)
        found = on_claim(self._all(), claim, users)
        for pod in users:
            if goes_with(pod, claim):
                raise BusyError(
                    f"Claim {self._namespace}/{claim} is an ephemeral volume of pod {pod['metadata']['name']} and is "
                    "deleted with it: copy it without quiescing."
                )
            owner = controller_of(pod)
            if owner is None or not known(owner):
                raise BusyError(self._stray(f"Pod {self._namespace}/{pod['metadata']['name']}", claim, owner))
        for workload in found:
            owner = controller_of(workload.item)
            if owner and not known(owner):
                raise BusyError(self._stray(workload.title, claim, owner))
            if not workload.kind.mounts(workload.item, claim):
                raise BusyError(
                    f"{workload.title} has pods of a former template, which use claim {claim} and would not come back "
                    "once they are stopped: finish or undo its rollout, or copy without quiescing."
                )
            if not workload.kind.is_stopped(workload.item) and workload.kind.has_former(workload.item, pods):
                raise BusyError(
                    f"{workload.title} has pods of a former template, in whose place it would make pods of its newest "
                    "one once they are stopped: finish or undo its rollout (with OnDelete, delete those pods), or copy "
                    "without quiescing."
                )
        return found

    def quiesce(
        self, claim: str, wait_seconds: float, runs: Sequence[str] = (), *, leased: bool = False
    ) -> list[Workload]:
        """Stop the workloads that use a claim, and wait until no pod does; those that were stopped for it now.

        `runs` are the run that stops them and dead ones, whose place it takes; `leased` says that it has the claim's
        lease, and so the place of all who had it. Raises BusyError for what another one has stopped, and if pods are
        left in the end; then the workloads are stopped nevertheless.
        """
        deadline = time.monotonic() + wait_seconds
        found = self.find(claim)
        if leased:
            runs = _with_former(runs, found, claim)
        for workload in found:
            self._check_run(workload, claim, runs)
        stopped = [workload for workload in found if self._stop(workload, claim, runs, leased)]
        while users := self._users(claim):
            self._check()
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"Claim {self._namespace}/{claim} is still in use by {_names(users)} after {wait_seconds:.0f} s: "
                    f"{_advice(users)}."
                )
            self._sleep(_PAUSE)
        return stopped

    def restore(self, claim: str = "", runs: Sequence[str] = (), *, leased: bool = False) -> list[Workload]:
        """Bring back what was stopped for a claim, or for any, by one of `runs`, or by any. See `quiesce`.

        Those that are what they were again. Each is tried; then KubeferryError is raised for all that are left.
        """
        found = self._all()
        if leased:
            runs = _with_former(runs, found, claim)
        back: list[Workload] = []
        errors: list[tuple[Workload, KubeferryError]] = []
        for workload in reversed(stopped_for(found, claim, runs)):
            try:
                if self._unmark(workload, claim, runs):
                    back.append(workload)
            except Interrupted:
                raise
            except KubeferryError as exc:
                errors.append((workload, exc))
        self._tidy(found, [each for each in stopped_for(found) if each not in back])
        if errors:
            raise _left_stopped(errors, bool(back))
        return back

    def check_stopped(self, claim: str) -> None:
        """Raises BusyError for what uses a claim again, or is about to, though it was stopped for that."""
        users = self._users(claim)
        found = on_claim(self._all(), claim, users)
        # One that is stopped for other claims alone was started, and then stopped by another run.
        running = [
            each.title
            for each in found
            if not each.kind.is_stopped(each.item) or (each.claims and claim not in each.claims)
        ]
        running += [f"Pod {self._namespace}/{pod['metadata']['name']}" for pod in users]
        if running:
            raise BusyError(
                f"{running[0]} was started before the work on claim {self._namespace}/{claim} was done, so what it has "
                "written may be missing from the copy: leave it stopped, and do it again."
            )

    def keep(self, claim: str, run: str) -> list[Workload]:
        """Leave stopped what a run has stopped for a claim; it doesn't answer for that any more."""
        return [each for each in self.stopped(claim, [run]) if self._let_go(each, claim, run)]

    def record_again(self, claim: str, runs: Sequence[str], known: Sequence[Mapping[str, Any]]) -> None:
        """Give what a run has stopped for a claim, and has no record any more, a new one. See `quiesce`.

        `known` are `kind` and `name` of each, and what it `was`. What somebody has started since stays as it is, and
        what has another record now.
        """
        kinds = {kind.name: kind for kind in KINDS}
        for each in known:
            reference = {"metadata": {"namespace": self._namespace, "name": each["name"]}}
            workload = Workload(kinds[each["kind"]], reference)
            if self._record(workload, claim, runs, each["was"]):
                was = ", ".join(f"{key}: {json.dumps(value)}" for key, value in each["was"].items())
                self.warnings.append(
                    f"{workload.title} is stopped for claim {claim}, and somebody removed its annotation {QUIESCED}: "
                    f"it has it again, with what it was ({was})."
                )

    def stopped(self, claim: str = "", runs: Sequence[str] = (), *, leased: bool = False) -> list[Workload]:
        """The workloads that are stopped for a claim, or for any, by one of `runs`, or by any. See `quiesce`."""
        found = self._all()
        return stopped_for(found, claim, _with_former(runs, found, claim) if leased else runs)

    def _tidy(self, found: Sequence[Workload], stopped: Sequence[Workload]) -> None:
        """Remove the copies of a record from what workloads look after that aren't stopped any more."""
        owners = {(each.kind.name, each.name) for each in stopped}
        for each in found:
            owner = controller_of(each.item)
            if owner is None or is_to_be_stopped(each) or not each.record:
                continue
            if (owner.get("kind"), owner.get("name")) in owners:
                continue
            try:
                self._change(each, _without_record)
            except ClusterError as exc:
                self.warnings.append(
                    f"{each.title} keeps a copy of the annotation {QUIESCED}, which a rollback would bring back to its "
                    f"owner: restore once more when this is mended: {exc}"
                )
                return

    def _all(self) -> list[Workload]:
        found = []
        for kind in KINDS:
            request = Request("list", kind.resource, self._namespace, group=kind.group)
            try:
                items = self._cluster.list_objects(request)
            except (NotFound, Forbidden):
                if not kind.optional:
                    raise
                continue
            found += [Workload(kind, item) for item in items]
        for each in found:
            if each.has_odd_record and is_to_be_stopped(each):
                self._warn(
                    f"{each.title} has an annotation {QUIESCED} that is no record of what it was, so it is passed "
                    "over: remove the annotation, and start the workload by hand if it is stopped."
                )
        return found

    def _warn(self, text: str) -> None:
        """Once, however often it is looked at."""
        if text not in self.warnings:
            self.warnings.append(text)

    def _users(self, claim: str) -> list[dict[str, Any]]:
        return _using(self._cluster.list_pods(self._namespace), claim)

    def _check_run(self, workload: Workload, claim: str, runs: Sequence[str]) -> None:
        run = workload.run_of(claim)
        if runs and run and run not in runs:
            raise BusyError(
                f"{workload.title} is stopped for claim {claim} by run {run}, which may be at work on it without its "
                "lease: wait for its end, or run the playbook kubeferry.pvc.restore if it has died."
            )

    def _stop(self, workload: Workload, claim: str, runs: Sequence[str], leased: bool) -> bool:
        """Stop it, and record what it was, for which claim it is stopped, and by which run.

        False if it was stopped for that claim already.
        """
        before = False

        def change(now: Workload) -> dict[str, Any] | None:
            nonlocal before
            self._check()
            self._check_run(now, claim, runs)
            before = now.is_stopped_for(claim)
            if before and now.run_of(claim) not in runs[1:]:
                return None
            running = not now.kind.is_stopped(now.item)
            # Who has started it by hand has made void what was on record, for other claims as well.
            record = {} if running else now.record
            record = {**record, "claims": sorted({*record.get("claims", ()), claim}), "was": now.was}
            patch = _annotate(_with_run(record, claim, runs[0], leased) if runs else record)
            if running:
                patch["spec"] = now.kind.stop(now.item)
            return patch

        return self._change(workload, change) and not before

    def _unmark(self, workload: Workload, claim: str, runs: Sequence[str]) -> bool:
        """Take a claim from the record; with the last one, the workload is brought back, and True is returned."""
        last = False

        def change(now: Workload) -> dict[str, Any] | None:
            nonlocal last
            over = now.stopped_for(claim, runs)
            left = [each for each in now.claims if each not in over]
            if not over:
                return None
            if left:
                return _annotate(_without_runs({**now.record, "claims": left}, over))
            last = True
            patch: dict[str, Any] = {"metadata": {"annotations": {QUIESCED: None}}}
            if spec := now.kind.back(now.item, now.record.get("was", {})):
                patch["spec"] = spec
            return patch

        return self._change(workload, change) and last

    def _let_go(self, workload: Workload, claim: str, run: str) -> bool:
        def change(now: Workload) -> dict[str, Any] | None:
            return _annotate(_without_runs(now.record, [claim])) if now.run_of(claim) == run else None

        return self._change(workload, change)

    def _record(self, workload: Workload, claim: str, runs: Sequence[str], was: Mapping[str, Any]) -> bool:
        def change(now: Workload) -> dict[str, Any] | None:
            if now.record or not now.kind.is_stopped(now.item):
                return None
            record = {"claims": [claim], "was": was}
            return _annotate(_with_run(record, claim, runs[0], leased=False) if runs else record)

        return self._change(workload, change)

    def _change(self, workload: Workload, change: Callable[[Workload], dict[str, Any] | None]) -> bool:
        """Apply the patch that `change` makes of the newest state; False if it makes none, or nothing is there."""
        now = workload
        kind = workload.kind
        for _attempt in range(_ATTEMPTS):
            try:
                now = replace(now, item=self._cluster.call(self._request("get", workload)))
                patch = change(now)
                if patch is None:
                    return False
                version = now.item["metadata"].get("resourceVersion")
                patch["metadata"] = {**patch.get("metadata", {}), "resourceVersion": version}
                with undisturbed():
                    self._cluster.call(self._request("patch", workload, patch))
                return True
            except NotFound:
                return False
            except Conflict:
                self._sleep(_PAUSE / 5)
        raise Conflict(
            f"{kind.name} {self._namespace}/{workload.name} is being changed by somebody else all the time: try again."
        )

    def _request(self, verb: str, workload: Workload, body: Mapping[str, Any] | None = None) -> Request:
        kind = workload.kind
        return Request(verb, kind.resource, self._namespace, workload.name, body=body, group=kind.group)

    def _stray(self, title: str, claim: str, owner: Mapping[str, Any] | None) -> str:
        if owner is None:
            return (
                f"{title} uses claim {claim} and belongs to no workload that could bring it back: stop it, or copy "
                "without quiescing."
            )
        name = f"{owner.get('kind')} {owner.get('name')}"
        if api_of(owner):
            name += f" of {api_of(owner)}"
        return (
            f"{title} uses claim {claim} and belongs to {name}, which would start it again: stop that by its own "
            "means, or copy without quiescing."
        )


def _using(pods: Sequence[dict[str, Any]], claim: str) -> list[dict[str, Any]]:
    """Those that mount a claim, without helper pods."""
    return [pod for pod in users_of(pods, claim) if not is_helper(pod)]


def _without_record(now: Workload) -> dict[str, Any] | None:
    return {"metadata": {"annotations": {QUIESCED: None}}} if now.record else None


def _with_former(runs: Sequence[str], found: Sequence[Workload], claim: str) -> list[str]:
    """`runs`, and those that had the claim's lease when they stopped something for it."""
    return [*dict.fromkeys([*runs, *filter(None, (each.leased_run_of(claim) for each in found))])]


def _with_run(record: dict[str, Any], claim: str, run: str, leased: bool) -> dict[str, Any]:
    """A record by which a run answers for a claim, whose lease it has or hasn't."""
    rest = _without_runs(record, [claim])
    new = {**rest, "runs": {**rest.get("runs", {}), claim: run}}
    return {**new, "leased": sorted([*rest.get("leased", []), claim])} if leased else new


def _without_runs(record: dict[str, Any], claims: Sequence[str]) -> dict[str, Any]:
    """A record by which no run answers for `claims`."""
    runs = {claim: run for claim, run in record.get("runs", {}).items() if claim not in claims}
    leased = [claim for claim in record.get("leased", []) if claim not in claims]
    rest = {key: value for key, value in record.items() if key not in {"runs", "leased"}}
    return {**rest, **({"runs": runs} if runs else {}), **({"leased": leased} if leased else {})}


def _annotate(record: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"annotations": {QUIESCED: json.dumps(record, sort_keys=True)}}}


def _left_stopped(errors: Sequence[tuple[Workload, KubeferryError]], changed: bool) -> KubeferryError:
    """One error for all workloads that can't be brought back, of the kind of the first."""
    error = type(errors[0][1])(" ".join(f"{each.title} stays stopped: {exc}" for each, exc in errors))
    error.changed = changed
    return error


def _names(pods: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(pod["metadata"]["name"]) for pod in pods[:3])


def _advice(pods: Sequence[Mapping[str, Any]]) -> str:
    """What to do about pods that stay."""
    if not all(pod["metadata"].get("deletionTimestamp") for pod in pods):
        return "look for what scales it up (an operator, a tool that applies manifests), or give more wait_timeout"
    grace = max((pod.get("spec") or {}).get("terminationGracePeriodSeconds") or 0 for pod in pods)
    return (
        f"it is ending, for which it has {grace} s (terminationGracePeriodSeconds), so give more wait_timeout"
    )
