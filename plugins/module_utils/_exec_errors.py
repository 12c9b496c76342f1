# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What it means when an exec didn't run, or didn't end.

The server tells it in two ways: by the HTTP status of the handshake, or by the `v1.Status` on the error
channel after the handshake went well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ._api_errors import capital, quoted, refused, server_says
from ._errors import (
    CommandNotFound,
    ConnectionLost,
    ContainerAway,
    ContainerNotFound,
    ExecError,
    HelperPodGone,
    KubeferryError,
    NotFound,
    PodNotRunning,
    Throttled,
)
from ._exec_protocol import BOUNDED
from ._helper_spec import CONTAINER
from ._pod_state import RUNNING


@dataclass(frozen=True)
class Target:
    """The container that runs the commands. An empty `container` leaves the choice to the server."""

    namespace: str
    pod: str
    container: str = ""
    # Says how the pod is doing, for the message about one that can't run a command. Must not raise.
    diagnose: Callable[[], str] | None = None

    @property
    def where(self) -> str:
        name = f"pod {self.namespace}/{self.pod}"
        return f"{name}, container {self.container}" if self.container else name

    @property
    def is_helper(self) -> bool:
        """Whether it is named as those are that `pvc_mount` makes."""
        return self.container == CONTAINER and self.pod.startswith("kubeferry-")


_NO_PROGRAM = re.compile(
    r"executable file .{0,300}not found|no such file or directory|exec format error|not a directory",
    re.DOTALL,
)
_PROGRAM = re.compile(r'exec: \\?"(.{1,200}?)\\?"|executable file [`\'"](.{1,200}?)[`\'"] not found')
_NOT_RUNNING = re.compile(
    r"container not found|not running|CONTAINER_EXITED|CONTAINER_CREATED|stopped container|pod does not exist"
    r"|not created or running|does not have a host assigned|completed pod|no running task|task \w+ not found"
    r"|container .{0,200}does not exist|ContainerNotRunning|sandbox .{0,100}not (found|ready)"
    r"|container is not (in|being)|init process is not running|cannot exec (a|in a) (container|stopped)",
    re.IGNORECASE,
)
_WRONG_CONTAINER = re.compile(r"container .{0,300}is not valid for pod|container name must be specified")
_NODE_AWAY = re.compile(r"dial tcp|dialing backend|i/o timeout|TLS handshake timeout|no route to host")
# The kubelet can't reach containerd or CRI-O, which is being restarted; its gRPC status says so.
_RUNTIME_AWAY = re.compile(r"code = (Unavailable|DeadlineExceeded)|dial unix|context deadline exceeded")
_CUT = re.compile(
    r"EOF|stream reset|connection reset|broken pipe|use of closed network|connection was lost|GOAWAY"
)


def handshake_refused(
    code: int, status: dict[str, Any], target: Target, argv: Sequence[str]
) -> KubeferryError:
    """The error for an exec request that the API server answered with HTTP `code`."""
    if code in {400, 500}:
        found = _by_text(status, target, argv)
        if found:
            return found
    if code == 404 and target.is_helper:
        return gone_helper(target, "")
    if code == 404:
        return NotFound(
            f"Pod {target.namespace}/{target.pod} doesn't exist: check the namespace and the name."
        )
    return refused(
        code,
        status,
        f"running a command in {target.where}",
        f"the verbs get and create on pods/exec in namespace {target.namespace}, which must exist",
    )


def command_failed(status: dict[str, Any], target: Target, argv: Sequence[str]) -> KubeferryError:
    """The error for a `v1.Status` that isn't the command's own exit status."""
    code = status.get("code")
    if isinstance(code, int) and code in {401, 403, 404, 429}:
        return handshake_refused(code, status, target, argv)
    # The runtime has many words for a container that ends while a command is started in it.
    return (
        _by_text(status, target, argv)
        or gone_pod(target, argv)
        or ExecError(f"{argv[0]!r} could not be run in {target.where}{quoted(status)}.")
    )


