# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Who is connected, and who has to go: those who have proved nothing, when they take too long or others need the place.

Users behind one proxy have one address, and nothing that a stranger says of himself is believed. So nobody is refused
for his address: whoever comes takes the place of the stranger there who has said nothing for the longest time. People
say HELLO at once, and are no strangers from then on.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

from .limits import Limits
from .metrics import Metrics

ProtocolFactory = Callable[[], asyncio.Protocol]


class Caller(asyncio.Protocol):
    """One open socket: passes on to the protocol that answers it, and can be dropped."""

    def __init__(self, callers: Callers, address: str, make: ProtocolFactory) -> None:
        self._callers, self.address, self._make = callers, address, make
        self._inner: asyncio.Protocol | None = None
        self.transport: asyncio.Transport | None = None
        # Takes the socket over, which with TLS takes a handshake.
        self.taking: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a socket's transport reads and writes")
        self.transport, self._inner = transport, self._make()
        self._callers.connected(self, transport)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._callers.left(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def drop(self) -> None:
        """Close it without waiting for the other side."""
        self._callers.left(self)
        if self.transport is not None:
            self.transport.abort()
        elif self.taking is not None:
            self.taking.cancel()


class Callers:
    """All open sockets of a server."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        # The strangers of each address; the one who has said nothing for the longest time is the first.
        self._strangers: dict[str, dict[Caller, None]] = {}
        self._connected: dict[asyncio.BaseTransport, Caller] = {}
        metrics.gauge("strangers", "Open connections that have proved nothing", self._count)

    def _count(self) -> int:
        return sum(map(len, self._strangers.values()))

    def admit(self, address: str, make: ProtocolFactory) -> Caller:
        """Take in a stranger, in another one's place if need be."""
        origin = origin_of(address)
        there = self._strangers.get(origin, {})
        if len(there) >= self._limits.strangers_per_address:
            self._send_away(next(iter(there)))
        elif self._count() >= self._limits.strangers:
            most = max(self._strangers, key=lambda each: len(self._strangers[each]))
            self._send_away(next(iter(self._strangers[most])))
        caller = Caller(self, origin, make)
        self._strangers.setdefault(origin, {})[caller] = None
        self._wait(caller)
        return caller

    def connected(self, caller: Caller, transport: asyncio.Transport) -> None:
        self._connected[transport] = caller

    def left(self, caller: Caller) -> None:
        if caller.transport is not None:
            self._connected.pop(caller.transport, None)
        self._no_stranger(caller)

    def heard(self, transport: asyncio.BaseTransport | None) -> None:
        """A request has come: it may take as long as another one."""
        if (caller := self._stranger(transport)) is not None:
            there = self._strangers[caller.address]
            there[caller] = there.pop(caller)
            self._wait(caller)

    def upgraded(self, transport: asyncio.BaseTransport | None) -> None:
        """It is a WebSocket now, and who serves that looks at the clock. It may still be sent away for another."""
        if (caller := self._stranger(transport)) is not None and caller.timer is not None:
            caller.timer.cancel()

    def known(self, transport: asyncio.BaseTransport | None) -> None:
        """It has proved who it is."""
        if (caller := self._stranger(transport)) is not None:
            self._no_stranger(caller)

    def close(self) -> None:
        """Drop all that are left."""
        for caller in [
            *self._connected.values(),
            *(each for there in self._strangers.values() for each in there),
        ]:
            caller.drop()

    def _stranger(self, transport: asyncio.BaseTransport | None) -> Caller | None:
        caller = self._connected.get(transport) if transport is not None else None
        return caller if caller is not None and caller in self._strangers.get(caller.address, {}) else None

    def _no_stranger(self, caller: Caller) -> None:
        if caller.timer is not None:
            caller.timer.cancel()
        there = self._strangers.get(caller.address, {})
        there.pop(caller, None)
        if not there:
            self._strangers.pop(caller.address, None)

    def _wait(self, caller: Caller) -> None:
        if caller.timer is not None:
            caller.timer.cancel()
        loop = asyncio.get_running_loop()
        caller.timer = loop.call_later(self._limits.stranger_seconds, self._send_away, caller)

    def _send_away(self, caller: Caller) -> None:
        self._metrics.add("strangers_dropped")
        caller.drop()


def origin_of(address: str) -> str:
    """What counts as one address: of IPv6 the network of one site, in which everybody can have any number of them.

    >>> origin_of("192.0.2.7"), origin_of("::ffff:192.0.2.7"), origin_of("2001:db8::7%eth0")
    ('192.0.2.7', '192.0.2.7', '2001:db8::/64')
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
