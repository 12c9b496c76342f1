# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""One WebSocket connection: who it is, what it may, and an answer to each of its messages."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from .connection_kubernetes import KubernetesDesk
from .context import Context
from .errors import DamagedRun, MessageError, StoreError
from .fanout import Viewer
from .limits import TokenBucket
from .sessions import Session
from .store import Page, on_wire
from .wire import check_message, dump, parse

log = logging.getLogger(__name__)

PUBLISH, VIEW = "publish", "view"


class Peer(Protocol):
    """The socket, as far as a connection needs it."""

    async def send(self, frame: bytes) -> None: ...

    def abort(self) -> None:
        """Drop the connection without waiting for the other side."""


class Connection:
    """Speaks the protocol with one client."""

    def __init__(self, context: Context, peer: Peer, session: Session | None) -> None:
        self._context, self._hub = context, context.hub
        self._session = session
        self._limits = context.settings.limits
        self.viewer = Viewer(peer.send, peer.abort, self._limits, context.metrics)
        self.scopes: set[str] = set()
        self.proved = asyncio.Event()
        self._desk = KubernetesDesk(context, self.viewer.send, session, self.proved)
        now = time.monotonic()
        self._messages = TokenBucket(self._limits.messages_per_second, self._limits.messages_burst, now)
        self._events = TokenBucket(self._limits.events_per_second, self._limits.events_per_second, now)
        self._handlers: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "HELLO": self._hello,
            "SUBSCRIBE": self._subscribe,
            "UNSUBSCRIBE": self._unsubscribe,
            "GET_HISTORY": self._get_history,
            "PUBLISH": self._publish,
            "GET_EVENTS": self._desk.get,
            "WATCH_EVENTS": self._desk.watch,
            "UNWATCH_EVENTS": self._desk.unwatch,
        }
        if session is not None:
            session.listeners.add(self._signed_out)
            if context.settings.login.grants_view:
                self.scopes.add(VIEW)

    async def close(self) -> None:
        if self._session is not None:
            self._session.listeners.discard(self._signed_out)
        self._hub.unwatch(self.viewer)
        self.viewer.close()
        await self._desk.close()

    def _signed_out(self) -> None:
        """The session has ended: on its own, or because its owner signed out."""
        self._desk.sign_out()
        if self._context.settings.login.grants_view and PUBLISH not in self.scopes:
            self.scopes.discard(VIEW)
            self._hub.unwatch(self.viewer)
            self.viewer.forget()
        self.viewer.offer(
            dump({"type": "ERROR", "code": "signed_out", "message": "You are signed out. Sign in again."})
        )

    async def receive(self, text: str) -> None:
        """Answer one message. Never raises for what a client did."""
        request: str | None = None
        try:
            if not self.proved.is_set() and len(text) > self._limits.stranger_bytes:
                raise MessageError(
                    "too_large", f"Before HELLO a message may have {self._limits.stranger_bytes} bytes."
                )
            message = parse(text)
            request = check_message(message)
            if request != "PUBLISH" and not self._messages.try_take(time.monotonic()):
                raise MessageError("rate_limited", "Too many messages: wait a second and go on more slowly.")
            await self._handlers[request](message)
        except MessageError as error:
            await self._refuse(error, request)
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 -- the sentence says it all
            self._context.metrics.add("store_errors")
            await self._refuse(_unreadable(error), request)

    async def _refuse(self, error: MessageError, request: str | None) -> None:
        self._context.metrics.add("messages_refused")
        answer = {"type": "ERROR", "message": error.message, "code": error.code, **error.details}
        if request:
            answer.setdefault("request", request)
        await self.viewer.send(dump(answer))
        if error.code in ("rate_limited", "wrong_format"):
            await asyncio.sleep(0.05)  # whoever sends rubbish is read slowly

    def _require(self, scope: str) -> None:
        if scope in self.scopes:
            return
        if self.scopes:
            raise MessageError("forbidden", f"The token of this connection isn't one to {scope} with.")
        raise MessageError("unauthenticated", "Send HELLO with a token first.")

    async def _hello(self, message: dict[str, Any]) -> None:
        if (token := message.get("token")) is not None:
            settings = self._context.settings
            found = {
                scope
                for scope, known in ((PUBLISH, settings.publish_token), (VIEW, settings.view_token))
                if hmac.compare_digest(known.encode(), token.encode("utf-8", "backslashreplace"))
            }
            if not found:
                await asyncio.sleep(0.2)
                raise MessageError(
                    "unauthenticated", "The token is neither the one to publish nor the one to view with."
                )
            self.scopes |= found
        if not self.scopes:
            raise MessageError("unauthenticated", "HELLO needs a token.")
        self.proved.set()
        await self.viewer.send(dump(self._welcome()))

    def _welcome(self) -> dict[str, Any]:
        limits = self._limits
        return {
            "type": "WELCOME",
            "version": self._context.version,
            "epoch": self._hub.store.epoch,
            "scopes": sorted(self.scopes),
            "limits": {
                "message_bytes": limits.message_bytes,
                "event_bytes": limits.event_bytes,
                "events_per_message": limits.events_per_message,
                "events_per_second": limits.events_per_second,
                "events_per_run": limits.events_per_run,
                "history_bytes": limits.history_bytes,
            },
            **self._desk.about(),
        }

    async def _publish(self, message: dict[str, Any]) -> None:
        self._require(PUBLISH)
        events = message["events"]
        if len(events) > self._limits.events_per_message:
            raise MessageError(
                "too_large",
                f"{len(events)} events in a message; {self._limits.events_per_message} are allowed.",
            )
        if (wait := self._events.take(len(events), time.monotonic())) > 0:
            # Backpressure: nothing more is read from this socket meanwhile, and nothing is lost.
            await asyncio.sleep(wait)
        outcome = await self._context.ingest.publish(events)
        for run, pubseq in outcome.acknowledged.items():
            await self.viewer.send(dump({"type": "ACK", "run": run, "pubseq": pubseq}))
        if outcome.refused:
            raise MessageError("invalid_event", f"Refused: {outcome.why}.", ids=outcome.refused[:100])

    async def _subscribe(self, message: dict[str, Any]) -> None:
        self._require(VIEW)
        await self._unsubscribe(message)
        run, viewer, hub = message.get("run"), self.viewer, self._hub
        if run is not None:
            await hub.require_run(run)
            await hub.run(run)
        snapshot = hub.snapshot_of(run)
        reason = self._resume_refusal(message)
        if message.get("summaries") or reason is not None:
            frame = snapshot(reason or "")
            viewer.snapshot = snapshot
            if message.get("summaries"):
                hub.watch_list(viewer)
            else:
                hub.watch(viewer, run)
            viewer.offer(frame)
            return
        viewer.snapshot = snapshot
        viewer.hold()
        hub.watch(viewer, run)
        try:
            await hub.replay(viewer, run, message["after_seq"])
        finally:
            viewer.release()

    def _resume_refusal(self, message: dict[str, Any]) -> str | None:
        """None to resume from after_seq; else why a snapshot is sent ('' when that was asked for)."""
        after, epoch = message.get("after_seq"), message.get("epoch")
        store = self._hub.store
        if after is None:
            return ""
        if epoch is None:
            return None if after == 0 else "epoch_changed"
        if epoch != store.epoch or after > self._hub.seq:
            return "epoch_changed"
        return "retention" if message.get("run") is None and after < store.pruned_seq else None

    async def _unsubscribe(self, _message: dict[str, Any]) -> None:
        self._require(VIEW)
        self._hub.unwatch(self.viewer)
        self.viewer.forget()

    async def _get_history(self, message: dict[str, Any]) -> None:
        self._require(VIEW)
        run = message["run"]
        await self._hub.require_run(run)
        page = await self._hub.store.history(
            run,
            Page(message.get("limit", 100), self._limits.history_bytes),
            task=message.get("task_id"),
            host=message.get("host"),
            before_seq=message.get("before_seq"),
        )
        bodies = [on_wire(stored.body, self._hub.store.epoch, stored.seq) for stored in page.events]
        about: dict[str, Any] = {
            name: message[name] for name in ("run", "task_id", "host") if name in message
        }
        head = dump({"type": "HISTORY", **about, "more": page.more})
        await self.viewer.send(b'%s,"events":[%s]}' % (head[:-1], b",".join(bodies)))


def _unreadable(error: StoreError) -> MessageError:
    if isinstance(error, DamagedRun):
        return MessageError(
            "damaged_run",
            "This run is damaged in the server's history and can't be shown; the server's log says more.",
            run=error.run,
        )
    return MessageError(
        "server_error", "The history can't be read now. Try again later; the server's log says more."
    )
