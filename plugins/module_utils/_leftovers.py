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
import os
import shutil
import stat

from ._errors import EndpointError
from ._folder import Folder
from ._tree import PART


def keeps_parts(base: bytes) -> bool:
    """Whether a large file is on its way below the work directory `base`."""
    for _path, _folders, names, descriptor in os.fwalk(base):
        for name in names:
            with contextlib.suppress(OSError):
                if _large(os.stat(name, dir_fd=descriptor, follow_symlinks=False)):
                    return True
    return False


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


def set_aside(base: bytes, run: bytes) -> None:
    """Move large files of all runs below `base` to `parts` of `run`, and remove the rest. Raises OSError."""
    with Folder(base) as folder:
        old = run + b"/old"
        shutil.rmtree(os.path.join(base, old), ignore_errors=True)
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
                shutil.rmtree(os.path.join(base, left), ignore_errors=True)
        folder.forget()
        folder.made(run + b"/parts/x")
        for left in os.listdir(os.path.join(base, old)):
            _keep(folder, base, old + b"/" + left, run + b"/parts")
        shutil.rmtree(os.path.join(base, old), ignore_errors=True)


def _keep(folder: Folder, base: bytes, left: bytes, parts: bytes) -> None:
    top = os.path.join(base, left)
    for path, _folders, names, descriptor in os.fwalk(top):
        inside = os.path.relpath(path, top)
        for name in names:
            with contextlib.suppress(OSError):
                if _large(os.stat(name, dir_fd=descriptor, follow_symlinks=False)):
                    place = os.path.normpath(os.path.join(parts, inside, name))
                    parent, last = folder.made(place)
                    os.rename(name, last, src_dir_fd=descriptor, dst_dir_fd=parent)


def _large(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size >= PART
