# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What a tree holds: entries, and the manifest file that carries them.

A manifest file is JSON lines: a header, one line for each entry in the order of the path's bytes, and a
footer with the count, so that a truncated file is noticed. Beside it lies the same digests in the
format of `sha256sum -c`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ._errors import ManifestError
from ._names import display, from_json, to_json

FORMAT = 1
FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK = "file", "dir", "symlink", "fifo", "socket", "char", "block"
KINDS = frozenset({FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK})
NANOSECOND, SECOND = 1, 1_000_000_000
DIGEST_BYTES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}


@dataclass(slots=True)
class Entry:
    """One path of a tree.

    `size` in bytes (0 unless a regular file), `mode` the twelve permission bits, `mtime` in nanoseconds
    since the epoch, `link` a symlink's target, `hardlink` the first path of the link group that this
    path belongs to (empty for that first path itself), `device` major and minor, `digest` in lower-case
    hex (empty while not taken). `implied` marks a parent of a selected file: it must exist, and is given
    its attributes only when it is made. `identity` is (device, inode) where the scan found more than one
    link, `stamp` inode and the time of its last change; these two are not part of a manifest file.
    """

    path: bytes
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    link: bytes = b""
    hardlink: bytes = b""
    device: tuple[int, int] = (0, 0)
    digest: str = ""
    implied: bool = False
    identity: tuple[int, int] | None = field(default=None, compare=False)
    stamp: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass
class Manifest:
    """The entries of a tree by path, in the order of the path's bytes (parents before children).

    `precision` is the unit of `mtime` that the endpoint's tools can tell, in nanoseconds. `unreadable`
    names the paths that could not be read, with the reason.
    """

    checksum: str = "sha256"
    precision: int = NANOSECOND
    root: str = ""
    entries: dict[bytes, Entry] = field(default_factory=dict)
    unreadable: dict[bytes, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, path: bytes) -> Entry | None:
        return self.entries.get(path)

    def files(self) -> list[Entry]:
        """Regular files with content of their own (further names of a hard-linked file left out)."""
        return [entry for entry in self if entry.kind == FILE and not entry.hardlink]

    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.files())


