# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Manifests as files.

A manifest file is JSON lines: a header, one line for each entry in the order of the path's bytes, and a
footer with the count, so that a truncated file is noticed. Beside it lies the same digests in the
format of `sha256sum -c`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ._checksum import hasher
from ._entry import BLOCK, CHAR, DIGEST_BYTES, DIR, FILE, KINDS, NANOSECOND, SECOND, SYMLINK, Entry, checked
from ._errors import ManifestError
from ._local_files import open_regular
from ._manifest import Manifest
from ._names import from_json, shown, to_json
from ._store import Store
from ._xattrs import COPIED

FORMAT = 2
_KEY = "kubeferry_manifest"
MOST_HEADER = 1 << 16
_START = b'{"%b":' % _KEY.encode()
FILE_CHECKSUM = "sha256"
"""By which a manifest file itself is known again."""


def write(manifest: Manifest, path: str) -> str:
    """Write the manifest to `path`, and its digests beside it; each appears whole or not at all.

    Returns the digest of the manifest file.
    """
    told = write_alone(manifest, path)
    _replace(sums_path(path, manifest.checksum), _sums(manifest))
    return told


def write_alone(manifest: Manifest, path: str) -> str:
    """Write the manifest to `path`, and nothing beside it."""
    return _replace(path, _lines(manifest))


def sums_path(path: str, checksum: str) -> str:
    """Where the digests in the format of `sha256sum -c` lie: `manifest.jsonl` → `manifest.sha256sums`."""
    return f"{os.path.splitext(path)[0]}.{checksum}sums"


def digest_of(path: str) -> str:
    """The digest of the manifest file `path`; empty where there is none. Raises ManifestError."""
    try:
        with open(path, "rb", opener=open_regular) as stream:
            return hashlib.file_digest(stream, FILE_CHECKSUM).hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def tells_xattrs(path: str) -> bool:
    """Whether whoever wrote the manifest file `path` could tell extended attributes. True for what is no manifest."""
    with contextlib.suppress(OSError, ValueError), open(path, "rb", opener=open_regular) as stream:
        header = json.loads(stream.readline(MOST_HEADER))
        return not (isinstance(header, dict) and header.get("xattrs") is False)
    return True


def require_same(path: str, expected: str, found: str) -> None:
    """Raises ManifestError where a manifest file isn't the one with the digest `expected`; empty expects nothing."""
    if expected and found != expected:
        raise ManifestError(
            f"The manifest {shown(path)} isn't the one that the files were staged with: it was edited, or another copy "
            "has used its staging directory. Give each copy a directory of its own, and run the first hop again."
        )


def read(path: str, store: Store | None = None, expected: str = "") -> Manifest:
    """The manifest in the file `path`, put into `store`.

    Raises ManifestError, also where the file's digest isn't `expected`.
    """
    try:
        with open(path, "rb", opener=open_regular) as stream:
            manifest = _parse(stream, path, store)
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    require_same(path, expected, manifest.file_digest)
    try:
        manifest.require_tree()
    except ValueError as exc:
        raise ManifestError(
            f"The manifest {shown(path)} is of no tree: {exc}. Write it anew with pvc_manifest."
        ) from exc
    return manifest


def require_place(path: str) -> None:
    """Raises ManifestError where `path` is something that a manifest can't take the place of."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ManifestError(
            f"The manifest {shown(path)} can't be written: there is something that is no regular file. Choose another "
            "path."
        )


def require_own(path: str) -> None:
    """Raises ManifestError where `path` is there, and neither empty nor a manifest, whole or not."""
    require_place(path)
    try:
        with open(path, "rb", opener=open_regular) as stream:
            start = stream.read(len(_START))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    if not _START.startswith(start):
        raise ManifestError(f"{shown(path)} exists and isn't a manifest: choose another path, or remove it.")


def require_own_sums(path: str, checksum: str) -> None:
    """Raises ManifestError where the digests beside the manifest `path` would replace something else.

    Lists of digests are all alike: one is ours if the manifest is there.
    """
    sums = sums_path(path, checksum)
    require_place(sums)
    if _filled(sums) and not _filled(path):
        raise ManifestError(
            f"{shown(sums)} exists, and the manifest {shown(path)}, whose digests would go there, doesn't: choose "
            "another path, or remove it."
        )


def _filled(path: str) -> bool:
    return os.path.exists(path) and os.path.getsize(path) > 0


def require_name(path: str) -> None:
    """Raises ManifestError for a name that is that of the digests beside a manifest."""
    for checksum in DIGEST_BYTES:
        if path == sums_path(path, checksum):
            raise ManifestError(
                f"The manifest {shown(path)} can't have this name, which its digests have: end it in .jsonl, say."
            )


def _unreadable(path: str, exc: OSError) -> ManifestError:
    return ManifestError(
        f"The manifest {shown(path)} can't be read ({exc.strerror}): correct its path, or write it anew, by the copy "
        "to the staging directory or with pvc_manifest."
    )


def _parse(stream: Iterable[bytes], path: str, store: Store | None) -> Manifest:
    reader = _Reader(path, store)
    told = hasher(FILE_CHECKSUM)
    reader.manifest.add(reader.entries(_told_of(stream, told)))
    reader.manifest.file_digest = told.hexdigest()
    if not reader.ended or reader.count != len(reader.manifest):
        raise ManifestError(f"The manifest {shown(path)} is truncated: write it anew with pvc_manifest.")
    return reader.manifest


def _told_of(lines: Iterable[bytes], told: hashlib._Hash) -> Iterator[bytes]:
    """The lines, of which `told` is told as they pass."""
    for line in lines:
        told.update(line)
        yield line


class _Reader:
    """Takes a manifest file apart, line by line."""

    def __init__(self, path: str, store: Store | None) -> None:
        self.manifest = Manifest(store=store)
        self.ended = False
        self.count = 0
        self._path = path

    def entries(self, stream: Iterable[bytes]) -> Iterator[Entry]:
        for number, line in enumerate(stream, 1):
            try:
                record = json.loads(line)
                if self.ended:
                    raise ValueError("a line after the last one")
                if number == 1:
                    self._header(record)
                elif "entries" in record:
                    self.ended = record["entries"] == self.count
                elif "unreadable" in record:
                    self.manifest.unreadable[from_json(record["path"])] = str(record["unreadable"])
                elif "restless" in record:
                    self.manifest.restless.append(from_json(record["path"]))
                else:
                    self.count += 1
                    yield _entry(record)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
                raise ManifestError(
                    f"{shown(self._path)}, line {number}, isn't a line of a manifest: write it anew with pvc_manifest."
                ) from exc

    def _header(self, record: dict[str, Any]) -> None:
        if (
            record[_KEY] != FORMAT
            or record["checksum"] not in DIGEST_BYTES
            or record["mtime_unit_ns"] not in (NANOSECOND, SECOND)
            or not isinstance(record["root"], str)
        ):
            raise ValueError("unknown format")
        self.manifest.checksum = record["checksum"]
        self.manifest.precision = int(record["mtime_unit_ns"])
        self.manifest.root = record["root"]
        self.manifest.xattrs = record["xattrs"] is True
        self.manifest.origin = str(record.get("origin", ""))


def _lines(manifest: Manifest) -> Iterator[bytes]:
    header: dict[str, Any] = {
        _KEY: FORMAT,
        "checksum": manifest.checksum,
        "mtime_unit_ns": manifest.precision,
        "root": manifest.root,
        "xattrs": manifest.xattrs,
    }
    if manifest.origin:
        header["origin"] = manifest.origin
    yield _line(header)
    for entry in manifest:
        yield _line(_record(entry))
    for path, reason in manifest.unreadable.items():
        yield _line({"path": to_json(path), "unreadable": reason})
    for path in manifest.restless:
        yield _line({"path": to_json(path), "restless": True})
    yield _line({"entries": len(manifest)})


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def _record(entry: Entry) -> dict[str, Any]:
    record: dict[str, Any] = {
        "path": to_json(entry.path),
        "type": entry.kind,
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime_ns": entry.mtime,
    }
    if entry.digest:
        record["digest"] = entry.digest
    if entry.kind == SYMLINK:
        record["link"] = to_json(entry.link)
    if entry.hardlink:
        record["hardlink"] = to_json(entry.hardlink)
    if entry.kind in (CHAR, BLOCK):
        record["device"] = list(entry.device)
    if entry.implied:
        record["implied"] = True
    if entry.xattrs:
        record["xattrs"] = [
            [to_json(name), base64.b64encode(value).decode("ascii")] for name, value in entry.xattrs
        ]
    return record


def _entry(record: dict[str, Any]) -> Entry:
    if record["type"] not in KINDS:
        raise ValueError("unknown type")
    if record.get("implied") and record["type"] != DIR:
        raise ValueError("just a directory is only a parent of what is selected")
    major, minor = record.get("device", (0, 0))
    entry = Entry(
        path=from_json(record["path"]),
        kind=record["type"],
        size=_number(record["size"]),
        mode=int(record["mode"], 8),
        uid=_number(record["uid"]),
        gid=_number(record["gid"]),
        mtime=_number(record["mtime_ns"]),
        link=from_json(record.get("link", "")),
        hardlink=from_json(record.get("hardlink", "")),
        device=(_number(major), _number(minor)),
        digest=_digest(record.get("digest", "")),
        implied=bool(record.get("implied", False)),
        xattrs=tuple(_xattr(*pair) for pair in record.get("xattrs", ())),
    )
    return checked(entry)


def _number(value: object) -> int:
    """A number as JSON has it: neither a part of one, nor text, nor a truth."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("no whole number")
    return value


def _xattr(name: object, value: str) -> tuple[bytes, bytes]:
    attribute = from_json(name)
    if not COPIED.fullmatch(attribute):
        raise ValueError("no attribute that is copied")
    return attribute, base64.b64decode(value, validate=True)


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]*", text):
        raise ValueError("no digest")
    return text


def _sums(manifest: Manifest) -> Iterator[bytes]:
    for entry in manifest.where(f"kind = '{FILE}' AND digest <> ''"):
        yield sums_line(entry.path, entry.digest)


def sums_line(path: bytes, digest: str) -> bytes:
    """A line as GNU coreutils writes it: a name with a newline or backslash is escaped and marked."""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != path else b""
    return mark + digest.encode("ascii") + b"  " + escaped + b"\n"


def _replace(path: str, lines: Iterable[bytes]) -> str:
    """Put the lines into the file `path`, whole or not at all. Returns their digest."""
    require_place(path)
    temporary = f"{path}.{os.getpid()}.part"
    told = hasher(FILE_CHECKSUM)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(temporary, "wb") as stream:
            stream.writelines(_told_of(lines, told))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        raise ManifestError(
            f"The manifest {shown(path)} can't be written ({exc.strerror}): choose another path, or mend that."
        ) from exc
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return told.hexdigest()
