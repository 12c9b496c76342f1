# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the server writes to its log when strangers send it nonsense with secrets in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re

from eventkit import VIEW_TOKEN, Client, running

CANARY = "CANARY-7f3a"
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
MASK = b"\x01\x02\x03\x04"


def masked(text: str) -> bytes:
    """A text as the payload of a client's WebSocket frame."""
    return bytes(each ^ MASK[at % 4] for at, each in enumerate(text.encode()))


def frame(text: str) -> bytes:
    return b"\x81" + bytes([0x80 | len(text)]) + MASK + masked(text)


HELLO = json.dumps({"type": "HELLO", "token": CANARY})
REQUESTS = {
    "no HTTP": f"{HELLO}\r\n\r\n",
    "a bearer token": f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CANARY}\x01\r\n\r\n",
    "a cookie": f"GET / HTTP/1.1\r\nHost: x\r\nCookie: session={CANARY}\x00\r\n\r\n",
    "a cookie's name": f"GET /login HTTP/1.1\r\nHost: x\r\nCookie: {CANARY} x@=1\r\n\r\n",
    "a code, another version": f"GET /login/callback?code={CANARY} HTTP/9.9\r\nHost: x\r\n\r\n",
    "a code, a blank": f"GET /login/callback?code={CANARY} x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a code": f"GET /login/callback?code={CANARY}&state={CANARY} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a refusal": f"GET /login/callback?error={CANARY}&state=x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a wrong length": f"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {CANARY}\r\n\r\n",
    "a wrong chunk": f"POST /logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n",
    "a wrong encoding": f"POST /logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {CANARY}\r\n\r\n",
    "a wrong address": f"GET http://[{CANARY}/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": f"GET / HTTP/1.1\r\nHost: x\r\nX: {CANARY * 2000}\r\n\r\n",
    "a method": f"{CANARY}\r\n\r\n",
    "a subprotocol": f"{UPGRADE}Sec-WebSocket-Protocol: {CANARY}\r\n\r\n",
    "a version": UPGRADE.replace("13", CANARY) + "\r\n",
    "a second line": f"GET /x%0a{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n",
    "two requests": f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n{CANARY}\x01\r\n\r\n",
}


async def say(server, *parts: bytes) -> bytes:
    """Send each part after the answer to the one before; returns the last answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answer = b""
    for part in parts:
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(part)
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(65_536), 0.5)
    writer.close()
    return answer


def secrets_in(log: str) -> set[str]:
    """What of the canary is in a log: as it is, and as a frame has it."""
    hidden = masked(HELLO)
    at = HELLO.index(CANARY)
    forms = {"plain": CANARY, "masked": repr(hidden[at : at + len(CANARY)])[2:-1]}
    return {name for name, form in forms.items() if form in log}


async def test_nothing_that_strangers_send_is_in_the_log():
    async with running(KUBEFERRY_LIMIT_CONNECTIONS="1", KUBEFERRY_LIMIT_STRANGER_SECONDS="2") as server:
        at = len(server.log.read_text())
        for request in REQUESTS.values():
            await say(server, request.encode())
        async with await Client.connect(server.url, VIEW_TOKEN):
            # One too many: its upgrade is refused, and what it sends after that is no HTTP.
            upgrade = f"{UPGRADE}\r\n".encode()
            assert b" 503 " in (await say(server, upgrade))[:20]
            await say(server, upgrade, frame(HELLO))
            await say(server, upgrade + frame(HELLO))
        # Frames that break the protocol of WebSockets.
        for broken in (b"\xff" + frame(HELLO)[1:], frame(HELLO)[:1] + b"\x10" + CANARY.encode()):
            await say(server, upgrade, frame(HELLO), broken)
        log = server.log.read_text()[at:]
        assert secrets_in(log) == set()
        assert "Traceback" not in log
        # Each line has a time and says what kind of thing it was.
        assert "BadStatusLine" in log or "BadHttpMessage" in log
        assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in log.splitlines())
        assert max(map(len, log.splitlines())) < 600


async def test_a_flood_of_nonsense_does_not_fill_the_disk(server):
    at = len(server.log.read_text())
    for _attempt in range(300):
        answer = await say(server, b"GET / HTTP/9.9\r\nX: " + b"a" * 4000 + b"\r\n\r\n")
        assert b" 400 " in answer[:20]
    for _attempt in range(100):
        await say(server, b"GET /login/callback?code=x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert len(server.log.read_text()) - at < 10_000
