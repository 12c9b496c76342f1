# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_copy`: options in, results out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import islice
from typing import Any

from ._comparison import left_out, not_compared
from ._copy import Copy, Options, Outcome
from ._errors import ExecError, UsageError
from ._interrupt import interruptible
from ._manifest_file import require_own, require_own_sums
from ._names import SHOWN, display
from ._overlap import require_apart_by_name
from ._own_files import require_different, require_outside
from ._parity import LIST_LIMIT, Parity, sentence
from ._plan import CREATE, DELETE, EXTRA, METADATA, REPLACE, Plan
from ._progress import Progress
from ._proofs import directory, utc
from ._report import Hop, record, require_report
from ._route import Ends, Routed, opened_ends, routed
from ._selection import select
from ._staged_tree import StagedTree

HOP = "copy"
"""What it is called in the report without a label."""


def run(params: Mapping[str, Any], *, check_mode: bool, hidden: bool = False) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_copy`. Raises KubeferryError's children.

    A copy that isn't whole is a result with `parity` false and the reason in `msg`.
    """
    files = _own_files(params)
    require_different(files)
    require_report(params["report"])
    if params["baseline"]:
        require_own(params["baseline"])
    if params["target"]["manifest"]:
        require_own_sums(params["target"]["manifest"], params["checksum"])
    warnings: list[str] = []
    progress = Progress(label="" if hidden else params["label"] or "")
    with interruptible(), ExitStack() as stack:
        stack.callback(progress.close)
        ends = stack.enter_context(opened_ends(params, progress, warnings))
        source, target = ends.source.tree, ends.target.tree
        _require_apart(ends)
        if isinstance(target, StagedTree):
            target.take_from(ends.source.origin(), replaces=params["delete"])
        options = Options(
            checksum=params["checksum"],
            metadata=params["metadata"],
            delete=params["delete"],
            baseline=params["baseline"],
            retries=params["retries"],
            check=check_mode,
            on_change=params["on_change"],
            proofs=None if params["reread"] else directory(),
        )
        selection = select(source.path, params["files"], params["include"], params["exclude"])
        require_outside(files, {"source": ends.source, "target": ends.target}, selection)
        transport = routed(ends, params, progress)
        try:
            outcome = Copy(source, target, selection, options, transport, progress).run()
        except ExecError as exc:
            exc.passed_over = transport.passed_over
            raise
        blind = not_compared(source, target, outcome.source, selection, options.metadata)
        warnings += left_out(source, selection)
        hop = _hop(outcome, options, source.where, target.where, transport, blind)
        digest = target.manifest_digest if isinstance(target, StagedTree) else None
        user = target.facts().rights.uid
    result = _result(hop, outcome, params, digest, user, check_mode=check_mode)
    if params["report"] and not check_mode:
        try:
            record(params["report"], params["label"] or HOP, hop)
        except UsageError as exc:
            raise _unrecorded(exc, result) from exc
    return {**result, "warnings": warnings + _restless(hop) + _nothing(hop, params)}


def _own_files(params: Mapping[str, Any]) -> dict[str, str]:
    """The files of the run itself, by the options that name them."""
    files = {option: params[option] for option in ("baseline", "report")}
    files |= {f"{option}.manifest": params[option]["manifest"] for option in ("source", "target")}
    return {option: path for option, path in files.items() if path}


def _unrecorded(exc: UsageError, result: Mapping[str, Any]) -> UsageError:
    """The error for a copy that was made, and of which no report can be written."""
    done = result.get("msg") or f"The copy to {result['target']} was made all the same."
    error = UsageError(f"{exc} {done}")
    error.changed = result["changed"]
    return error


def _require_apart(ends: Ends) -> None:
    """Raises UsageError where the names of both ends tell that one lies in the other.

    A staged source's is what it was copied from. Directories on this machine and in one pod are known by their inodes.
    """
    here, there = ends.source.place, ends.target.place
    if isinstance(ends.source.tree, StagedTree):
        ends.source.tree.give_to(ends.target.origin())
    elif here and there and here.namespace == there.namespace and here.same_cluster(there):
        require_apart_by_name(str(ends.source.origin()), ends.target.origin())


def _hop(
    outcome: Outcome, options: Options, source: str, target: str, transport: Routed, blind: list[str]
) -> Hop:
    return Hop(
        source=source,
        target=target,
        checksum=options.checksum,
        whole=outcome.parity.holds(options.metadata, extra_allowed=not options.delete),
        parity=outcome.parity,
        numbers={
            "files": outcome.files,
            "bytes": outcome.bytes,
            "bytes_planned": outcome.bytes_planned,
            "bytes_moved": outcome.bytes_moved,
            "retries": outcome.retries,
            "seconds": round(outcome.seconds, 3),
        },
        words={
            "transport": transport.name,
            "route": transport.route,
            "passed_over": transport.passed_over,
            "metadata": options.metadata,
            "not_compared": blind,
            "trouble": outcome.trouble,
            "proof": "read" if outcome.proven is None else f"unchanged since {utc(outcome.proven)}",
        },
    )


def _extra_before(outcome: Outcome) -> int:
    """How many paths the target had before the copy that the source hadn't."""
    if outcome.proven is None:
        return outcome.plan.count(DELETE, EXTRA)
    return outcome.parity.true_counts()["extra"]


def _result(
    hop: Hop, outcome: Outcome, params: Mapping[str, Any], digest: str | None, user: int, *, check_mode: bool
) -> dict[str, Any]:
    """What the task returns. `user` is the target's, by number."""
    found = hop.as_dict(LIST_LIMIT)
    result = {
        **found,
        "changed": outcome.plan.count(CREATE, REPLACE, METADATA, DELETE) > len(outcome.plan.unmade),
        "planned": {
            **{action: outcome.plan.count(action) for action in (CREATE, REPLACE, METADATA, DELETE)},
            "extra": _extra_before(outcome),
        },
        "diff": diff(outcome.plan),
        "manifest": params["target"]["manifest"],
        "manifest_digest": digest,
    }
    if hop.whole or check_mode:
        return result
    forgiving = params["on_change"] == "report"
    rest = hop.parity.at_rest() if forgiving else hop.parity
    if rest.holds(params["metadata"], extra_allowed=not params["delete"]):
        return result
    what = sentence(rest, params["metadata"], extra=params["delete"])
    advice = _lasting(rest, user) or "What matches was kept: run again for the rest."
    result["msg"] = f"{hop.target} isn't a whole copy of {hop.source}: {what}. {advice}"
    return result


def _lasting(rest: Parity, user: int) -> str:
    """What to do where nothing but attributes differs, and another run by the target's `user` would leave them so."""
    others = {name: count for name, count in rest.true_counts().items() if name != "changed_at_source"}
    if any(count for name, count in others.items() if name not in {"metadata_differences", "extra"}):
        return ""
    differing = {name for each in rest.metadata.values() for name in each}
    if user and differing & {"uid", "gid"}:
        return (
            f"All contents match, and user {user}, as whom they were copied, can't set owners: set metadata to report, "
            "or copy as root."
        )
    if differing and differing <= {"socket", "device"}:
        return "All contents match, and what is missing can't be made there: set metadata to report."
    return ""


def _restless(hop: Hop) -> list[str]:
    """A warning that names what changed at the source while it was copied."""
    changed = list(hop.parity.changed)
    if not changed:
        return []
    count = hop.parity.true_counts()["changed_at_source"]
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    return [f"{hop.source} changed while it was copied: {', '.join(changed[:SHOWN])}{more}."]


def _nothing(hop: Hop, params: Mapping[str, Any]) -> list[str]:
    """A warning where patterns were given and nothing was chosen by them."""
    if not params["include"] or hop.parity.matched or any(hop.parity.true_counts().values()):
        return []
    return [
        f"Nothing in {hop.source} is chosen by include and exclude: check the patterns if that isn't meant so."
    ]


def diff(plan: Plan) -> dict[str, str]:
    """What differs before and after, one line for each path, for `--diff`."""
    before: list[str] = []
    after: list[str] = []
    for change in islice(plan.changes(), LIST_LIMIT):
        name = display(change.path)
        reasons = ", ".join(change.reasons)
        if change.action == DELETE:
            before.append(name)
            continue
        if change.have is not None:
            before.append(f"{name} ({change.have.kind}, differs in {reasons})")
        if change.want is not None:
            after.append(f"{name} ({change.want.kind}, as at the source)")
    count = plan.count(CREATE, REPLACE, METADATA, DELETE)
    if count > LIST_LIMIT:
        more = f"… and {count - LIST_LIMIT} more paths"
        before.append(more)
        after.append(more)
    return {
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }
