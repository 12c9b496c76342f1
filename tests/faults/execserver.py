# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server on loopback whose pods are this machine, and which misbehaves when told to.

Exec requests run real commands and speak v4 or v5 of the exec subprotocol on a real socket; plain requests go
to a :class:`FakeApi`. What goes wrong is a :class:`Fault`:

    with ExecServer() as server:
        server.inject(Fault("cut", after=100_000))
        runner = server.cluster().runner("ns", "pod", "main")
        ...                                  # the first exec loses its connection after 100,000 bytes
        assert server.execs[0].argv == [...]

Blocking sockets, a thread for each connection: the misbehaviour is then just code in the order of its effects.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from fakeapi import FakeApi, status

from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster import Cluster, connect

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255

KINDS = {
    "refuse": "answer the handshake with HTTP `code` and a Status that says `message`",
    "hang-up": "close the connection in place of answering the handshake",
    "cut": "close the connection after `after` bytes of standard output, at the end of a frame",
    "cut-frame": "the same in the middle of a frame",
    "cut-input": "close the connection after `after` bytes of standard input",
    "no-status": "send all the output, then close without a status",
    "truncate": "drop the output after `after` bytes, and report the status as if nothing were missing",
    "stall": "send nothing more after `after` bytes of standard output, not even a pong",
    "error": "send a status of failure that says `message`, without running the command",
    "noise": "write `message` on standard error `after` times before the command's own",
    "banner": "write `message` on standard output before the command's own",
    "slow-status": "send the status `after` milliseconds after the last byte",
    "abrupt": "close the connection right after the status, with input unread, as Go's servers do",
    "linger": "send the status, and don't close the connection",
    "redirect": "answer the handshake with a redirection to this very server",
}


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, for the next `times` execs whose command contains `match`."""

    kind: str
    after: int = 0
    code: int = 500
    message: str = "it is broken"
    times: int = 1
    match: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} isn't one of {', '.join(KINDS)}")


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
    received: int = 0  # bytes of standard input
    sent: int = 0  # bytes of standard output
    pings: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


class ExecServer:
    """See the module. `versions` are the subprotocols it has; `tls` a certificate file to serve HTTPS with."""

    def __init__(
        self, versions: tuple[str, ...] = (V5, V4), tls: Path | None = None, api: FakeApi | None = None
    ) -> None:
        self.api = api or FakeApi()
        self.execs: list[Exec] = []
        self.environment = dict(os.environ)
        self.cwd: Path | None = None
        self._versions = versions
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._certificate = tls
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(tls)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: set[socket.socket] = set()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def inject(self, *faults: Fault) -> None:
        """Misbehave from now on; each exec suffers the first fault that matches and isn't used up."""
        with self._lock:
            self._faults += [(fault, [fault.times]) for fault in faults]

    def auth(self) -> dict[str, Any]:
        """The authentication options of a task that uses this server."""
        options: dict[str, Any] = {"host": self.url, "api_key": "a-token"}
        if self._certificate:
            options["ca_cert"] = str(self._certificate)
        return options

    def cluster(self) -> Cluster:
        """The collection's own client, connected to this server."""
        return connect(self.auth())

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left, children = list(self._open), list(self._children)
        for connection in left:
            _hang_up(connection)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(5)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with self._lock:
                self._open.add(connection)
            with connection, connection.makefile("rb") as reader:
                while self._request(connection, reader):
                    pass
        except (OSError, ValueError):
            pass  # the client went away, or we were told to be rude
        finally:
            with self._lock:
                self._open.discard(connection)

    def _request(self, connection: socket.socket, reader: Any) -> bool:
        """Answer one request; whether another may follow on this connection."""
        line = reader.readline().decode()
        if not line:
            return False
        method, target, _version = line.split()
        headers: dict[str, str] = {}
        while text := reader.readline().decode().strip():
            name, _colon, value = text.partition(":")
            known = headers.get(name.lower())
            headers[name.lower()] = f"{known},{value.strip()}" if known else value.strip()
        url = urlsplit(target)
        if url.path.endswith("/exec") and headers.get("upgrade", "").lower() == "websocket":
            self._exec(connection, reader, url.path, parse_qs(url.query), headers)
            return False
        body = reader.read(int(headers.get("content-length", 0)))
        code, answer = self.api.handle(method, target, json.loads(body) if body else None, headers)
        connection.sendall(_http(code, answer))
        return True

    def _exec(
        self,
        connection: socket.socket,
        reader: Any,
        path: str,
        query: dict[str, list[str]],
        headers: dict[str, str],
    ) -> None:
        parts = [unquote(part) for part in path.split("/")]
        offered = [text.strip() for text in headers.get("sec-websocket-protocol", "").split(",")]
        container = query.get("container", [""])[0]
        entry = Exec(query.get("command", []), parts[4], parts[6], container, offered, headers)
        entry.fault = self._choose(entry.argv)
        self.execs.append(entry)
        try:
            answer = self._refusal(entry)
            if entry.fault and entry.fault.kind == "hang-up":
                return
            if answer:
                connection.sendall(answer)
                return
            entry.protocol = next(name for name in offered if name in self._versions)
            connection.sendall(_switch(headers["sec-websocket-key"], entry.protocol))
            session = _Session(connection, reader, entry)
            session.run(lambda: self._spawn(entry, stdin="stdin" in query))
        finally:
            entry.ended.set()

    def _refusal(self, entry: Exec) -> bytes | None:
        if entry.fault and entry.fault.kind == "refuse":
            code = entry.fault.code
            return _http(code, status(code, entry.fault.message))
        if entry.fault and entry.fault.kind == "redirect":
            place = self.url.replace("http", "ws") + "/api/v1/namespaces/ns/pods/pod/exec?command=id"
            return f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
        if not any(name in self._versions for name in entry.offered):
            return b"HTTP/1.1 403 Forbidden\r\n\r\n"  # as golang.org/x/net/websocket has it
        pod = self.api.find("pods", entry.namespace, entry.pod)
        if pod is None:
            return _http(404, status(404, f'pods "{entry.pod}" not found', "pods"))
        names = [each["name"] for each in pod["spec"]["containers"]]
        if entry.container and entry.container not in names:
            text = f"container {entry.container} is not valid for pod {entry.pod}"
            return _http(400, status(400, text))
        return None

    def _choose(self, argv: list[str]) -> Fault | None:
        with self._lock:
            for fault, left in self._faults:
                if left[0] and fault.match in " ".join(argv):
                    left[0] -= 1
                    return fault
        return None

    def _spawn(self, entry: Exec, *, stdin: bool) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            entry.argv,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.cwd,
            env=self.environment,
            start_new_session=True,
        )
        with self._lock:
            self._children.add(child)
        return child


