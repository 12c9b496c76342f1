# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees that break copies, and a reader of trees that shares no code with the engine."""

from __future__ import annotations

import functools
import os
import random
import stat
import tempfile
from dataclasses import dataclass

BILLION = 1_000_000_000
LARGE_ID = 1_000_650_000
NAMES = (
    b"plain",
    b"new\nline",
    b"\nnew line first",
    b"new line last\n",
    b"back\\slash",
    b"two back\\\\slashes",
    b"literal\\n, \\t and \\101",
    b"literal\\x20",
    b"new\nline and back\\slash",
    b"carriage\rreturn and \\ back",
    b"[brackets]",
    b"star*",
    b"quest?ion",
    b"co:lon",
    b"host:path",
    b"-rf",
    b"--help",
    b" leading and trailing ",
    b"\xff\xfe not utf-8",
    "ünïcödé \N{SNOWMAN}".encode(),
    b"n" * 255,
    b"control\x01\x07\x1b\x7f\t",
    b"$(touch pwned) `id`; 'quote' \"double\"",
    b"end",
    b"~",
    b"#hash",
    b"a=b",
    b"...",
    b"..dots",
    b"\\",
    b"*",
)
"""Names that break copies: see the trackers of kubectl cp, rsync and tar."""


@dataclass(frozen=True)
class Seen:
    """One path as this reader found it. `twin` is the first path of the same inode."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime: int
    content: bytes
    device: int
    twin: bytes


def snapshot(root, *, skip=()) -> dict[bytes, Seen]:
    """Everything below `root`, the root included, byte by byte. Sockets and FIFOs aren't opened."""
    found: dict[bytes, Seen] = {}
    first: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(root)
    waiting = [b"."]
    for path in waiting:
        full = os.path.join(base, path)
        status = os.lstat(full)
        kind = stat.S_IFMT(status.st_mode)
        content, twin = b"", path
        if kind == stat.S_IFDIR:
            prefix = b"" if path == b"." else path + b"/"
            waiting += sorted(prefix + name for name in os.listdir(full) if prefix + name not in skip)
        elif kind == stat.S_IFLNK:
            content = os.readlink(full)
        elif kind == stat.S_IFREG:
            content = content_of(full)
        if kind != stat.S_IFDIR:
            twin = first.setdefault((status.st_dev, status.st_ino), path)
        device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        found[path] = Seen(
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            content,
            device,
            twin,
        )
    return dict(sorted(found.items()))


