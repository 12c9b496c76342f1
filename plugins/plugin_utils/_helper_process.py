# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Starts the helper process for a playbook and ends with it.

A process and not a thread: threads and Ansible's forks hang each other (ansible/ansible#75408), and a hook that waits
holds the whole play up (ansible/ansible#27705).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._event_line import END
from ._event_pipe import EventPipe

# Nothing of the playbook's environment that may hold a secret goes to the helper.
_INHERITED = (
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "PYTHONUTF8", "VIRTUAL_ENV",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip

# A server on this machine has its token and its events without encryption, so that they are for no proxy.
_LOOPBACK = "localhost,127.0.0.0/8,::1"

# The file for what did not fit into the pipe, beside the socket.
REST = "rest"


class HelperProcess:
    """The helper of one run."""

    def __init__(
        self, settings: Mapping[str, Any], environment: Mapping[str, str], terminal: int | None
    ) -> None:
        """Start it. `terminal` is the descriptor that the progress line is written to.

        Raises OSError when no process can be started.
        """
        self._place = Path(str(settings["place"])) if settings.get("place") else None
        self._rest = self._place / REST if self._place else None
        kept = {
            name: value for name, value in environment.items() if name in _INHERITED or name.startswith("LC_")
        }
        without_proxy = kept.get("no_proxy", kept.get("NO_PROXY"))
        kept["no_proxy"] = f"{without_proxy},{_LOOPBACK}" if without_proxy else _LOOPBACK
        main = Path(__file__).with_name("_helper_main.py")
        self._process = subprocess.Popen(
            # -P: this folder's names must not shadow the standard library's
            [sys.executable, "-P", str(main)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if terminal is None else terminal,
            bufsize=0,
            cwd="/",
            env=kept,
            pass_fds=[settings["socket"]] if settings.get("socket") is not None else [],
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("the helper process has no pipes")
        # The pipe's object is let go of, so that nothing but EventPipe closes its descriptor.
        self._input = self._process.stdin
        self.pipe = EventPipe(os.dup(self._input.fileno()))
        self._input.close()
        self._words = self._process.stdout
        os.set_blocking(self._words.fileno(), False)
        self.pipe.write(json.dumps(dict(settings)).encode() + b"\n")

    @property
    def gone(self) -> bool:
        """Whether it ended before its time."""
        return self.pipe.broken or self._process.poll() not in (None, 0)

    def warning(self) -> str | None:
        """Return what the helper has to say to the user, once."""
        try:
            said = self._words.read(65_536)
        except (OSError, ValueError):
            return None
        return said.decode(errors="replace").strip() or None if said else None

    def finish(self, seconds: float) -> str | None:
        """End the run: give the helper at most so long to deliver, and return what it had to say."""
        deadline = time.monotonic() + seconds
        self.pipe.write(END)
        self.pipe.close(seconds / 4, self._rest)
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # It goes on by itself and ends soon. Not a zombie either: this process ends before it or reaps it now.
            pass
        said = self.warning()
        self._words.close()
        self._tidy()
        return said

    def _tidy(self) -> None:
        if self._process.poll() is not None and self._place is not None:
            # A helper that ended by itself has removed it; one that was killed has not.
            shutil.rmtree(self._place, ignore_errors=True)

    def abandon(self, seconds: float) -> None:
        """End without saying that the run has ended; the helper tells the server that it was interrupted."""
        self.pipe.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        self._tidy()
