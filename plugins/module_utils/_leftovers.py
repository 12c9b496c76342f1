# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What runs that died have left in the work directory of a tree on this machine.

Large files that were on their way are put aside for the run that follows, all else goes. Descriptors lead to
everything, so that a link which somebody else puts there leads nowhere.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterator

from ._errors import EndpointError
from ._folder import Folder
from ._local_steps import attempt, permit, rmdir, unlink
from ._selection import WORK_DIR
from ._tree import PART


def keeps_parts(root: bytes, base: bytes) -> bool:
    """Whether a large file is on its way below the work directory `base` in `root`."""
    with contextlib.suppress(EndpointError), Folder(root) as folder:
        return any(_large(status) for _path, status in _below(folder, base))
    return False


def clear(root: bytes, top: bytes) -> None:
    """Remove the directory `top` in `root` with all that is in it, as far as this user may."""
    with contextlib.suppress(EndpointError), Folder(root) as folder:
        directories = [top]
        for path, status in _below(folder, top):
            if stat.S_ISDIR(status.st_mode):
                directories.append(path)
            else:
                attempt(unlink, folder, path)
        for path in reversed(directories):
            attempt(rmdir, folder, path)


def _below(folder: Folder, top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """What is below a directory, without recursion; a directory comes before what is in it.

    One that keeps out its own owner is opened: an ordinary user's run can leave that, too.
    """
    waiting = [top]
    while waiting:
        path = waiting.pop()
        found = []
        with contextlib.suppress(OSError):
            descriptor = folder.directory(path)
            for name in os.listdir(descriptor):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    found.append((path + b"/" + os.fsencode(name), status))
        for below, status in found:
            if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                attempt(functools.partial(permit, stat.S_IRWXU), folder, below)
        yield from found
        waiting += [below for below, status in found if stat.S_ISDIR(status.st_mode)]


def foreign(where: str, name: str) -> EndpointError:
    """The error for what lies in the work directory of a target and is somebody else's."""
    return EndpointError(f"{where} has {name}, which is not of a copy: move it elsewhere.")


def strangers(base: bytes) -> list[bytes]:
    """What lies in the work directory `base` that no copy has put there. Raises OSError."""
    return sorted(
        name
        for name in os.listdir(base)
        if name not in (b"lock", b"busy", b"held") and not name.startswith(b"run-")
    )


def foreign_in(root: bytes) -> bool:
    """Whether what has the work directory's name in `root` is, or holds, what no copy has put there."""
    base = os.path.join(root, WORK_DIR)
    try:
        return os.path.islink(base) or bool(strangers(base))
    except NotADirectoryError:
        return True
    except OSError:
        return False


def set_aside(base: bytes, run: bytes) -> None:
    """Move large files of all runs below `base` to `parts` of `run`, and remove the rest. Raises OSError."""
    with Folder(base) as folder:
        old = run + b"/old"
        clear(base, old)
        folder.made(old + b"/x")
        folder.made(run + b"/parts/x")
        for left in os.listdir(base):
            if not left.startswith(b"run-"):
                continue
            for part in (b"tree", b"parts"):
                with contextlib.suppress(OSError):
                    parent, name = folder.at(left + b"/" + part)
                    target, _name = folder.at(old + b"/x")
                    os.rename(name, left + b"." + part, src_dir_fd=parent, dst_dir_fd=target)
            if left != run:
                clear(base, left)
        folder.forget()
        folder.made(run + b"/parts/x")
        for left in os.listdir(os.path.join(base, old)):
            _keep(folder, old + b"/" + left, run + b"/parts")
        clear(base, old)


def _keep(folder: Folder, left: bytes, parts: bytes) -> None:
    for path, status in _below(folder, left):
        if _large(status):
            with contextlib.suppress(OSError):
                parent, last = folder.made(parts + path.removeprefix(left))
                source, name = folder.at(path)
                os.rename(name, last, src_dir_fd=source, dst_dir_fd=parent)


def _large(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size >= PART