def content_of(path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def touched(root) -> dict[bytes, tuple]:
    """What changes whenever anything is written, renamed or chmodded below `root`: inode and change time too."""
    base = os.fsencode(root)
    identity = {}
    for path in snapshot(root):
        status = os.lstat(os.path.join(base, path))
        identity[path] = (status.st_ino, status.st_ctime_ns, status.st_nlink)
    return {path: (seen, identity[path]) for path, seen in snapshot(root).items()}


def unlike(source, target, *, unit: int = 1, owners: bool = True, skip=()) -> dict[bytes, str]:
    """How the tree at `target` differs from the one at `source`; `unit` is that of times in nanoseconds."""
    want, have = snapshot(source, skip=skip), snapshot(target, skip=skip)
    found = dict.fromkeys(want.keys() - have.keys(), "missing")
    found.update(dict.fromkeys(have.keys() - want.keys(), "extra"))
    for path in want.keys() & have.keys():
        ours, theirs = want[path], have[path]
        pairs = {
            "kind": (ours.kind, theirs.kind),
            "content": (ours.content[:200], theirs.content[:200]),
            "length": (len(ours.content), len(theirs.content)),
            "all content": (ours.content == theirs.content, True),
            "device": (ours.device, theirs.device),
            "twin": (ours.twin, theirs.twin),
            "mtime": (ours.mtime // unit, theirs.mtime // unit),
        }
        if ours.kind != stat.S_IFLNK:
            pairs["mode"] = (oct(ours.mode), oct(theirs.mode))
        if owners:
            pairs["owner"] = ((ours.uid, ours.gid), (theirs.uid, theirs.gid))
        differs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        if differs:
            found[path] = str(differs)
    return found


@functools.cache
def may_make_devices() -> bool:
    """Whether this user may: root mostly, but not in every container."""
    with tempfile.TemporaryDirectory() as place:
        try:
            os.mknod(os.path.join(place, "null"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except OSError:
            return False
    return True


def write(
    root, path: bytes | str, content: bytes = b"", mode: int = 0o644, mtime: int | None = None
) -> bytes:
    """A file below `root`, with the directories above it. Returns its full path."""
    full = os.path.join(os.fsencode(root), os.fsencode(path))
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "wb") as stream:
        stream.write(content)
    os.chmod(full, mode)
    if mtime is not None:
        os.utime(full, ns=(mtime, mtime))
    return full


def plant(root) -> None:
    """Fill `root` with every kind of name and file that this user may make (a socket aside: see `listen`)."""
    make = _Planter(os.fsencode(root))
    make.names()
    make.sizes()
    make.types()
    make.modes()
    make.times()
    make.links()
    if os.geteuid() == 0:
        make.owners()
    make.finish()


class _Planter:
    def __init__(self, root: bytes) -> None:
        self._root = root
        self._random = random.Random(20240229)
        os.makedirs(root, exist_ok=True)

    def at(self, path: bytes) -> bytes:
        return self._root + b"/" + path

    def file(self, path: bytes, size: int = 40, mode: int = 0o644) -> bytes:
        return write(self._root, path, self._random.randbytes(size), mode)

    def names(self) -> None:
        for name in NAMES:
            self.file(b"names/" + name)
            self.file(b"dirs/" + name + b"/" + name)
            os.symlink(name, self.at(b"dirs/" + name + b"/link to it"))
        self.file(b"-rf/--help")
        self.file(b" /  / x")
        self.file(b"/".join([b"d" * 200] * 10) + b"/deep")
        for number in range(40):
            self.file(b"many/%03d" % number)

    def sizes(self) -> None:
        for size in (0, 1, 511, 512, 513, 10240, 300_000):
            self.file(b"sizes/%d" % size, size)
        with open(self.at(b"sizes/sparse"), "wb") as stream:
            stream.truncate(3_000_000)
            stream.seek(2_000_000)
            stream.write(b"in the middle")
        write(self._root, b"sizes/only zeros", bytes(5000))
        write(self._root, b"sizes/like a tar", b"sizes/x".ljust(100, b"\0") + b"0000644\0" * 3 + b"ustar  \0")

    def types(self) -> None:
        for name, to in {
            b"dangling": b"nowhere",
            b"absolute": b"/etc/passwd",
            b"loop": b"loop",
            b"up": b"../../../../../../etc",
            b"to a directory": b"../many",
            b"long": b"l" * 1000,
            b"odd": b"new\nline \xff back\\slash ",
            b"newline last": b"x\n",
        }.items():
            os.makedirs(self.at(b"links"), exist_ok=True)
            os.symlink(to, self.at(b"links/" + name))
        os.makedirs(self.at(b"empty/inside"))
        os.mkfifo(self.at(b"links/fifo"), 0o640)
        for name in (b"links/up", b"links/fifo"):
            os.link(self.at(name), self.at(name + b" again"), follow_symlinks=False)
        if may_make_devices():
            os.makedirs(self.at(b"devices"))
            os.mknod(self.at(b"devices/char"), stat.S_IFCHR | 0o660, os.makedev(1, 3))
            os.mknod(self.at(b"devices/block"), stat.S_IFBLK | 0o600, os.makedev(7, 300))

    def modes(self) -> None:
        for mode in (0o400, 0o444, 0o600, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6711):
            self.file(b"modes/%04o" % mode, mode=mode)
        for mode in (0o700, 0o711, 0o1777, 0o2775, 0o3770):
            os.makedirs(self.at(b"modes/d%04o" % mode))
            self.file(b"modes/d%04o/in it" % mode)
            os.chmod(self.at(b"modes/d%04o" % mode), mode)
        os.mkdir(self.at(b"lost+found"), 0o700)
        self.file(b"read only/file", mode=0o444)
        os.chmod(self.at(b"read only"), 0o555 if os.geteuid() == 0 else 0o755)
        if os.geteuid() == 0:
            self.file(b"modes/none at all", mode=0)

    def times(self) -> None:
        for name, mtime in {
            b"exact": 1_600_000_000 * BILLION + 123_456_789,
            b"before 1970": -315_619_200 * BILLION + 500_000_000,
            b"just before 1970": -1,
            b"minus half a second": -BILLION // 2,
            b"zero": 0,
            b"one nanosecond": 1,
            b"2100": 4_102_444_800 * BILLION + 999_999_999,
        }.items():
            path = self.file(b"times/" + name)
            os.utime(path, ns=(mtime, mtime))
            os.mkdir(self.at(b"times/d " + name))
            os.utime(self.at(b"times/d " + name), ns=(mtime, mtime))
            os.symlink(b"x", self.at(b"times/l " + name))
            if mtime // BILLION != -1:  # BusyBox's touch takes this for an error of its own.
                os.utime(self.at(b"times/l " + name), ns=(mtime, mtime), follow_symlinks=False)

    def links(self) -> None:
        first = self.file(b"hard/one")
        os.makedirs(self.at(b"other"))
        for name in (b"hard/two", b"hard/new\nline", b"other/three"):
            os.link(first, self.at(name))
        big = self.file(b"hard/big", 100_000, 0o4711)
        os.link(big, self.at(b"a first name of big"))

    def owners(self) -> None:
        for name, owner in {
            b"large": (LARGE_ID, LARGE_ID + 1),
            b"half": (65534, 0),
            b"small": (7, 70_000),
        }.items():
            os.chown(self.file(b"owners/" + name, mode=0o4750), *owner)
            os.chmod(self.at(b"owners/" + name), 0o4750)
            os.mkdir(self.at(b"owners/d " + name))
            os.chown(self.at(b"owners/d " + name), *owner)
            os.chmod(self.at(b"owners/d " + name), 0o2770)
            os.symlink(b"large", self.at(b"owners/l " + name))
            os.chown(self.at(b"owners/l " + name), *owner, follow_symlinks=False)

    def finish(self) -> None:
        """Old times for every directory, so that one that is touched by the copying shows."""
        for path, _folders, _files in os.walk(self._root):
            if b"/times/d " not in path:
                os.utime(path, ns=(1_500_000_000 * BILLION + 7, 1_500_000_000 * BILLION + 7))