class _Session:
    """One exec after its handshake."""

    def __init__(self, connection: socket.socket, reader: Any, entry: Exec) -> None:
        self._connection = connection
        self._reader = reader
        self._entry = entry
        self._fault = entry.fault or Fault("banner", message="")
        self._sending = threading.Lock()
        self._mute = False

    def run(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> None:
        for channel in (STDOUT,) if self._entry.protocol == V5 else (STDOUT, STDERR, ERROR):
            self._message(channel, b"")  # servers begin so
        if self._fault.kind == "error":
            self._finish(status(500, self._fault.message))
            return
        try:
            child = spawn()
        except OSError as exc:
            # The words of containerd and runc for it.
            text = (
                f'exec: "{self._entry.argv[0]}": executable file not found in $PATH: {exc.strerror}: unknown'
            )
            self._finish(
                status(500, f"Internal error occurred: error executing command in container: {text}")
            )
            return
        feeder = threading.Thread(target=self._feed, args=(child,), daemon=True)
        stderr = threading.Thread(target=self._copy_stderr, args=(child,), daemon=True)
        try:
            self._prelude()
            feeder.start()
            stderr.start()
            if self._copy_stdout(child):
                stderr.join()
                self._finish(_ended(child.wait()))
            # Until the client closes: what it still sends must be read, or its kernel takes the rest for lost.
            feeder.join()
        finally:
            # As with a real runtime, a command whose client has gone meets the end of its input, or a broken pipe.
            child.stdout.close()  # type: ignore[union-attr]
            child.wait()
            for thread in (feeder, stderr):
                if thread.ident:
                    thread.join()
            child.stderr.close()  # type: ignore[union-attr]

    def _prelude(self) -> None:
        text = self._fault.message.encode()
        if self._fault.kind == "banner" and text:
            self._message(STDOUT, text)
        if self._fault.kind == "noise":
            for _number in range(self._fault.after):
                self._message(STDERR, text)

    def _copy_stdout(self, child: subprocess.Popen[bytes]) -> bool:
        """Send the command's output; False if the fault has taken the connection away."""
        assert child.stdout is not None
        limit = self._fault.after
        while piece := os.read(child.stdout.fileno(), 32 * 1024):
            room = limit - self._entry.sent
            if self._fault.kind in {"cut", "cut-frame", "stall", "truncate"} and len(piece) >= room:
                if room > 0:
                    self._message(STDOUT, piece[:room])
                if self._fault.kind != "truncate":
                    self._break_off(piece[room:])
                    return False
                self._entry.sent = limit
                continue
            self._entry.sent += len(piece)
            self._message(STDOUT, piece)
        return True

    def _break_off(self, rest: bytes) -> None:
        if self._fault.kind == "stall":
            self._mute = True
            return
        if self._fault.kind == "cut-frame":
            with self._sending:
                self._connection.sendall(_header(2, len(rest) + 1000) + bytes([STDOUT]) + rest)
        _hang_up(self._connection)

    def _copy_stderr(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stderr is not None
        with contextlib.suppress(OSError):
            while piece := os.read(child.stderr.fileno(), 32 * 1024):
                self._message(STDERR, piece)

    def _feed(self, child: subprocess.Popen[bytes]) -> None:
        """Take the client's messages until it goes away."""
        try:
            for opcode, payload in self._frames():
                if opcode == 9 and not self._mute:
                    self._entry.pings += 1
                    self._frame(10, payload)
                elif opcode == 8:
                    break
                elif opcode == 2:
                    self._input(child, payload)
        except (OSError, ValueError):
            pass
        if child.stdin:
            with contextlib.suppress(OSError):
                child.stdin.close()

    def _input(self, child: subprocess.Popen[bytes], payload: bytes) -> None:
        assert child.stdin is not None
        if self._entry.protocol == V5 and payload == bytes([CLOSE, STDIN]):
            child.stdin.close()
        elif payload[:1] == bytes([STDIN]):
            self._entry.received += len(payload) - 1
            if self._fault.kind == "cut-input" and self._entry.received >= self._fault.after:
                _hang_up(self._connection)
            with contextlib.suppress(OSError, ValueError):  # the command has ended, or closed its input
                child.stdin.write(payload[1:])
                child.stdin.flush()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while head := self._reader.read(2):
            length = head[1] & 0x7F
            if not head[1] & 0x80:
                raise ValueError("a client must mask its frames")
            if length == 126:
                (length,) = struct.unpack("!H", self._reader.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self._reader.read(8))
            key, data = self._reader.read(4), self._reader.read(length)
            mask = int.from_bytes(key * (length // 4 + 1), "big") >> 8 * (4 - length % 4)
            yield head[0] & 15, (int.from_bytes(data, "big") ^ mask).to_bytes(length, "big")

    def _finish(self, ending: dict[str, Any]) -> None:
        if self._fault.kind == "slow-status":
            time.sleep(self._fault.after / 1000)
        if self._fault.kind != "no-status":
            self._message(ERROR, json.dumps(ending).encode())
        if self._fault.kind == "linger":
            return
        if self._fault.kind == "abrupt":
            _hang_up(self._connection)  # what the client sends from now on is answered with a reset
            return
        self._frame(8, struct.pack("!H", 1000))
        self._connection.shutdown(socket.SHUT_WR)

    def _message(self, channel: int, data: bytes) -> None:
        self._frame(2, bytes([channel]) + data)

    def _frame(self, opcode: int, payload: bytes) -> None:
        with self._sending:
            self._connection.sendall(_header(opcode, len(payload)) + payload)


def _header(opcode: int, length: int) -> bytes:
    if length < 126:
        return struct.pack("!BB", 0x80 | opcode, length)
    if length < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, length)
    return struct.pack("!BBQ", 0x80 | opcode, 127, length)


def _switch(key: str, protocol: str) -> bytes:
    accept = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(accept).decode()}",
        f"Sec-WebSocket-Protocol: {protocol}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _http(code: int, body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {code} -\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def _ended(code: int) -> dict[str, Any]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    code = 128 - code if code < 0 else code
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
