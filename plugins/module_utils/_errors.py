# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The one exception tree of the collection.

Every error carries a single sentence: what happened, to which path, pod or claim, and what to do
next. C(main()) of each module catches :class:`KubeferryError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Cause = TypeVar("Cause", bound="KubeferryError")


class KubeferryError(Exception):
    """Root of the tree: anything a user can read and act on. `changed` is whether something was done before it."""

    changed = False


class Interrupted(KubeferryError):
    """A signal asked the process to end; what it had made was cleared away."""


class UsageError(KubeferryError):
    """The request itself is wrong: an option's value, or two options that contradict each other."""


class EndpointError(KubeferryError):
    """An endpoint's directory can't be used: missing, no directory, unreadable, unwritable, full."""


class ToolMissing(EndpointError):
    """The endpoint lacks a command that the work needs."""


class BusyError(EndpointError):
    """Another run is working on the same target."""


class ClusterError(KubeferryError):
    """The API server refused or could not be asked. `said` is its own text, whole and on one line."""

    said = ""


class Unreachable(ClusterError):
    """No connection to the API server."""


class Unauthorized(ClusterError):
    """The API server doesn't accept the credentials (HTTP 401)."""


class Forbidden(ClusterError):
    """The user may not do that (HTTP 403)."""


class NotFound(ClusterError):
    """A namespace, pod, container or claim doesn't exist (HTTP 404)."""


class Conflict(ClusterError):
    """The object is there already, or somebody else has changed it since it was read (HTTP 409)."""


class Throttled(ClusterError):
    """The API server is overloaded or failing for now (HTTP 429, 500, 502, 503, 504): worth another try."""


class ExecError(KubeferryError):
    """A command could not be started, or its stream broke. `passed_over` says why other routes weren't taken."""

    passed_over: Sequence[str] = ()


class PodNotRunning(ExecError):
    """The pod exists but no container of it can run a command now."""


class ContainerAway(PodNotRunning):
    """The pod is Running and the container isn't, as while it is restarted: worth another try."""


class HelperPodGone(PodNotRunning):
    """A helper pod was removed, or has ended, while it was needed: another one in its place may do."""


class ContainerNotFound(ExecError):
    """The pod runs, but has no such container."""


class CommandNotFound(ExecError):
    """The container has no such program."""


class ConnectionLost(ExecError):
    """The stream ended before the command's exit status arrived: worth another try."""


class Stalled(ConnectionLost):
    """Nothing arrived for longer than the limit, although the connection stands."""


class Stuck(ExecError):
    """A command goes on and on without the answer that it was started for: to ask once more would do no better."""


def silent_for(seconds: float) -> Stuck:
    """The error for a command that had its time, after so many seconds without a word of it."""
    return Stuck(
        f"nothing more was said for {seconds:.0f} s, so a tool hangs there, or the volume: mend that, and run again."
    )


class RouteFailed(ExecError):
    """The way that the contents were to take isn't open; another one may be."""


def route_closed(route: str, why: str) -> UsageError:
    """The error for a route that is asked for and can't be had."""
    return UsageError(f"route: {route} can't be taken here, since {why.rstrip('.')}: use auto or stream.")


class HelperPodError(ClusterError):
    """A helper pod did not become ready; the message holds the diagnosis."""


class NoRoom(HelperPodError):
    """A quota of pods leaves no room for a helper pod."""


class ClaimTaken(HelperPodError):
    """A claim that one pod alone may mount (ReadWriteOncePod) is mounted by another."""


class ManifestError(KubeferryError):
    """A manifest file can't be read, or isn't one."""


class ProtocolError(KubeferryError):
    """The endpoint sent something that the protocol doesn't allow."""


def broke_off(cause: Cause, doing: str) -> Cause:
    """An error of the same kind, which says in one sentence what broke off: `doing` begins it."""
    why = str(cause).removesuffix(".")
    why = f"the {why.removeprefix('The ')}" if why.startswith("The ") else why
    return type(cause)(f"{doing} broke off: {why}.")
