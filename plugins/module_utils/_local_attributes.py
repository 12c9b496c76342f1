# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Owner, mode, extended attributes and times of what is written on this machine."""

from __future__ import annotations

import contextlib
import functools
import os
import stat

from ._capabilities import Rights, effective_here, rights
from ._entry import SYMLINK, Entry, provable
from ._folder import Folder
from ._local_steps import attempt, permit
from ._xattrs import Xattrs, give

KEPT_OWNER = (-1, -1)


class LocalAttributes:
    """Gives entries the attributes that they have in a manifest, as far as this user may."""

    @functools.cached_property
    def rights(self) -> Rights:
        return rights(os.geteuid(), effective_here())

    def mode(self, entry: Entry) -> int:
        return self._provable(entry).mode

    def own(self, entry: Entry) -> tuple[int, int]:
        """Owner and group, or `KEPT_OWNER`."""
        return self._provable(entry).uid, entry.gid

    def xattrs(self, entry: Entry) -> Xattrs:
        return entry.xattrs

    def give_file(self, descriptor: int, entry: Entry, mode: int, at: tuple[int, bytes]) -> None:
        """Give a file its attributes that was just written and lies at `at`; `mode` is the one for it."""
        own, status = self.own(entry), os.fstat(descriptor)
        if own not in ((status.st_uid, status.st_gid), KEPT_OWNER):
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, *own)
        if xattrs := self.xattrs(entry):
            give(*at, xattrs)
        if xattrs or stat.S_IMODE(status.st_mode) != mode:  # the mask of an ACL is a part of the mode
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))

    def give(self, folder: Folder, entry: Entry, path: bytes) -> None:
        """Give what lies at `path` the attributes of an entry."""

        def own(at: tuple[int, bytes]) -> None:
            os.chown(at[1], *self.own(entry), dir_fd=at[0], follow_symlinks=False)

        def allow(at: tuple[int, bytes]) -> None:
            if entry.kind != SYMLINK:
                permit(self.mode(entry), at)

        def date(at: tuple[int, bytes]) -> None:
            os.utime(at[1], ns=(entry.mtime, entry.mtime), dir_fd=at[0], follow_symlinks=False)

        def give_xattrs(at: tuple[int, bytes]) -> None:
            give(*at, self.xattrs(entry))

        # Owner before mode and capabilities, since a change of owner clears the set-id bits and them; times last.
        for step in (own, give_xattrs, allow, date):
            attempt(step, folder, path)

    def _provable(self, entry: Entry) -> Entry:
        return provable(entry, self.rights)
