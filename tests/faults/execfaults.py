# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an exec server can be told to do wrong, and what it remembers of each exec."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255

KINDS = {
    "refuse": "answer the handshake with HTTP `code` and a Status that says `message`",
    "hang-up": "close the connection in place of answering the handshake",
    "silent": "never answer the handshake",
    "redirect": "answer the handshake with a redirection to this very server",
    "cut": "close the connection after `after` bytes of standard output, at the end of a frame",
    "cut-frame": "the same in the middle of a frame",
    "cut-header": "the same in the middle of a frame's header",
    "reset": "the same with a TCP reset",
    "cut-input": "close the connection after `after` bytes of standard input",
    "cut-status": "close the connection in the middle of the status",
    "no-status": "send all the output, then close without a status",
    "truncate": "end the command after `after` bytes of output, and report success as if nothing were missing",
    "lose-input": "pass on no more than `after` bytes of standard input, and report success",
    "garble": "change the first byte after `after` bytes of standard output",
    "garble-input": "change the first byte after `after` bytes of standard input",
    "stall": "send nothing more after `after` bytes of standard output, not even a pong",
    "stall-input": "read nothing more after `after` bytes of standard input",
    "idle": "close the connection once nothing has moved on it for `after` milliseconds, as proxies do",
    "error": "send a status of failure that says `message`, without running the command",
    "noise": "write `message` on standard error `after` times before the command's own",
    "banner": "write `message` on standard output before the command's own",
    "interject": "write `message` on standard output after `after` bytes of the command's own",
    "slow-status": "send the status `after` milliseconds after the last byte",
    "abrupt": "close the connection right after the status, with input unread, as Go's servers do",
    "linger": "send the status, and don't close the connection",
}


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, for the next `times` execs in `pod` (any if empty) whose command contains `match`.

    The first `skip` of them are left alone.
    """

    kind: str
    after: int = 0
    code: int = 500
    message: str = "it is broken"
    times: int = 1
    match: str = ""
    pod: str = ""
    skip: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} isn't one of {', '.join(KINDS)}")

    def fits(self, entry: Exec) -> bool:
        return self.pod in ("", entry.pod) and self.match in " ".join(entry.argv)


@dataclass
class Exec:
    """A request to run a command, as the server saw it."""

    argv: list[str]
    namespace: str
    pod: str
    container: str
    offered: list[str]
    headers: dict[str, str]
    protocol: str = ""
    fault: Fault | None = None
    struck: bool = False  # whether the fault has come to pass
    received: int = 0  # bytes of standard input
    sent: int = 0  # bytes of standard output
    pings: int = 0
    record: tuple[bytearray, bytearray] | None = None  # what these bytes were: input, output
    ended: threading.Event = field(default_factory=threading.Event)
