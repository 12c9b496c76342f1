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
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from execfaults import V4, V5, Exec, Fault
from execsession import Session, hang_up
from fakeapi import FakeApi, status

from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster import Cluster, connect


class ExecServer:
    """See the module. `versions` are the subprotocols it has; `tls` a certificate file to serve HTTPS with."""

    def __init__(
        self, versions: tuple[str, ...] = (V5, V4), tls: Path | None = None, api: FakeApi | None = None
    ) -> None:
        self.api = api or FakeApi()
        self.execs: list[Exec] = []
        self.environment = dict(os.environ)
        self.cwd: Path | None = None
        self.recording = False
        self._versions = versions
        # Each with how many execs it still leaves alone, and how many it still befalls.
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
            self._faults += [(fault, [fault.skip, fault.times]) for fault in faults]

    def behave(self) -> None:
        """Have no fault from now on, and forget what was asked for until now."""
        with self._lock:
            self._faults.clear()
        self.execs = []

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
            hang_up(connection)
        for child in children:
            # The number of one that has ended may belong to a process of somebody else's by now.
            if child.poll() is None:
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
        if any(name in self._versions for name in offered):  # a client may try a version that isn't there
            entry.fault = self._choose(entry)
        entry.record = (bytearray(), bytearray()) if self.recording else None
        self.execs.append(entry)
        try:
            answer = self._refusal(entry)
            if entry.fault and entry.fault.kind in {"hang-up", "silent"}:
                entry.struck = True
                if entry.fault.kind == "silent":
                    reader.read()  # until the client has had enough
                return
            if answer:
                connection.sendall(answer)
                return
            entry.protocol = next(name for name in offered if name in self._versions)
            connection.sendall(_switch(headers["sec-websocket-key"], entry.protocol))
            session = Session(connection, reader, entry)
            session.run(lambda: self._spawn(entry, stdin="stdin" in query))
        finally:
            entry.ended.set()

    def _refusal(self, entry: Exec) -> bytes | None:
        if entry.fault and entry.fault.kind == "refuse":
            entry.struck = True
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

    def _choose(self, entry: Exec) -> Fault | None:
        with self._lock:
            for fault, left in self._faults:
                if not left[1] or not fault.fits(entry):
                    continue
                if left[0]:
                    left[0] -= 1
                    continue
                left[1] -= 1
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
