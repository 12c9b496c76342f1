# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A directory on the machine that runs the task."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Sequence

from ._entry import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK, Entry, Taken
from ._errors import BusyError, EndpointError
from ._file_system import WRITTEN_OUT, Shown, what_shows
from ._folder import Folder
from ._leftovers import clear, foreign, foreign_in, keeps_parts, set_aside, strangers
from ._local_attributes import LocalAttributes
from ._local_files import digest_of, opened, taken, trouble, what_can_be_read
from ._local_hold import held_above, inside
from ._local_pieces import LocalPieces, LocalPlace
from ._local_receiving import Receiving
from ._local_rows import rows
from ._local_steps import attempt, discard, move, remove, rmdir, strip_one
from ._look import Look
from ._manifest import Manifest
from ._mounts import mounted_below, mounts_here
from ._names import display, encode, parents, shown
from ._progress import Progress
from ._selection import WORK_DIR, Selection
from ._store import Store
from ._tree import FLUSH_SECONDS, Changes, Facts, Incoming
from ._walk import Walk


class LocalTree:
    """Implements `TargetTree` with system calls."""

    near = True

    def __init__(self, path: str, progress: Progress, attributes: LocalAttributes | None = None) -> None:
        self._path = path
        self._root = encode(os.path.abspath(path))
        self._work = WORK_DIR + b"/run-" + secrets.token_hex(6).encode()
        self._lock: int | None = None
        self._attributes = attributes or LocalAttributes()
        self._receiving = Receiving(self._root, self._work + b"/tree", self._attributes, progress)

    @property
    def where(self) -> str:
        return f"{shown(self._path)} on this machine"

    @property
    def path(self) -> str:
        return self._path

    @property
    def root(self) -> bytes:
        return self._root

    @property
    def work_tree(self) -> bytes:
        """Where received files lie, as an absolute path."""
        return self._root + b"/" + self._work + b"/tree"

    def facts(self) -> Facts:
        try:
            kind, place = _kind(self._root), self._root
        except FileNotFoundError:
            kind, place = "missing", self._nearest_directory()
        except OSError as exc:
            raise EndpointError(
                f"{self.where} can't be looked at: {exc.strerror}. Correct the path, or mend its permissions."
            ) from exc
        status, space = os.stat(place), os.statvfs(place)
        return Facts(
            kind=kind,
            foreign=kind == "dir" and foreign_in(self._root),
            readable=os.access(place, os.R_OK | os.X_OK),
            writable=os.access(place, os.W_OK | os.X_OK),
            rights=self._attributes.rights,
            free_bytes=space.f_bavail * space.f_frsize,
            free_inodes=space.f_favail if space.f_files else None,
            volume=_identity(status) if kind == "dir" else "",
            above=tuple(self._above()),
            mounts=mounted_below(os.path.realpath(self._root), mounts_here()),
            tools=frozenset(name for name in ("rsync",) if shutil.which(name)),
        )

    def scan(self, selection: Selection, store: Store | None = None, *, xattrs: bool = True) -> Manifest:
        manifest = Manifest(root=self._path, store=store)
        manifest.xattrs = xattrs
        if not os.path.isdir(self._root):
            return manifest
        with Folder(self._root) as folder:
            walk = Walk(folder)
            untold: dict[bytes, str] = {}
            found = functools.partial(rows, xattrs=xattrs, uncopied=manifest.uncopied, unreadable=untold)
            manifest.add_selected(found(walk.down(selection.starts())), selection)
            manifest.add_implied(found(filter(None, map(walk.at, selection.parents()))))
        manifest.unreadable = {p: why for p, why in walk.unreadable.items() if selection.reaches(p)}
        manifest.unreadable |= {p: why for p, why in untold.items() if selection.takes(p)}
        manifest.look = walk.look
        manifest.group_links()
        return manifest

    def fingerprint(self, selection: Selection) -> str:
        if not os.path.isdir(self._root):
            return ""
        with Folder(self._root) as folder:
            walk = Walk(folder)
            for _listing in walk.down(selection.starts()):
                pass
            for path in selection.parents():
                walk.at(path)
        return self.fingerprint_of(walk.look)

    def flush(self) -> Shown | None:
        place = self._root if os.path.isdir(self._root) else self._nearest_directory()
        number, flushed = "", 0
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            number = _told(place, "stat", "-f", "-c", "%t")
            if number in WRITTEN_OUT:
                began = time.time_ns()
                _told(place, "sync", "-f")
                flushed = began
        return what_shows(number, flushed)

    def fingerprint_of(self, look: Look) -> str:
        return look.fingerprint

    def digests(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        with Folder(self._root) as folder:
            for path in paths:
                with contextlib.suppress(OSError), opened(folder, path) as descriptor:
                    status = os.fstat(descriptor)
                    yield taken(path, digest_of(descriptor, checksum), status)

    def read(self, entries: Sequence[Entry]) -> Iterator[Incoming]:
        with Folder(self._root) as folder:
            for entry in entries:
                with contextlib.suppress(OSError), opened(folder, entry.path) as descriptor:
                    yield Incoming(entry.path, entry.size, what_can_be_read(descriptor))

    def begin(self) -> None:
        try:
            os.makedirs(self._root, exist_ok=True)
            with Folder(self._root) as folder:
                self._take(folder)
                if found := strangers(os.path.join(self._root, WORK_DIR)):
                    self._leave()
                    raise foreign(self.where, display(WORK_DIR + b"/" + found[0]))
                set_aside(os.path.join(self._root, WORK_DIR), self._work.rpartition(b"/")[2])
                folder.made(self._work + b"/tree/x")
        except OSError as exc:
            raise EndpointError(
                f"{self.where} can't be written to: {exc.strerror}. Choose another path or mend its permissions."
            ) from exc

    def receive(self, entries: Sequence[Entry], incoming: Iterable[Incoming], checksum: str) -> None:
        try:
            self._receiving.receive(entries, incoming, checksum)
        except OSError as exc:
            raise trouble(exc, self.where) from exc

    def received(self, paths: Sequence[bytes], checksum: str) -> Iterator[Taken]:
        return self._receiving.received(paths, checksum)

    def apply(self, changes: Changes) -> None:
        with Folder(self._root) as folder:
            for path, attribute in changes.strip:
                attempt(functools.partial(strip_one, attribute), folder, path)
            stuck = [path for path in changes.discard if not discard(folder, self._received(path))]
            remove(folder, changes.clear)
            for entry in changes.bare:
                self._set_attributes(folder, entry, self._received(entry.path))
            self._make(folder, changes.create, {above for path in stuck for above in parents(path)})
            folder.forget()
            remove(folder, changes.remove)
            folder.forget()
            for entry in changes.attributes:
                self._set_attributes(folder, entry)

    def placed(self) -> Iterator[Taken]:
        return self._receiving.placed()

    def end(self, root: Entry | None) -> None:
        clear(self._root, self._work)
        self.close()
        if root is not None:
            with Folder(self._root) as folder:
                self._set_attributes(folder, root)

    def save(self, verified: Manifest, gone: Iterable[bytes], restless: Iterable[bytes]) -> None:
        """The file system holds the attributes itself."""

    def _leave(self) -> None:
        """Give the target free as it is."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def close(self, *, keep: bool = True) -> None:
        self._receiving.drop()
        if self._lock is not None:
            if not (keep and keeps_parts(self._root, WORK_DIR)):
                clear(self._root, WORK_DIR)
            self._leave()

    def adopt(self, paths: Sequence[bytes]) -> dict[bytes, int]:
        pieces = self.pieces()
        with Folder(self._root) as folder:
            for path in paths:
                with contextlib.suppress(OSError):
                    parent, received = folder.made(self._received(path))
                    part, name = folder.at(self._work + b"/parts/" + path)
                    os.rename(name, received, src_dir_fd=part, dst_dir_fd=parent)
        return pieces.received(paths)

    def pieces(self) -> LocalPieces:
        return LocalPieces(LocalPlace(self._root, self._work))

    def _make(self, folder: Folder, entries: Sequence[Entry], spoiled: Collection[bytes]) -> None:
        """Prepare entries beside the received files, then bring them into place.

        A new directory moves with all that is in it; its true attributes are set last. One that is `spoiled` holds what
        should have been discarded, and stays where it is.
        """
        here = {entry.path for entry in entries}
        new = {entry.path for entry in entries if entry.kind == DIR}
        for entry in entries:
            if entry.kind == FILE and not entry.hardlink:
                continue
            received = self._received(entry.path)
            with contextlib.suppress(OSError):
                folder.made(received)
            first = self._received(entry.hardlink) if entry.hardlink in here else entry.hardlink
            attempt(functools.partial(self._prepare, folder, entry, first), folder, received)
        folder.forget()
        for entry in entries:
            if new.isdisjoint(parents(entry.path)) and entry.path not in spoiled:
                attempt(functools.partial(move, folder, self._received(entry.path)), folder, entry.path)

    # -- writing ----------------------------------------------------------------------------------

    def _received(self, path: bytes) -> bytes:
        return self._work + b"/tree/" + path

    def _take(self, folder: Folder) -> None:
        """Lock the target. The lock is the kernel's, so it ends with this process, whatever ends it."""
        parent, name = folder.made(WORK_DIR + b"/lock")
        # The directory is made by now: who takes one above after this look sees it there.
        if above := held_above(self._root):
            attempt(rmdir, folder, WORK_DIR)
            raise inside(self.where, above)
        descriptor = os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may have removed the file while this one opened it.
            current = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if current.st_ino != os.fstat(descriptor).st_ino:
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError) as exc:
            os.close(descriptor)
            raise BusyError(
                f"Another run is copying to {self.where}: wait until it has ended, or stop it, then try again."
            ) from exc
        self._lock = descriptor

    def _prepare(self, folder: Folder, entry: Entry, first: bytes, at: tuple[int, bytes]) -> None:
        """Make what has no content of its own; `first` is where another name of a hard-linked file lies."""
        parent, name = at
        if entry.kind == DIR:
            with contextlib.suppress(FileExistsError):  # something in it was received
                os.mkdir(name, 0o700, dir_fd=parent)
            os.chmod(name, self._attributes.mode(entry) & 0o777 | 0o700, dir_fd=parent)
            return
        if entry.hardlink:
            source, linked = folder.at(first)
            os.link(linked, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        elif entry.kind == SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
        elif entry.kind in (FIFO, CHAR, BLOCK):
            kind = {FIFO: stat.S_IFIFO, CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}[entry.kind]
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=parent)
        if entry.kind != FILE:
            self._set_attributes(folder, entry, self._received(entry.path))

    def _set_attributes(self, folder: Folder, entry: Entry, path: bytes | None = None) -> None:
        self._attributes.give(folder, entry, entry.path if path is None else path)

    def _above(self) -> Iterator[str]:
        """The directories above this one, as `Facts.above` has them, as far as they exist."""
        path = os.path.realpath(self._root)
        while path != (path := os.path.dirname(path)):
            with contextlib.suppress(OSError):
                yield _identity(os.stat(path))

    def _nearest_directory(self) -> bytes:
        """Where the directory would be made."""
        parent = os.path.dirname(self._root)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        return parent


def _told(place: bytes, *command: str) -> str:
    """What a command prints about a directory."""
    done = subprocess.run([*command, "--", place], check=True, capture_output=True, timeout=FLUSH_SECONDS)
    return done.stdout.decode("ascii", "replace").strip()


def _kind(place: bytes) -> str:
    status = os.stat(place)
    if stat.S_ISDIR(status.st_mode):
        # There are file systems that tell of no links at all.
        return "dir" if status.st_nlink or not _removed(place) else "removed"
    return "block" if stat.S_ISBLK(status.st_mode) else "other"


def _removed(place: bytes) -> bool:
    """Whether a directory without links has no name any more."""
    descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor).endswith(b" (deleted)")
    finally:
        os.close(descriptor)


def _identity(status: os.stat_result) -> str:
    return f"{_boot()}:{status.st_dev}:{status.st_ino}"


@functools.cache
def _boot() -> str:
    """The same text in every container on this machine until it restarts."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()
    return ""
