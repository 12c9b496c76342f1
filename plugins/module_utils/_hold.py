# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Holding a target for one run: a command at the endpoint that keeps a kernel lock while its stream is open."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from ._errors import BusyError, EndpointError, KubeferryError
from ._leftovers import foreign
from ._local_hold import inside
from ._runner import Process, Runner, last_words
from ._scripts import BUSY, FOREIGN, INSIDE

TAKE_SECONDS = 3600.0
"""What a dead run has left is removed first, which are up to 20,000 files."""
BEAT_SECONDS = 10.0
"""How often a container is told that this run is alive."""
DEAD_SECONDS = 30
"""How long it must not have been told so until another run may have the target, if either has no flock."""
LOST_SECONDS = 45
"""How long a hold lasts that isn't told so. A run that wants its target back waits for longer."""
RELEASE_SECONDS = 120.0
"""Removing what was received and not used can take a while on a slow volume."""


class Hold:
    """Runs the HOLD script in a thread of its own, since a stream has to be read to stay alive."""

    def __init__(self, runner: Runner, argv: Sequence[str], where: str) -> None:
        self._runner = runner
        self._argv = (*argv, str(DEAD_SECONDS), str(LOST_SECONDS))
        self._where = where
        self._input, self._signal = os.pipe()
        self._answered = threading.Event()
        self._released = threading.Event()
        self._error: KubeferryError | None = None
        self._status: int | None = None
        self._output = b""
        self._thread = threading.Thread(target=self._keep, name="kubeferry-hold", daemon=True)

    @property
    def held(self) -> bool:
        """Whether the lock is still ours."""
        return b"held\n" in self._output and self._thread.is_alive()

    def take(self) -> None:
        """Raises BusyError when another run has the target, EndpointError when it can't be written to."""
        self._thread.start()
        self._answered.wait(TAKE_SECONDS)
        if self.held:
            # A copy: the number of a descriptor that is closed meanwhile may already be another file's.
            copy = os.dup(self._signal)
            threading.Thread(target=self._beat, args=(copy,), name="kubeferry-beat", daemon=True).start()
            return
        self.release()
        if self._error is not None:
            raise self._error
        if self._status == BUSY:
            raise BusyError(
                f"Another run is copying to {self._where}: wait until it has ended, or stop it, then try again."
            )
        if self._status == INSIDE:
            raise inside(self._where, self._said)
        if self._status == FOREIGN:
            raise foreign(self._where, self._said)
        raise EndpointError(
            f"{self._where} can't be written to: {self._said or 'no answer'}. "
            "Check that the volume isn't read-only or full, and that the container's user may write there."
        )

    def release(self, *, keep: bool = False) -> None:
        """Let go, and have the work directory removed, unless there is something worth to `keep` in it."""
        self._released.set()
        if self._signal >= 0:
            try:
                os.write(self._signal, b"keep\n" if keep else b"done\n")
            except BrokenPipeError:
                pass
            os.close(self._signal)
            self._signal = -1
            if self._thread.ident is not None:
                self._thread.join(RELEASE_SECONDS)
            if not self._thread.is_alive():
                os.close(self._input)

    _said = ""

    def _beat(self, signal: int) -> None:
        try:
            while not self._released.wait(BEAT_SECONDS) and self.held:
                os.write(signal, b"alive\n")
        finally:
            os.close(signal)

    def _keep(self) -> None:
        process: Process | None = None
        try:
            process = self._runner.start(self._argv, self._input)
            while piece := process.read():
                self._output = (self._output + piece)[-4096:]
                if b"held\n" in self._output:
                    self._answered.set()
            self._status = process.wait()
            self._said = last_words(process).rpartition("\n")[2]
        except KubeferryError as exc:
            self._error = exc
        finally:
            if process is not None:
                process.close()
            self._answered.set()
