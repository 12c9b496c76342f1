# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_verify`: compare, and change nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ._comparison import Comparison, Criteria, left_out, not_compared
from ._endpoint import opened
from ._entry import FILE
from ._errors import EndpointError, UsageError
from ._interrupt import interruptible
from ._manifest import Manifest
from ._manifest_tree import ManifestTree
from ._parity import LIST_LIMIT, parity, sentence
from ._preflight import require_directory
from ._progress import Progress
from ._report import Hop, record, require_report
from ._selection import select
from ._transport import AnyTree

HOP = "verify"
"""What it is called in the report without a label."""


def run(params: Mapping[str, Any], *, check_mode: bool, hidden: bool = False) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_verify`. Raises KubeferryError's children.

    A target that differs is a result with `parity` false and the reason in `msg`.
    """
    if not (params["manifest"] or params["source"]):
        raise UsageError("manifest names no file: give the file, or a source in its place.")
    require_report(params["report"])
    warnings: list[str] = []
    progress = Progress(label="" if hidden else params["label"] or "")
    started = time.monotonic()
    with interruptible(), ExitStack() as stack:
        stack.callback(progress.close)
        source: AnyTree | ManifestTree = (
            ManifestTree(params["manifest"], params["manifest_digest"] or "")
            if params["manifest"]
            else stack.enter_context(opened(params, "source", progress, warnings)).tree
        )
        target = stack.enter_context(opened(params, "target", progress, warnings)).tree
        hop = _compare(params, source, target, progress, warnings)
    hop.numbers["seconds"] = round(time.monotonic() - started, 3)
    if params["report"] and not check_mode:
        record(params["report"], params["label"] or HOP, hop)
    result = {**hop.as_dict(LIST_LIMIT), "changed": False, "warnings": warnings}
    if not hop.whole:
        metadata = "strict" if params["metadata"] == "strict" else "ignore"
        what = sentence(hop.parity, metadata, extra=params["extra"] == "fail")
        result["msg"] = f"{hop.target} doesn't match {hop.source}: {what}."
    return result


def _compare(
    params: Mapping[str, Any],
    source: AnyTree | ManifestTree,
    target: AnyTree,
    progress: Progress,
    warnings: list[str],
) -> Hop:
    checksum = params["checksum"] or (source.checksum if isinstance(source, ManifestTree) else "sha256")
    if isinstance(source, ManifestTree) and source.checksum != checksum:
        raise EndpointError(
            f"{source.where} holds {source.checksum} digests and checksum is {checksum}: leave checksum out."
        )
    progress.phase("preflight")
    for tree in (source, target):
        require_directory(tree.facts(), tree.where)
    selection = select(source.path, params["files"], params["include"], params["exclude"])
    comparison = Comparison(source, target, selection, Criteria(checksum, params["metadata"]), progress)
    here, there = comparison.manifests()
    _refuse_undigested(here, source)
    warnings += left_out(source, selection)
    counts = params["extra"] == "fail"
    # A manifest tells nothing of what changed while its files were staged.
    found = parity(comparison.plan(here, there), here, there, extra_counts=counts).at_rest()
    return Hop(
        source=source.where,
        target=target.where,
        checksum=checksum,
        whole=found.holds(params["metadata"], extra_allowed=not counts),
        parity=found,
        numbers=dict(zip(("files", "bytes"), here.totals(), strict=True)),
        words={
            "metadata": params["metadata"],
            "not_compared": not_compared(source, target, here, selection, params["metadata"]),
        },
    )


def _refuse_undigested(manifest: Manifest, source: AnyTree | ManifestTree) -> None:
    """A manifest file without digests proves nothing, however well the sizes match."""
    if isinstance(source, ManifestTree) and manifest.sums(f"kind = '{FILE}' AND digest = ''")[0]:
        raise EndpointError(f"{source.where} lacks digests of some files: write it anew with pvc_manifest.")