def ordered(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    """`entries` by path, in the order of the path's bytes."""
    return {entry.path: entry for entry in sorted(entries, key=lambda entry: entry.path)}


def clean(path: bytes) -> bool:
    """Whether `path` is relative and stays in its tree, and no other name of the same thing."""
    return path == b"." or not (b"\0" in path or {b"", b".", b".."} & set(path.split(b"/")))


def checked(entry: Entry) -> Entry:
    """The entry, if it is one that a file system could hold. Raises ValueError: where it comes from may be hostile."""
    if not clean(entry.path) or (entry.hardlink and not clean(entry.hardlink)):
        raise ValueError("a path that leaves the tree")
    if b"\0" in entry.link or (entry.path == b"." and entry.kind != DIR):
        raise ValueError("no such thing can be")
    if not (0 <= entry.size < 1 << 63 and abs(entry.mtime) < 1 << 80):
        raise ValueError("a size or time that no file has")
    if not all(0 <= number < (1 << 32) - 1 for number in (entry.uid, entry.gid, *entry.device)):
        raise ValueError("an owner or device that no file has")
    return entry


def checked_tree(entries: Mapping[bytes, Entry]) -> None:
    """Raises ValueError where something lies below what is no directory: a way out of the tree through a link."""
    for path in entries:
        above = entries.get(path.rpartition(b"/")[0])
        if above is not None and above.kind != DIR:
            raise ValueError(f"{display(path)} can't lie in a {above.kind}")


def add_parents(taken: dict[bytes, Entry], walked: Mapping[bytes, Entry]) -> None:
    """Add to `taken`, as implied entries, the directories of `walked` that lie above what is taken."""
    for path in list(taken):
        parent = path.rpartition(b"/")[0]
        while parent in walked and parent not in taken:
            taken[parent] = replace(walked[parent], implied=True)
            parent = parent.rpartition(b"/")[0]


def complete(taken: dict[bytes, Entry], walked: Mapping[bytes, Entry]) -> None:
    """Make a part of a manifest stand on its own: with the directories above it, and with first paths of its links."""
    add_parents(taken, walked)
    first: dict[bytes, bytes] = {}
    for path, entry in taken.items():
        if entry.hardlink and entry.hardlink not in taken:
            head = first.setdefault(entry.hardlink, path)
            taken[path] = replace(entry, hardlink=b"" if head == path else head)


def group_links(entries: Mapping[bytes, Entry]) -> None:
    """Set `hardlink` on all but the first path of each group of regular files that share an inode.

    `entries` must be ordered. Entries without an `identity` (read from a file) keep what they have.
    """
    first: dict[tuple[int, int], bytes] = {}
    for path, entry in entries.items():
        if entry.kind == FILE and entry.identity is not None:
            entry.hardlink = first.get(entry.identity, b"")
            first.setdefault(entry.identity, path)


def write(manifest: Manifest, path: str) -> None:
    """Write the manifest to `path`, and its digests beside it; each appears whole or not at all."""
    _replace(path, _lines(manifest))
    _replace(sums_path(path, manifest.checksum), _sums(manifest))


def sums_path(path: str, checksum: str) -> str:
    """Where the digests in the format of `sha256sum -c` lie: `manifest.jsonl` → `manifest.sha256sums`."""
    return f"{os.path.splitext(path)[0]}.{checksum}sums"


def read(path: str) -> Manifest:
    """The manifest in the file `path`. Raises ManifestError."""
    try:
        with open(path, "rb") as stream:
            return _parse(stream, path)
    except OSError as exc:
        raise ManifestError(f"The manifest {path} can't be read: {exc.strerror}.") from exc


def _parse(stream: Iterable[bytes], path: str) -> Manifest:
    manifest = Manifest()
    ended = False
    for number, line in enumerate(stream, 1):
        try:
            record = json.loads(line)
            if ended:
                raise ValueError("a line after the last one")
            if number == 1:
                manifest = _header(record)
            elif "entries" in record:
                ended = record["entries"] == len(manifest.entries)
            elif "unreadable" in record:
                manifest.unreadable[from_json(record["path"])] = str(record["unreadable"])
            else:
                entry = _entry(record)
                manifest.entries[entry.path] = entry
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
            raise ManifestError(
                f"{path}, line {number}, isn't a line of a manifest: write it anew with pvc_manifest."
            ) from exc
    if not ended:
        raise ManifestError(f"The manifest {path} is truncated: write it anew with pvc_manifest.")
    manifest.entries = ordered(manifest.entries.values())
    try:
        checked_tree(manifest.entries)
    except ValueError as exc:
        raise ManifestError(
            f"The manifest {path} is of no tree: {exc}. Write it anew with pvc_manifest."
        ) from exc
    return manifest


def _header(record: dict[str, Any]) -> Manifest:
    if (
        record["kubeferry_manifest"] != FORMAT
        or record["checksum"] not in DIGEST_BYTES
        or record["mtime_unit_ns"] < 1
    ):
        raise ValueError("unknown format")
    return Manifest(checksum=record["checksum"], precision=int(record["mtime_unit_ns"]), root=record["root"])


def _lines(manifest: Manifest) -> Iterator[bytes]:
    yield _line(
        {
            "kubeferry_manifest": FORMAT,
            "checksum": manifest.checksum,
            "mtime_unit_ns": manifest.precision,
            "root": manifest.root,
        }
    )
    for entry in manifest:
        yield _line(_record(entry))
    for path, reason in manifest.unreadable.items():
        yield _line({"path": to_json(path), "unreadable": reason})
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
    return record


def _entry(record: dict[str, Any]) -> Entry:
    if record["type"] not in KINDS:
        raise ValueError("unknown type")
    major, minor = record.get("device", (0, 0))
    entry = Entry(
        path=from_json(record["path"]),
        kind=record["type"],
        size=int(record["size"]),
        mode=int(record["mode"], 8) & 0o7777,
        uid=int(record["uid"]),
        gid=int(record["gid"]),
        mtime=int(record["mtime_ns"]),
        link=from_json(record.get("link", "")),
        hardlink=from_json(record.get("hardlink", "")),
        device=(int(major), int(minor)),
        digest=str(record.get("digest", "")),
        implied=bool(record.get("implied", False)),
    )
    return checked(entry)


def _sums(manifest: Manifest) -> Iterator[bytes]:
    for entry in manifest:
        if entry.kind == FILE and entry.digest:
            yield sums_line(entry.path, entry.digest)


def sums_line(path: bytes, digest: str) -> bytes:
    """A line as GNU coreutils writes it: a name with a newline or backslash is escaped and marked."""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != path else b""
    return mark + digest.encode("ascii") + b"  " + escaped + b"\n"


def _replace(path: str, lines: Iterable[bytes]) -> None:
    temporary = f"{path}.{os.getpid()}.part"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(temporary, "wb") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        raise ManifestError(f"The manifest {path} can't be written: {exc.strerror}.") from exc
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