def missing_program(stderr: bytes, target: Target, argv: Sequence[str]) -> CommandNotFound | None:
    """A missing program that was reported as an exit status and a line on standard error.

    CRI-O does so, with 126, 127 or 255, and so does the shell that bounds the input of a command.
    """
    text = stderr[-2000:].decode(errors="replace")
    if "executable file" in text or "OCI runtime exec failed" in text:
        return _no_program(text, target, argv)
    if text.startswith(BOUNDED[-1]) and "not found" in text:
        return _no_program("", target, argv)
    return None


def gone_pod(target: Target, argv: Sequence[str]) -> PodNotRunning | None:
    """Why a command was killed, if its pod was: that arrives as the exit status of a killed process, no more."""
    state = target.diagnose() if target.diagnose else ""
    if state in {"", RUNNING}:
        return None
    if target.is_helper:
        return gone_helper(target, state)
    return _not_running(state)(
        f"{capital(target.where)} went away while {argv[0]!r} ran: {state}; what came is incomplete, "
        "wait until it is running again, or name another pod."
    )


def _not_running(state: str) -> type[PodNotRunning]:
    """The class of the error about a pod of the user's in this state that can't run a command."""
    return ContainerAway if state.startswith(RUNNING) else PodNotRunning


def gone_helper(target: Target, state: str) -> HelperPodGone:
    """The error for a helper pod that isn't there any more, or in this state."""
    told = "" if state in {"", RUNNING} else f" ({state})"
    return HelperPodGone(
        f"Helper pod {target.namespace}/{target.pod} was removed, or has ended, before the work was done{told}: see "
        "whether its node was drained, or who deletes pods there, and run again."
    )


def _by_text(status: dict[str, Any], target: Target, argv: Sequence[str]) -> KubeferryError | None:
    """What a message of the API server, the kubelet or the runtime is about; there are no codes for it."""
    text = server_says(status)
    if _WRONG_CONTAINER.search(text):
        return _wrong_container(target, status)
    # Before the search for a missing program: "no such file or directory" may be said of the runtime's socket.
    if _RUNTIME_AWAY.search(text):
        return Throttled(
            f"The container runtime on the node of {target.where} doesn't answer; try again later{quoted(status)}."
        )
    if "exec" in text and _NO_PROGRAM.search(text):
        return _no_program(text, target, argv)
    if "permission denied" in text and "exec" in text:
        return CommandNotFound(
            f"{argv[0]!r} may not be run in {target.where}: it isn't executable for its user."
        )
    if _NOT_RUNNING.search(text):
        state = target.diagnose() if target.diagnose else ""
        if target.is_helper:
            return gone_helper(target, state)
        told = f"{state}, its container isn't" if state == RUNNING else state
        return _not_running(state)(
            f"{capital(target.where)} can't run a command now{': ' + told if told else ''}; "
            f"wait until the container is running, or name another one, or another pod{quoted(status)}."
        )
    if _NODE_AWAY.search(text):
        return Throttled(f"The node of {target.where} can't be reached; try again later{quoted(status)}.")
    if _CUT.search(text):
        return ConnectionLost(
            f"The stream from {target.where} broke before {argv[0]!r} had ended; try again{quoted(status)}."
        )
    return None


def _no_program(text: str, target: Target, argv: Sequence[str]) -> CommandNotFound:
    match = _PROGRAM.search(text)
    name = next(filter(None, match.groups()), argv[0]) if match else argv[0]
    return CommandNotFound(f"{name!r} isn't installed in {target.where}: use an image that has it.")


def _wrong_container(target: Target, status: dict[str, Any]) -> ContainerNotFound:
    pod = f"Pod {target.namespace}/{target.pod}"
    what = (
        f"{pod} has no container {target.container!r}"
        if target.container
        else f"{pod} has several containers"
    )
    return ContainerNotFound(f"{what}: name one that it has{quoted(status)}.")
