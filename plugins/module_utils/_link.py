# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What joins two places between which files are carried; here a pipe, where both are in one pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from . import _carry_scripts as scripts
from ._asking import Question, full
from ._errors import ConnectionLost, EndpointError, ProtocolError, broke_off
from ._runner import Process, is_full, last_words
from ._scripts import BROKEN, FAILED
from ._shell_pieces import ShellPlace, marked
from ._tar import ByteStream

MAX_LINE = 200
BRINGS = (b"part ", b"tar ")
"""How orders begin of which it is heard when they have been carried out."""
AHEAD = 2
"""Such orders that may be on their way, so that nobody waits for this machine."""


class Broken(ConnectionLost):
    """The stream between the places ended before its end."""


class Alone(Broken):
    """Nobody has connected to the target."""


class Link(Protocol):
    """A way from one place to the other."""

    def carry(self, orders: Sequence[bytes], took: Callable[[], None]) -> None:
        """Have orders of `_carry_scripts` worked off, all but the last, `end`. Calls `took` for each that brings data.

        The link puts the mark in front of each.

        What has arrived isn't looked at. Raises RouteFailed when the link can't be made, ConnectionLost when it broke,
        and EndpointError when the target can't be written to.
        """


class Orders(Question):
    """Orders as standard input, not far ahead of what has been done; then, once all is done, the line that ends it.

    So little goes on in the pod when this process is killed.
    """

    def __init__(self, orders: Sequence[bytes], mark: bytes) -> None:
        super().__init__(marked(mark, b"end\n"))
        self._orders = orders
        self._mark = mark
        self._under_way = 0

    def pieces(self) -> Iterator[bytes]:
        for order in self._orders:
            while self._under_way > AHEAD:
                yield b""
            if order.startswith(BRINGS):
                self._under_way += 1
            yield marked(self._mark, order)
        yield from super().pieces()

    def took(self) -> None:
        self._under_way -= 1


class PodLink:
    """A pipe inside the one pod that has both places."""

    def __init__(self, source: ShellPlace, target: ShellPlace) -> None:
        self._source = source
        self._target = target

    def carry(self, orders: Sequence[bytes], took: Callable[[], None]) -> None:
        source, target = self._source, self._target
        mark = target.asker.mark
        asked = Orders(orders, mark.encode())

        def one_more() -> None:
            asked.took()
            took()

        asker, options = source.asker, tar_options(source, target)
        argv = asker.argv(scripts.IN_ONE_POD, target.asker.path, target.work, mark, *options)
        process = asker.runner.start(argv, asked)
        try:
            follow(process, asker.begun(process), target, one_more)
            asked.release()
            process.wait()
        except ProtocolError as exc:
            raise broke_off(exc, f"Copying in {asker.runner.where}") from exc
        finally:
            process.close()


def tar_options(source: ShellPlace, target: ShellPlace) -> list[str]:
    """How tar makes an archive that the target's tar understands whole.

    BusyBox passes over pax headers, and with them long names; only they have the nanoseconds.
    """
    if "gnutar" not in source.tools:
        return []
    plain = ["--numeric-owner", "--no-unquote", "--no-recursion"]
    if "gnutar" not in target.tools:
        return [*plain, "--format=gnu"]
    return [*plain, "--format=posix", "--pax-option=delete=atime,delete=ctime"]


def follow(process: Process, stream: ByteStream, target: ShellPlace, took: Callable[[], None]) -> None:
    """Read what a TAKE script says until its `end`. Raises as `Link.carry` does."""
    while (line := stream.until(b"\n", MAX_LINE)) != b"end":
        if line == b"took":
            took()
        elif line == scripts.ALONE.encode():
            raise Alone(f"Nobody has connected to {target.where}.")
        elif line == BROKEN.encode():
            raise broken(process, target)
        elif line == FAILED.encode():
            raise failure(process, target)
        else:
            raise ProtocolError(f"{target.where} said {line!r}, which can't be")
    if is_full(process.stderr()):
        raise full(target.where)


def broken(process: Process, target: ShellPlace) -> Broken | EndpointError:
    """What has become of a TAKE script that was cut."""
    if is_full(process.stderr()):
        return full(target.where)
    return Broken(f"What was on its way to {target.where} ended before its end.")


def failure(process: Process, target: ShellPlace) -> EndpointError:
    """What a TAKE script that failed said last, as an error."""
    if is_full(process.stderr()):
        return full(target.where)
    why = last_words(process) or "it said nothing"
    return EndpointError(
        f"Files can't be written below {target.where}: {why}. Check that its volume is writable."
    )
