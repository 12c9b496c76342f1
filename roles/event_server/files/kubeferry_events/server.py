# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The HTTP side: the page at every path, health, metrics, signing in, and the upgrade to a WebSocket."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import cast

from aiohttp import hdrs, web

from . import __version__
from .callers import Callers
from .cluster import find_cluster
from .context import Context
from .errors import ServerError, StoreError
from .guard import guard
from .hub import Hub
from .ingest import Ingest
from .kubernetes import KubernetesEvents
from .listener import Listener, hearing
from .login import Login
from .metrics import Metrics
from .sessions import Sessions
from .settings import Settings
from .sockets import Sockets
from .store import Store
from .store_sqlite import SqliteStore
from .wire import compile_all

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PRUNE_SECONDS = 60.0
TOLD = 10  # runs named in a line of the log
# Longer than a history takes that is well, shorter than those wait who ask how it is.
HEALTH_SECONDS = 3.0
# So long a history may take to end: whoever stops the server would kill it sooner or later.
END_SECONDS = 4.0


def make_store(settings: Settings) -> Store:
    """The history that the settings name: a Redis URL, or a file. Raises SettingsError."""
    if "://" in settings.history:
        from .store_redis import RedisStore  # noqa: PLC0415 -- the client is needed only here

        return RedisStore(settings.history)
    return SqliteStore(settings.history)


class Server:
    """All parts of one running server."""

    def __init__(self, settings: Settings, store: Store | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.hub = Hub(store or make_store(settings), settings.limits, self.metrics)
        self.sessions = Sessions()
        cluster = find_cluster(settings, os.environ)
        self.kubernetes = KubernetesEvents(cluster, settings.limits, self.metrics) if cluster else None
        self.callers = Callers(settings.limits, self.metrics)
        self.context = Context(
            settings=settings,
            version=__version__,
            hub=self.hub,
            ingest=Ingest(self.hub),
            metrics=self.metrics,
            callers=self.callers,
            sessions=self.sessions,
            kubernetes=self.kubernetes,
        )
        self.sockets = Sockets(self.context)
        self.login = Login(self.context, cluster)
        self._files = page_files()
        self._chores: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self.port = settings.port

    @property
    def url(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return self.settings.public_url or f"{self.settings.scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Open the history and listen. Raises ServerError."""
        tls = self.settings.ssl_context()
        compile_all()
        await self.hub.open()
        if self.kubernetes is not None:
            await self.kubernetes.open()
        await self.login.open()
        self._gauges()
        self._chores = asyncio.create_task(self._housekeeping())
        # Its log would hold the query strings of the login's redirects.
        self._runner = web.AppRunner(self.app(), access_log=None, handle_signals=False, shutdown_timeout=3)
        await self._runner.setup()
        protocols = cast("web.Server", self._runner.server)  # made by setup
        self._listener = Listener(self.callers, self.settings.limits, tls)
        try:
            await self._listener.open(self.settings.host, self.settings.port, protocols)
        except OSError as error:
            await self.stop()
            raise ServerError(
                f"Can't listen on {self.settings.host} port {self.settings.port}: {error.strerror}. "
                "Set KUBEFERRY_PORT to another port."
            ) from error
        self.port = self._listener.port

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self.sockets.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self.callers.close()
        await self.login.close()
        if self.kubernetes is not None:
            await self.kubernetes.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                if self._chores is not None:
                    self._chores.cancel()
                    await asyncio.gather(self._chores, return_exceptions=True)
                await self.hub.close()
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 -- the sentence says it all
        except TimeoutError:
            log.error("The history gave no answer in %g seconds: the server ends without it.", END_SECONDS)  # noqa: TRY400

    def app(self) -> web.Application:
        app = web.Application(
            middlewares=[hearing(self.callers), guard(self.settings)], client_max_size=64 * 1024
        )
        # With a slash behind them they would be the page, which is there whatever the history does.
        for end in ("", "/"):
            app.router.add_get(f"/healthz{end}", self._healthz)
            app.router.add_get(f"/metrics{end}", self._metrics)
        app.router.add_get("/login", self.login.begin)
        app.router.add_get("/login/callback", self.login.finish)
        app.router.add_post("/logout", self.login.end)
        app.router.add_get("/{path:.*}", self._get)
        return app

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            if request.path in ("/", "/ws"):
                return await self.sockets.handle(request)
            return web.Response(status=404, text="The WebSocket is at /ws.\n")
        # A page's own files by their names, and the page itself at every other path: it does the routing.
        body, kind = self._files.get(request.path.lstrip("/"), self._files["index.html"])
        return web.Response(
            body=body, content_type=kind, charset="utf-8", headers={"Cache-Control": "no-cache"}
        )

    async def _healthz(self, _request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await self.hub.store.check()
        except (StoreError, TimeoutError) as error:
            why = str(error) or f"The history gave no answer in {HEALTH_SECONDS:g} seconds."
            log.error("%s", why)  # noqa: TRY400 -- the sentence says it all
            return web.json_response({"status": "failing", "history": "can't be used"}, status=503)
        return web.json_response({"status": "ok", "version": __version__, "epoch": self.hub.store.epoch})

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.text().encode(), content_type="text/plain", charset="utf-8")

    def _gauges(self) -> None:
        self.metrics.gauge("runs", "Runs in the history", lambda: len(self.hub.rows))
        self.metrics.gauge("seq", "The newest event's number", lambda: self.hub.seq)
        self.metrics.gauge("sessions", "People signed in", lambda: len(self.sessions))

    async def _housekeeping(self) -> None:
        pruned = 0.0
        while True:
            await asyncio.sleep(1)
            self.sessions.expire(time.time())
            try:
                await self.hub.save_rows()
                if time.monotonic() - pruned > PRUNE_SECONDS:
                    pruned = time.monotonic()
                    await self._prune()
            except StoreError as error:
                log.error("%s", error)  # noqa: TRY400 -- the sentence says it all
                self.metrics.add("store_errors")

    async def _prune(self) -> None:
        dropped = await self.hub.store.prune(self.settings.retention, time.time())
        self.hub.forget(dropped)
        if dropped:
            more = f" and {len(dropped) - TOLD} more" if len(dropped) > TOLD else ""
            log.info(
                "dropped for their age, number or size (KUBEFERRY_RETENTION_DAYS, _RUNS, _BYTES): %s%s",
                ", ".join(dropped[:TOLD]),
                more,
            )


def page_files() -> dict[str, tuple[bytes, str]]:
    """The page's files by their names, read once: what is asked for is looked up, never opened."""
    return {
        path.relative_to(PAGE).as_posix(): (path.read_bytes(), TYPES[path.suffix])
        for path in sorted(PAGE.rglob("*"))
        if path.suffix in TYPES
    }
