# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The work of the module `pvc_manifest`: read a tree, and write down what it holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from . import _manifest
from ._copy import require_directory
from ._endpoint import opened
from ._errors import EndpointError, ManifestError
from ._interrupt import interruptible
from ._manifest import FILE, Manifest
from ._names import display, some
from ._parity import LIST_LIMIT
from ._progress import Progress
from ._selection import select


def run(params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of a task with `params`, the options of `pvc_manifest`. Raises KubeferryError's children."""
    warnings: list[str] = []
    progress = Progress(label=params.get("label") or "")
    with interruptible(), ExitStack() as stack:
        stack.callback(progress.close)
        tree = stack.enter_context(opened(params, "source", progress, warnings))
        progress.phase("preflight")
        require_directory(tree.facts(), tree.where)
        selection = select(tree.path, params["files"], params["include"], params["exclude"])
        manifest = tree.scan(selection)
        manifest.checksum = params["checksum"]
        absent = [n for n in selection.files if n not in manifest.entries and n not in manifest.unreadable]
        if absent:
            raise EndpointError(f"{some(absent)} isn't in {tree.where}: correct the list of files.")
        files = [entry for entry in manifest if entry.kind == FILE]
        progress.phase("manifest", sum(entry.size for entry in files), len(files))
        for path, digest in tree.digests([entry.path for entry in files], manifest.checksum):
            manifest.entries[path].digest = digest
            progress.advance(manifest.entries[path].size, files=1)
    for entry in files:
        if not entry.digest:
            manifest.unreadable.setdefault(entry.path, "can't be read, or vanished while it was")
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
        old = _manifest.read(path) if os.path.exists(path) else None
    except ManifestError:
        old = None
    same = old is not None and (old.checksum, list(map(_plain, old))) == (
        manifest.checksum,
        list(map(_plain, manifest)),
    )
    if not same and not check_mode:
        _manifest.write(manifest, path)
    return not same


def _plain(entry: _manifest.Entry) -> tuple[object, ...]:
    """What of an entry the file holds."""
    return (
        *(entry.path, entry.kind, entry.size, entry.mode, entry.uid, entry.gid, entry.mtime),
        *(entry.link, entry.hardlink, entry.device, entry.digest, entry.implied),
    )


def _result(manifest: Manifest, dest: str | None) -> dict[str, Any]:
    entries = list(manifest)
    return {
        "checksum": manifest.checksum,
        "files": len(manifest.files()),
        "bytes": manifest.total_bytes(),
        "count": len(entries),
        "entries": [_shown(entry) for entry in entries[:LIST_LIMIT]],
        "truncated": len(entries) > LIST_LIMIT,
        "manifest": dest,
        "sums": _manifest.sums_path(dest, manifest.checksum) if dest else None,
    }


def _shown(entry: _manifest.Entry) -> dict[str, Any]:
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
