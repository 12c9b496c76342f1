# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_copy`: options in, results out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ._copy import Copy, Options, Outcome
from ._endpoint import opened
from ._interrupt import interruptible
from ._names import display
from ._parity import LIST_LIMIT, sentence
from ._plan import CREATE, DELETE, METADATA, REPLACE, Plan
from ._progress import Progress
from ._report import Hop, record
from ._selection import select
from ._transport import choose


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_copy`. Raises KubeferryError's children.

    A copy that isn't whole is a result with `parity` false and the reason in `msg`.
    """
    warnings: list[str] = []
    progress = Progress(label=params.get("label") or "")
    with interruptible(), ExitStack() as stack:
        stack.callback(progress.close)
        source = stack.enter_context(opened(params, "source", progress, warnings))
        target = stack.enter_context(opened(params, "target", progress, warnings))
        options = Options(
            checksum=params["checksum"],
            metadata=params["metadata"],
            delete=params["delete"],
            retries=params["retries"],
            check=check_mode,
        )
        selection = select(source.path, params["files"], params["include"], params["exclude"])
        transport = choose(params["transport"], source, target)
        outcome = Copy(source, target, selection, options, transport, progress).run()
        hop = _hop(outcome, options, source.where, target.where, transport.name)
    if params["report"] and not check_mode:
        record(params["report"], params["label"] or "copy", hop)
    return {
        **_result(hop, outcome, params, check_mode=check_mode),
        "warnings": warnings,
    }


def _hop(outcome: Outcome, options: Options, source: str, target: str, transport: str) -> Hop:
    return Hop(
        source=source,
        target=target,
        checksum=options.checksum,
        whole=outcome.parity.holds(options.metadata, extra_allowed=not options.delete),
        parity=outcome.parity,
        numbers={
            "files": len(outcome.source.files()),
            "bytes": outcome.source.total_bytes(),
            "bytes_planned": outcome.bytes_planned,
            "bytes_moved": outcome.bytes_moved,
            "retries": outcome.retries,
            "seconds": round(outcome.seconds, 3),
        },
        words={"transport": transport, "metadata": options.metadata, "trouble": outcome.trouble},
    )


def _result(hop: Hop, outcome: Outcome, params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    found = hop.as_dict(LIST_LIMIT)
    result = {
        **found,
        "changed": bool(outcome.plan.changes),
        "planned": {
            action: len(outcome.plan.by_action(action)) for action in (CREATE, REPLACE, METADATA, DELETE)
        },
        "diff": diff(outcome.plan),
        "manifest": params["target"]["manifest"],
    }
    if not hop.whole and not check_mode:
        what = sentence(hop.parity.as_dict(), str(hop.words["metadata"]), extra=params["delete"])
        result["msg"] = (
            f"{hop.target} isn't a whole copy of {hop.source}: {what}. What matches was kept: run again for the rest."
        )
    return result


def diff(plan: Plan) -> dict[str, str]:
    """What differs before and after, one line for each path, for `--diff`."""
    before: list[str] = []
    after: list[str] = []
    for change in plan.changes[:LIST_LIMIT]:
        name = display(change.path)
        reasons = ", ".join(change.reasons)
        if change.have is not None:
            before.append(f"{name} ({change.have.kind}, differs in {reasons})" if change.want else name)
        if change.want is not None:
            after.append(f"{name} ({change.want.kind}, as at the source)")
    if len(plan.changes) > LIST_LIMIT:
        more = f"… and {len(plan.changes) - LIST_LIMIT} more paths"
        before.append(more)
        after.append(more)
    return {
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }
