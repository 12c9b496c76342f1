# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for containers: directories that hold links to some tools, and a runner that sees nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from ansible_collections.kubeferry.pvc.plugins.module_utils._runner import LocalProcess, LocalRunner, Stdin

GNU = (
    "cat chgrp chmod chown cut dd df find flock head id ln mkdir mv readlink rm rmdir stat tail tar touch tr xargs "
    "sleep split sync timeout wc mkfifo mktemp md5sum sha1sum sha256sum sha512sum"
).split()
ATTR = ("getfattr", "setfattr")


def found(tool: str, package: str) -> str:
    """Where `tool` is on this machine; a sentence where it isn't."""
    place = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/bin:/usr/bin:/usr/local/bin")
    if place is None:
        raise AssertionError(f"{tool} isn't installed: install the package {package}, as .ci/run does.")
    return place


class Box:
    """A directory of tools, which are run by `wrapper` where it names a command, such as setpriv.

    `kind` is busybox, gnu, openssl (GNU and openssl), rsync (BusyBox and rsync) or tls (BusyBox and openssl).
    """

    def __init__(
        self, place: str, kind: str, without: Iterable[str] = (), wrapper: Sequence[str] = ()
    ) -> None:
        self.place = place
        self.wrapper = wrapper
        self.kind = kind
        self.exact = kind in ("gnu", "openssl")
        os.makedirs(place, exist_ok=True)
        if self.exact:
            tools = {name: found(name, name) for name in GNU} | {name: found(name, "attr") for name in ATTR}
            tools["sh"] = found("sh", "dash")
        else:
            # Debian's BusyBox is built without split, which others have.
            tools = {"split": found("split", "coreutils")}
            tools |= dict.fromkeys(self._applets(), found("busybox", "busybox-static"))
        for extra, kinds in {"rsync": ("rsync",), "openssl": ("openssl", "tls")}.items():
            if kind in kinds:
                tools[extra] = found(extra, extra)
        if without:
            # BusyBox's own shell finds its other applets without looking at PATH.
            tools["sh"] = found("sh", "dash")
        for name, path in tools.items():
            if name not in without:
                os.symlink(path, os.path.join(place, name))

    def _applets(self) -> list[str]:
        listing = subprocess.run(
            [found("busybox", "busybox-static"), "--list"], capture_output=True, check=True, timeout=20
        )
        return listing.stdout.decode().split()

    def runner(self, where: str = "", stall: float = 60.0) -> BoxRunner:
        return BoxRunner(self, where or f"the {self.kind} box", stall)


def dying_dd(place: Path, kind: str, dying: str) -> Box:
    """A box of whose dd commands the first that matches `dying` passes on three blocks and is killed then.

    `dying` is a shell's pattern for the directory that it runs in, a colon and its arguments.
    """
    box = Box(str(place / "box"), kind, without=["dd"])
    real = found("dd", "coreutils") if kind == "gnu" else f"{found('busybox', 'busybox-static')} dd"
    script = place / "box" / "dd"
    script.write_text(
        "#!/bin/sh\n"
        f'case "$(pwd -P):$*" in {dying}) if [ ! -e {place}/used ]; then\n'
        f': >{place}/used; {real} "$@" count=3 2>/dev/null; kill -9 $$; fi ;;\nesac\n'
        f'exec {real} "$@"\n'
    )
    script.chmod(0o755)
    return box


class BoxRunner:
    """Runs commands with the box's tools and an empty environment. Starts them on this machine."""

    def __init__(self, box: Box, where: str, stall: float) -> None:
        self.box = box
        self.where = where
        self.started: list[list[str]] = []
        self._runner = LocalRunner(stall_seconds=stall)

    def start(
        self, argv: Sequence[str], stdin: Stdin | None = None, stdin_size: int | None = None
    ) -> LocalProcess:
        self.started.append(list(argv))
        clean = [*self.box.wrapper, found("env", "coreutils"), "-i", f"PATH={self.box.place}"]
        tool = os.path.join(self.box.place, argv[0])
        return self._runner.start([*clean, tool, *argv[1:]], stdin, stdin_size)
