# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A link from pod to pod over the cluster's network: TLS 1.3 between two processes of openssl.

This machine makes the key and hands it to both over their exec streams. Who hasn't got it can neither connect nor
answer. Each connection has a key and a port of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import _carry_scripts as scripts
from ._asking import Question
from ._beside import Beside
from ._errors import ConnectionLost, KubeferryError, PodNotRunning, ProtocolError, RouteFailed, broke_off
from ._link import MAX_LINE, Alone, Broken, follow, tar_options
from ._runner import SAID, Process, last_words
from ._session_key import session_key
from ._shell_pieces import ShellPlace, marked
from ._tar import ByteStream

CONNECT_SECONDS = 20
"""How long the two wait for each other. What a NetworkPolicy forbids is mostly dropped without an answer."""
STALL_SECONDS = 60
"""How long nothing may arrive afterwards."""
PORTS = range(20_000, 32_000)
"""Below those that a kernel gives to outgoing connections."""
ATTEMPTS = 3
"""Ports that are tried: another program in the pod may have one."""
CONNECTIONS = 3
"""Connections that are tried: whoever else connects to a port, if just to see whether it is open, uses it up."""


class Unused(Broken):
    """A connection brought nothing at all, though somebody had connected."""


@dataclass(frozen=True)
class Receiver:
    """The RECEIVE script at work, the key that it asks for, and its address and port."""

    key: str
    at: str
    asked: Question
    process: Process
    stream: ByteStream


class TlsLink:
    """From `source` to `target`, which is reached at `address`."""

    def __init__(self, source: ShellPlace, target: ShellPlace, address: str) -> None:
        self._source = source
        self._target = target
        self._address = f"[{address}]" if ":" in address else address

    def carry(self, orders: Sequence[bytes], took: Callable[[], None]) -> None:
        said = ""
        for _attempt in range(CONNECTIONS):
            try:
                self._carry(orders, took)
            except Unused as exc:
                said = str(exc)
            else:
                return
        source, target = (place.asker.runner.where for place in (self._source, self._target))
        raise RouteFailed(
            f"{source} brought nothing to {target} in {CONNECTIONS} attempts, as where something else connects to "
            f"each port first: {said}"
        )

    def _carry(self, orders: Sequence[bytes], took: Callable[[], None]) -> None:
        """The same over one connection. Raises Unused as well."""
        receiver = self._listening()
        arrived = 0

        def count() -> None:
            nonlocal arrived
            arrived += 1
            took()

        try:
            with Beside(lambda: self._send(receiver, orders)) as sending:
                try:
                    follow(receiver.process, receiver.stream, self._target, count)
                except Broken as exc:
                    if arrived:
                        raise
                    said = sending.result()
                    if isinstance(exc, Alone):
                        raise self._unreached(receiver.at, said) from exc
                    raise Unused(said) from exc
            receiver.asked.release()
            receiver.process.wait()
        except ProtocolError as exc:
            raise broke_off(exc, f"Sending to {self._target.where}") from exc
        finally:
            receiver.process.close()

    def _listening(self) -> Receiver:
        """A receiver that waits for its connection, at a port that nobody has. Raises RouteFailed."""
        said = ""
        for _attempt in range(ATTEMPTS):
            receiver = self._receiver(secrets.choice(PORTS))
            try:
                line = receiver.stream.until(b"\n", SAID)
                if line == b"listening":
                    return receiver
                said = line.decode("utf-8", "replace").removeprefix("refused ")
            except BaseException:
                receiver.process.close()
                raise
            receiver.process.close()
        raise RouteFailed(f"openssl in {self._target.asker.runner.where} can't wait for a connection: {said}")

    def _receiver(self, port: int) -> Receiver:
        asker, key, at = self._target.asker, session_key(), f"{self._address}:{port}"
        asked = Question(f"{key}\n".encode())
        limits = (str(CONNECT_SECONDS), str(STALL_SECONDS))
        argv = asker.argv(scripts.RECEIVE, self._target.work, at, f"{port:04X}", *limits)
        process = asker.runner.start(argv, asked)
        try:
            return Receiver(key, at, asked, process, asker.begun(process))
        except BaseException:
            process.close()
            raise

    def _unreached(self, at: str, said: str) -> RouteFailed:
        source, target = (place.asker.runner.where for place in (self._source, self._target))
        return RouteFailed(
            f"{source} doesn't get through to {at} in {target}, as where a NetworkPolicy forbids it: {said}"
        )

    def _send(self, receiver: Receiver, orders: Sequence[bytes]) -> str:
        """Send until the receiver hangs up; what openssl said last. Whatever becomes of it, the receiver is told.

        Raises ConnectionLost and PodNotRunning, which tell nothing of the way to the receiver.
        """
        asker, options = self._source.asker, tar_options(self._source, self._target)
        mark = self._target.asker.mark
        lines = [marked(mark.encode(), order) for order in (*orders, b"end\n")]
        asked = Question(b"".join((f"{receiver.key}\n".encode(), *lines)))
        limits = (str(CONNECT_SECONDS), str(STALL_SECONDS))
        try:
            process = asker.runner.start(
                asker.argv(scripts.SEND, receiver.at, *limits, mark, *options), asked
            )
            try:
                asker.begun(process).until(b"ended\n", MAX_LINE)
                return _last_line(process)
            finally:
                process.close()
        except ConnectionLost as exc:
            raise broke_off(exc, f"Sending from {asker.where}") from exc
        except PodNotRunning:
            raise
        except KubeferryError as exc:
            return str(exc)
        finally:
            receiver.asked.release()


def _last_line(process: Process) -> str:
    lines = last_words(process).splitlines()
    return lines[-1] if lines else "nobody answered"
