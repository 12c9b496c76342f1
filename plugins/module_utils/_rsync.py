# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Run rsync between this machine and a pod, over the same exec stream as everything else.

rsync starts its remote side through a remote shell. Ours is a few lines that hand rsync's words and bytes to this
process over a private unix socket; this process runs the remote side in the pod. So no credential leaves it, and no
kubectl or oc is needed.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Self

from ._entry import Entry
from ._errors import ConnectionLost, EndpointError, KubeferryError, ProtocolError
from ._local_tree import LocalTree
from ._runner import LocalRunner, Process, Runner, chunks, is_full, last_words
from ._shell_tree import ShellTree

REMOTE_SHELL = """
import os, socket, sys, threading
def pump(read, write):
    while True:
        piece = read(262144)
        if not piece:
            return
        write(piece)
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
words = [os.fsencode(word) for word in sys.argv[3:]]
link.sendall(b"%d\\n" % len(words) + b"".join(word + b"\\0" for word in words))
def forward():
    pump(lambda size: os.read(0, size), link.sendall)
    link.shutdown(socket.SHUT_WR)
threading.Thread(target=forward, daemon=True).start()
os.set_blocking(1, True)
out = os.fdopen(1, "wb")
def tell(piece):
    out.write(piece)
    out.flush()
pump(link.recv, tell)
"""
"""What rsync runs in place of ssh: `REMOTE_SHELL socket host word...`. rsync hands over a standard output that doesn't
block, on which a short write would lose bytes."""

ACCEPT_SECONDS = 30.0
MOST_PRINTED = 64 << 20
"""Bytes on rsync's standard output: messages of the pod's, which could go on for ever, and numbers at the end."""
NUMBERS = 1 << 16
"""Bytes of that end."""


class Rsync:
    """Moves files between a tree in a pod and one on this machine."""

    def __init__(self, pod: ShellTree, here: LocalTree, *, pulls: bool) -> None:
        self._pod = pod
        self._here = here
        self._pulls = pulls

    def run(self, entries: Sequence[Entry]) -> int:
        """Bring the content of `entries` into the target's work directory. Returns the bytes on the wire."""
        with tempfile.TemporaryDirectory(prefix="kubeferry-") as private:
            names = os.path.join(private, "names")
            with open(names, "wb") as stream:
                stream.writelines(entry.path + b"\0" for entry in entries)
            shell = os.path.join(private, "shell.py")
            with open(shell, "w", encoding="ascii") as stream:
                stream.write(REMOTE_SHELL)
            with Relay(self._pod.runner, os.path.join(private, "link")) as relay:
                command = [sys.executable, "-I", shell, relay.path]
                return self._rsync(shlex.join(command), names, relay)

    def _rsync(self, shell: str, names: str, relay: Relay) -> int:
        """`--ignore-times` since the plan has decided already, `--secluded-args` since no shell reads our words.

        `--chmod` so that the target's user may read back, replace and remove what lies in the work directory.
        """
        source, target, basis = self._places()
        argv = ["rsync", "--times", "--ignore-times", "--no-whole-file", "--secluded-args", "--from0"]
        argv += ["--chmod=D700,F600", "--stats", "--no-human-readable"]
        argv += [f"--files-from={names}", f"--compare-dest={basis}", f"--rsh={shell}", "--", source, target]
        process = LocalRunner().start(argv)
        try:
            stats = self._numbers(process)
            status = process.wait()
            full, said = is_full(process.stderr()), last_words(process)
        finally:
            process.close()
        if relay.error is not None:
            raise relay.error
        if full:
            raise EndpointError(
                f"{(self._here if self._pulls else self._pod).where} is full: make room there and run again."
            )
        sent = [
            int(count)
            for count in re.findall(r"^Total bytes (?:sent|received): (\d{1,18})", stats, re.MULTILINE)
        ]
        if status and not sent:
            raise ConnectionLost(f"rsync broke off (exit status {status}): {said}.")
        return sum(sent)

    def _numbers(self, process: Process) -> str:
        """The end of what rsync prints. Raises ProtocolError where it comes to none."""
        end, left = b"", MOST_PRINTED
        for piece in chunks(process):
            end = (end + piece)[-NUMBERS:]
            left -= len(piece)
            if left < 0:
                raise ProtocolError(
                    f"rsync in {self._pod.where} sends messages without an end: set transport to tar."
                )
        return end.decode("ascii", "replace")

    def _places(self) -> tuple[str, str, str]:
        """Source and target as rsync wants them, and the directory with the versions that the target has."""
        if self._pulls:
            work, root = os.fsdecode(self._here.work_tree), os.fsdecode(self._here.root)
            return f"pod:{self._pod.path}/", f"{work}/", root
        return f"{os.fsdecode(self._here.root)}/", f"pod:{self._pod.work_tree}/", self._pod.path


class Relay:
    """Waits for rsync's remote shell on a unix socket and runs what it asks for. Use as a context manager."""

    def __init__(self, runner: Runner, path: str) -> None:
        self.path = path
        self.error: KubeferryError | None = None
        self._runner = runner
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(1)
        self._socket.settimeout(ACCEPT_SECONDS)
        self._thread = threading.Thread(target=self._serve, name="kubeferry-rsync", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        # Wakes up the thread where rsync never came.
        self._socket.close()
        self._thread.join(ACCEPT_SECONDS)

    def _serve(self) -> None:
        process: Process | None = None
        try:
            link, _address = self._socket.accept()
            with link:
                argv = _words(link)
                process = self._runner.start(argv, link.fileno())
                while piece := process.read():
                    link.sendall(piece)
                process.wait()
        except KubeferryError as exc:
            self.error = exc
        except OSError:
            # rsync has ended before its remote side; its own message says why.
            pass
        finally:
            if process is not None:
                process.close()


def _words(link: socket.socket) -> list[str]:
    """The words of the remote command, exactly: what follows belongs to rsync's own protocol."""
    count = int(_until(link, b"\n"))
    return [_until(link, b"\0").decode("utf-8", "surrogateescape") for _number in range(count)]


def _until(link: socket.socket, mark: bytes) -> bytes:
    data = b""
    while not data.endswith(mark):
        byte = link.recv(1)
        if not byte:
            raise ConnectionResetError
        data += byte
    return data[:-1]
