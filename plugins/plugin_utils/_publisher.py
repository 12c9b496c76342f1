# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""From the callback's options to a running helper."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from ansible.module_utils.parsing.convert_bool import boolean

from ._event_line import learn_line
from ._forks import tell_of_forks
from ._helper_process import HelperProcess
from ._play_secrets import PlaySecrets
from ._progress_socket import SOCKET, bind
from ._redact import MOST_LEARNT, Redactor

# See plugins/module_utils/_progress.py, which reads the first and falls back on the second.
SOCKET_VARIABLE = "KUBEFERRY_PROGRESS_SOCKET"
PLACE = "/tmp/kubeferry-progress-{pid}"  # noqa: S108 (made with mkdir, which follows nothing)
# The playbook waits at most so long for its last events to be delivered.
FINISH_SECONDS = 1.7
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True)
class Options:
    """The callback's options, by their names there."""

    url: str | None
    token: str | None
    ca_cert: str | None
    validate_certs: str
    redact_keys: list[str]
    redact_values: list[str]
    spool: str
    spool_mebibytes: int
    progress: str
    run: str | None

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in fields(cls)]


class Publisher:
    """What the callback writes to."""

    def __init__(self, helper: HelperProcess, secrets: PlaySecrets, publishes: bool) -> None:
        self._helper = helper
        self.secrets = secrets
        self.redactor = secrets.redactor
        # Without a server the helper only shows progress, and events need not be made.
        self.publishes = publishes
        self._owner = os.getpid()
        self._told_broken = False
        self._told_full = False
        # Secrets that the helper doesn't know of yet.
        self._untold: list[str] = []
        # A run that ends without its recap (an interrupt, a syntax error in an include) still ends in good order.
        atexit.register(self._abandon)

    def ending(self) -> None:
        """The events that end the run follow."""
        self._helper.pipe.make_room()

    def write(self, line: bytes) -> None:
        self._helper.pipe.write(line)

    def share_secrets(self) -> None:
        """Have the helper know what was learnt before a module tells it of its progress."""
        self._untold += self.redactor.fresh()
        self._untold = [value for value in self._untold if not self._helper.pipe.write_now(learn_line(value))]

    def warning(self) -> str | None:
        """Return what there is to tell the user, once."""
        if self.redactor.full and not self._told_full:
            self._told_full = True
            return (
                f"this run has more than {MOST_LEARNT} secret values, or a play as many templates of them,"
                " so the rest of it is published without results"
            )
        if self._helper.gone and not self._told_broken:
            self._told_broken = True
            return "the helper process is gone; the rest of this run is not published"
        return self._helper.warning()

    def finish(self) -> str | None:
        """Let the helper deliver what it has, for a short time, and return what there is to tell the user."""
        atexit.unregister(self._abandon)
        os.environ.pop(SOCKET_VARIABLE, None)
        return self._helper.finish(FINISH_SECONDS) or self.warning() or self.warning_of_loss()

    def warning_of_loss(self) -> str | None:
        lost = self._helper.pipe.lost
        return f"{lost} events were lost because the helper process did not read them" if lost else None

    def _abandon(self) -> None:
        if os.getpid() == self._owner:
            self._helper.abandon(FINISH_SECONDS)


def start_publisher(
    options: Options, learnt: PlaySecrets | None = None
) -> tuple[Publisher | None, str | None]:
    """Return a publisher, or None where there is nothing to do, and a warning where there is something to know.

    `learnt` is what the playbook before this one in the same command has: their variables are the same. Only the first
    one gets the run's number that the options may have.
    """
    wants_line = options.progress == "always" or (
        options.progress == "auto" and sys.stdout.isatty() and sys.stderr.isatty()
    )
    if not options.url and not wants_line:
        return None, None
    values = [*options.redact_values, *([options.token] if options.token else [])]
    try:
        secrets = learnt or PlaySecrets(Redactor(options.redact_keys, values))
    except re.error as error:
        return None, f"an entry of redact_keys is not a regular expression ({error}), so nothing is published"
    secrets.redactor.learn_environment(os.environ)
    url, wrong = _server_url(options.url)
    if wrong:
        return None, wrong
    try:
        verify = boolean(options.validate_certs or True)
    except TypeError:
        return None, "the option validate_certs is neither true nor false, so nothing is published"
    try:
        chosen = str(uuid.UUID(options.run)) if options.run and learnt is None else None
    except ValueError:
        return None, "the option run is not a UUID, so nothing is published"
    place = _private_place(first=learnt is None)
    settings: dict[str, object] = {
        "run": chosen or str(uuid.uuid4()),
        "run_chosen": chosen is not None,
        "pid": os.getpid(),
        "url": url,
        "token": options.token,
        "ca": options.ca_cert,
        "verify": verify,
        "redact_keys": options.redact_keys,
        "redact_values": secrets.redactor.known(),
        "spool": options.spool,
        "spool_bytes": max(1, options.spool_mebibytes) * 1_048_576,
        "place": place,
        "line": wants_line,
        "force_line": options.progress == "always",
    }
    listening = None
    try:
        listening = bind(Path(place)) if place else None
        settings["socket"] = listening.fileno() if listening else None
        helper = HelperProcess(settings, os.environ, sys.stderr.fileno() if wants_line else None)
    except (OSError, ValueError) as error:
        return None, f"cannot start the helper process: {error}"
    finally:
        if listening:
            listening.close()
    if place:
        # Before the first fork, so that every worker and so every module that runs here inherits it.
        os.environ[SOCKET_VARIABLE] = f"{place}/{SOCKET}"
        tell_of_forks(f"{place}/{SOCKET}")
    return Publisher(helper, secrets, bool(url)), _exposed(url, options.token, verify)


def _server_url(given: str | None) -> tuple[str | None, str | None]:
    if not given:
        return None, None
    wrong = (
        "the option url has to be ws://host or wss://host, where a port is a number from 1 to 65535, so nothing is "
        "published"
    )
    try:
        parts = urlsplit(given)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that nothing closes, or a port that is none
        return None, wrong
    if not usable:
        return None, wrong
    return parts._replace(scheme=_SCHEMES[parts.scheme], path=parts.path or "/ws").geturl(), None


def _exposed(url: str | None, token: str | None, verify: bool) -> str | None:
    """What there is to say of a connection that others may read, or take over."""
    parts = urlsplit(url or "")
    if parts.scheme == "ws" and token and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        return f"the token goes to {parts.hostname} without encryption: give a url with wss://"
    if parts.scheme == "wss" and not verify:
        return (
            f"validate_certs is off, so whoever answers for {parts.hostname} gets the token and the events: give "
            "ca_cert instead"
        )
    return None


def _private_place(first: bool) -> str | None:
    """Make the directory of the socket for progress, under a name that a module finds without being told, if possible.

    A module that becomes another user loses the environment, but can find the process that it comes from. What is there
    may be the place of the helper that still works on this command's playbook before, unless this is the `first`.
    """
    path = Path(PLACE.format(pid=os.getpid()))
    try:
        if first and path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid():
            shutil.rmtree(path)  # left by a helper that was killed, of a process with the same number
        path.mkdir(mode=0o711)
        path.chmod(0o711)
    except OSError:
        try:
            path = Path(tempfile.mkdtemp(prefix="kubeferry-"))
        except OSError:
            return None
    # The limit of a unix socket's path is 108 bytes with its end, 104 on macOS.
    return str(path) if len(os.fsencode(path)) < 90 else None
