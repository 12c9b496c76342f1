# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_manifest`: read a tree, and write down what it holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import islice, zip_longest
from typing import Any

from ._comparison import left_out
from ._endpoint import opened
from ._entry import FILE, Entry
from ._errors import EndpointError, ManifestError
from ._interrupt import interruptible
from ._known import ASKED_AT_ONCE, told
from ._manifest import Manifest
from ._manifest_file import read, require_name, require_own, require_own_sums, sums_path, write
from ._names import display, some
from ._own_files import require_outside
from ._parity import LIST_LIMIT
from ._preflight import require_directory
from ._progress import Progress
from ._selection import select
from ._store import batched


def run(params: Mapping[str, Any], *, check_mode: bool, hidden: bool = False) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_manifest`. Raises KubeferryError's children."""
    if params["dest"]:
        require_name(params["dest"])
        require_own(params["dest"])
        require_own_sums(params["dest"], params["checksum"])
    warnings: list[str] = []
    progress = Progress(label="" if hidden else params["label"] or "")
    with interruptible(), ExitStack() as stack:
        stack.callback(progress.close)
        end = stack.enter_context(opened(params, "source", progress, warnings))
        tree = end.tree
        progress.phase("preflight")
        require_directory(tree.facts(), tree.where)
        selection = select(tree.path, params["files"], params["include"], params["exclude"])
        if params["dest"]:
            require_outside({"dest": params["dest"]}, {"source": end}, selection)
        warnings += left_out(tree, selection)
        manifest = tree.scan(selection)
        manifest.checksum = params["checksum"]
        absent = [n for n in selection.files if n not in manifest and n not in manifest.unreadable]
        if absent:
            raise EndpointError(f"{some(absent)} isn't in {tree.where}: correct the list of files.")
        count, size = manifest.sums(f"kind = '{FILE}'")
        progress.phase("manifest", size, count)
        for paths in batched(manifest.paths(f"kind = '{FILE}'"), ASKED_AT_ONCE):
            manifest.set_digests(
                told(tree.digests(paths, manifest.checksum), manifest.sizes(paths), progress)
            )
    for path in manifest.paths(f"kind = '{FILE}' AND digest = ''"):
        manifest.unreadable.setdefault(path, "can't be read, or vanished while it was")
    if manifest.unreadable:
        raise EndpointError(
            f"{some(list(manifest.unreadable))} in {tree.where} can't be read: exclude what isn't needed, or run as a "
            "user who may read it."
        )
    changed = _write(manifest, params["dest"], check_mode=check_mode) if params["dest"] else False
    return {
        **_result(manifest, params["dest"]),
        "changed": changed,
        "source": tree.where,
        "warnings": warnings,
    }


def _write(manifest: Manifest, path: str, *, check_mode: bool) -> bool:
    """Write the manifest where it differs from what the file holds."""
    try:
        old = read(path, manifest.store) if os.path.exists(path) else None
    except ManifestError:
        old = None
    same = (
        old is not None
        and old.checksum == manifest.checksum
        and all(one == other for one, other in zip_longest(map(_plain, old), map(_plain, manifest)))
    )
    if not same and not check_mode:
        write(manifest, path)
    return not same


def _plain(entry: Entry) -> tuple[object, ...]:
    """What of an entry the file holds."""
    return (
        *(entry.path, entry.kind, entry.size, entry.mode, entry.uid, entry.gid, entry.mtime),
        *(entry.link, entry.hardlink, entry.device, entry.digest, entry.implied, entry.xattrs),
    )


def _result(manifest: Manifest, dest: str | None) -> dict[str, Any]:
    files, size = manifest.totals()
    count = len(manifest)
    return {
        "checksum": manifest.checksum,
        "files": files,
        "bytes": size,
        "count": count,
        "entries": [_shown(entry) for entry in islice(manifest, LIST_LIMIT)],
        "truncated": count > LIST_LIMIT,
        "manifest": dest,
        "sums": sums_path(dest, manifest.checksum) if dest else None,
    }


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "path": display(entry.path),
        "type": entry.kind,
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime": entry.mtime / 1_000_000_000,
        "digest": entry.digest,
    }
