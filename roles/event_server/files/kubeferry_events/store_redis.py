# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A history that several servers share, in Redis: one stream for all runs to follow, one of each run to replay.

The script below numbers, checks for duplicates and stores in one step, so that any replica may take any publisher.
Every replica follows the common stream and shows what the others took in. One Redis server is meant (or one with
replicas); a Redis Cluster would spread the keys. How durable an acknowledged event is, is Redis's own setting (AOF).
One that drops keys to make room is refused: it would take acknowledged runs away without a word.

Redis may come back with an older state of the same history: from an RDB file, or as a replica that had lagged. Its next
events get numbers that others had before. So each replica remembers the newest event that it has seen; where that one
isn't there any more, the history gets another epoch, as if it had been replaced.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import redis.asyncio as client
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from .errors import EpochChanged, SettingsError, StoreError
from .limits import Retention
from .run_state import iso_time
from .store import Deliver, Draft, Page, Stored, load_rows, safe

log = logging.getLogger(__name__)

PREFIX = "kubeferry:"
# What a replica may be behind before it has to read everything again.
TAIL_LENGTH = 200_000
# The common stream has each event a second time: so much of what the history may take is the stream's.
TAIL_SHARE = 0.1
BLOCK_MILLISECONDS = 2_000
RETRY_SECONDS = 1.0
ROWS = 100

# KEYS: epoch, seq, and what is written to. ARGV: the expected epoch, the highest seq that this replica has seen, more.
GUARD = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[2]) then
    return redis.error_reply('EPOCH changed')
end
"""
# KEYS: the tail. ARGV: the prefix, the tail's length, a word that no other call has, and then of each event: run,
# pubseq ('' when it isn't counted), progress key ('' when it is no progress), task, host, body.
APPEND = f"""{GUARD}
local prefix, length, word, kept = ARGV[3], ARGV[4], ARGV[5], {{}}
for i = 6, #ARGV, 6 do
    local run, pubseq, progress, body = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 5]
    local base = prefix .. 'run:' .. run
    if pubseq == '' or redis.call('SADD', base .. ':seen', pubseq) == 1 then
        local seq = redis.call('INCR', KEYS[2])
        local id = string.format('%d-0', seq)
        redis.call('HSET', prefix .. 'newest', run, seq)
        redis.call('XADD', KEYS[3], 'MAXLEN', '~', length, id, 'r', run, 'b', body, 'w', word)
        if progress == '' then
            redis.call('XADD', base .. ':events', id, 't', ARGV[i + 3], 'h', ARGV[i + 4], 'b', body)
        else
            redis.call('HSET', base .. ':progress', progress, string.format('%d ', seq) .. body)
        end
        kept[#kept + 1] = seq
    end
end
return #kept
"""
# KEYS: the rows. ARGV: of each a run and its row.
SAVE = f"""{GUARD}
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
"""
# KEYS: epoch. ARGV: the epoch that has ended, and another one; several replicas may notice at once.
RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end"

Fields = dict[bytes, bytes]


class RedisStore:
    """See `store.Store`."""

    name = "The history in Redis"

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        self._redis = _client(url)
        self._prefix = prefix
        self._append, self._save, self._renew = map(self._redis.register_script, (APPEND, SAVE, RENEW))
        self.epoch = ""
        self.pruned_seq = 0
        # The newest event that was seen: its number, and its row of the stream.
        self._last = 0
        self._newest: tuple[bytes, Fields] | None = None
        self._deliver: Deliver = lambda _stored: None
        self._on_reset: Callable[[], Awaitable[None]] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._policy_is_known = True

    async def open(self, deliver: Deliver, on_reset: Callable[[], Awaitable[None]]) -> None:
        self._deliver, self._on_reset = deliver, on_reset
        await self._begin()
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._redis.aclose()

    async def check(self) -> None:
        epoch = await self._ask(self._redis.get(self._key("epoch")))
        if epoch is None or epoch.decode() != self.epoch:
            raise StoreError("The history in Redis was replaced by another one.")
        await self._refuse_eviction()
        for row_id, fields in await self._ask(self._redis.xrevrange(self._key("tail"), count=1)):
            self._stored(row_id, fields)

    async def append(self, drafts: Sequence[Draft]) -> None:
        arguments: list[str | bytes | int] = [
            self.epoch,
            self._last,
            self._prefix,
            TAIL_LENGTH,
            secrets.token_hex(4),
        ]
        for draft in drafts:
            number = "" if draft.pubseq is None else str(draft.pubseq)
            arguments += [
                draft.run,
                number,
                safe(draft.progress or ""),
                safe(draft.task),
                safe(draft.host),
                draft.body,
            ]
        await self._ask(self._append(keys=self._keys("tail"), args=arguments))

    async def read(self, run: str | None, after_seq: int, page: Page) -> Page:
        key = self._key("tail") if run is None else self._run(run, "events")
        async for row_id, fields in self._walk(self._redis.xrange, key, f"({after_seq}-0", "+"):
            if not page.add(self._stored(row_id, fields, run)):
                break
        if run is None:
            return page
        # Progress is few; only what fits before the next page of events belongs to this one.
        until = page.events[-1].seq if page.more else None
        latest = cast("Fields", await self._ask(self._redis.hgetall(self._run(run, "progress"))))
        for value in latest.values():
            number, _blank, body = value.partition(b" ")
            if int(number) > after_seq and (until is None or int(number) < until):
                page.events.append(Stored.load(self.name, int(number), run, body))
        page.events.sort(key=lambda stored: stored.seq)
        return page

    async def history(
        self, run: str, page: Page, *, task: str | None, host: str | None, before_seq: int | None
    ) -> Page:
        newest = "+" if before_seq is None else f"({before_seq}-0"
        async for row_id, fields in self._walk(self._redis.xrevrange, self._run(run, "events"), newest, "-"):
            if task is not None and fields[b"t"].decode() != safe(task):
                continue
            if host is not None and fields[b"h"].decode() != safe(host):
                continue
            if not page.add(self._stored(row_id, fields, run)):
                break
        return page

    async def _walk(
        self, read: Callable[..., Awaitable[Any]], key: str, begin: str, end: str
    ) -> AsyncIterator[tuple[bytes, Fields]]:
        """The rows of a stream in either order, some at a time: a row may have a hundred kilobytes."""
        while rows := await self._ask(read(key, begin, end, count=ROWS)):
            for row_id, fields in rows:
                yield row_id, fields
            begin = f"({rows[-1][0].decode()}"

    async def summaries(self) -> list[dict[str, Any]]:
        rows = cast("Fields", await self._ask(self._redis.hgetall(self._key("runs"))))
        return load_rows(self.name, ((run.decode(), row) for run, row in rows.items()))

    async def save_summaries(self, rows: Sequence[dict[str, Any]]) -> None:
        # Every replica writes what it has reduced from the same events: the last one is as good as any.
        arguments: list[str | int] = [self.epoch, self._last]
        for row in rows:
            arguments += [row["run"], json.dumps(row)]
        await self._ask(self._save(keys=self._keys("runs"), args=arguments))

    async def newest(self) -> dict[str, int]:
        found = cast("Fields", await self._ask(self._redis.hgetall(self._key("newest"))))
        return {run.decode(): int(seq) for run, seq in found.items()}

    async def prune(self, keep: Retention, now: float) -> list[str]:
        rows = sorted(await self.summaries(), key=lambda row: row.get("seq", 0))
        oldest_kept = iso_time(now - keep.days * 86_400)
        share = int(keep.bytes * TAIL_SHARE)
        await self._shorten_tail(share)
        sizes = [await self._size(*self._parts(row["run"])) for row in rows]
        used = sum(sizes)
        dropped: list[str] = []
        for row, size in zip(rows, sizes, strict=True):
            finished = row["status"] not in ("running", "silent")
            over = len(rows) - len(dropped) > keep.runs or used > keep.bytes - share
            # Rows that an earlier version kept have only the publisher's time.
            is_old = (row.get("received") or row.get("updated", "")) < oldest_kept
            if is_old or (finished and over and row is not rows[-1]):
                await self._drop(row)
                used -= size
                dropped.append(row["run"])
        return dropped

    async def _shorten_tail(self, most: int) -> None:
        """Cut the common stream to about so many bytes; what this replica has yet to read stays."""
        tail = self._key("tail")
        while (used := await self._size(tail)) > most:
            # Rows differ in size, so it may take more than one cut.
            rows = max(int(await self._ask(self._redis.xlen(tail)) * most / used), 1)
            oldest = f"{max(self._last + 1 - rows, 0)}-0"
            if not await self._ask(self._redis.xtrim(tail, minid=oldest, approximate=False)):
                break
        known = int(await self._ask(self._redis.get(self._key("pruned_seq"))) or 0)
        for row_id, _fields in await self._ask(self._redis.xrange(tail, count=1)):
            known = max(known, _seq(row_id) - 1)
        await self._pruned(known)

    async def _size(self, *keys: str) -> int:
        """The bytes that these keys take in Redis: nobody else's are the history's."""
        asked = self._redis.pipeline(transaction=False)
        for key in keys:
            asked.memory_usage(key, samples=0)  # a run's first rows, which stand for all otherwise, are small
        return sum(size or 0 for size in await self._ask(asked.execute()))

    async def _pruned(self, until: int) -> None:
        """Who resumes from below this number has missed something."""
        if until > self.pruned_seq:
            self.pruned_seq = until
            await self._ask(self._redis.set(self._key("pruned_seq"), until))

    async def _drop(self, row: dict[str, Any]) -> None:
        run = row["run"]
        await self._pruned(row.get("seq", 0))
        for name in ("runs", "newest"):
            await self._ask(self._redis.hdel(self._key(name), run))
        await self._ask(self._redis.delete(*self._parts(run)))

    async def _begin(self) -> None:
        """Take up the epoch that is there, or begin one; follow from the newest event."""
        await self._refuse_eviction()
        await self._ask(self._redis.set(self._key("epoch"), secrets.token_hex(8), nx=True))
        asked = self._redis.pipeline()
        for name in ("epoch", "seq", "pruned_seq"):
            asked.get(self._key(name))
        asked.xrevrange(self._key("tail"), count=1)
        epoch, seq, pruned, newest = await self._ask(asked.execute())
        self.epoch, self._last, self._newest = epoch.decode(), int(seq or 0), newest[0] if newest else None
        self.pruned_seq = int(pruned or 0)
        # It changes nothing: a user who may not run scripts is told now, and not when something is to be stored.
        await self._ask(self._renew(keys=[self._key("epoch")], args=["", ""]))

    async def _refuse_eviction(self) -> None:
        """Raises StoreError where Redis drops keys that have no time to live, as all of these, to make room."""
        policy = await self._ask(self._eviction_policy())
        if policy is None and self._policy_is_known:
            log.warning(
                "Redis doesn't tell its maxmemory-policy (INFO memory): see that it is noeviction, for any allkeys-... "
                "drops acknowledged runs to make room."
            )
        self._policy_is_known = policy is not None
        if policy is not None and policy.startswith("allkeys-"):
            raise StoreError(
                f"The Redis of KUBEFERRY_HISTORY drops keys to make room (maxmemory-policy {policy}), and acknowledged "
                "runs with them: set its maxmemory-policy to noeviction, or take another Redis."
            )

    async def _eviction_policy(self) -> str | None:
        """None where Redis or the user's rights keep it back."""
        try:
            memory = await self._redis.info("memory")
        except ResponseError:
            return None
        return cast("str | None", memory.get("maxmemory_policy"))

    async def _follow(self) -> None:
        """Deliver what any replica appends."""
        while True:
            try:
                await self._follow_once()
            except EpochChanged:
                await self._start_anew()
            except StoreError as error:
                log.error("%s", error)  # noqa: TRY400 -- the sentence says it all
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow_once(self) -> None:
        last = f"{self._last}-0"
        found = await self._ask(
            self._redis.xread({self._key("tail"): last}, count=1000, block=BLOCK_MILLISECONDS)
        )
        await self._compare()
        if not found:
            return
        rows = found[0][1]
        first = _seq(rows[0][0])
        if first > self._last + 1:
            raise EpochChanged("the stream in Redis has gone on without this replica")
        events = [self._stored(row_id, fields) for row_id, fields in rows]
        self._last, self._newest = events[-1].seq, rows[-1]
        self._deliver(events)

    async def _compare(self) -> None:
        """Raises EpochChanged where what was seen last isn't there any more; a history that went back is a new one."""
        tail, last = self._key("tail"), f"{self._last}-0"
        asked = self._redis.pipeline()
        asked.get(self._key("epoch"))
        asked.xrange(tail, last, last)
        epoch, there = await self._ask(asked.execute())
        if epoch is None or epoch.decode() != self.epoch:
            raise EpochChanged("the history in Redis is another one")
        if self._newest is None or there == [self._newest]:
            return
        if not there and await self._ask(self._redis.xrange(tail, f"({last}", "+", count=1)):
            # Cut off behind our back: this replica was too slow, and nothing is wrong with the history.
            raise EpochChanged("the stream in Redis has gone on without this replica")
        await self._ask(self._renew(keys=[self._key("epoch")], args=[self.epoch, secrets.token_hex(8)]))
        raise EpochChanged("the history in Redis is older than what was told of it")

    async def _start_anew(self) -> None:
        try:
            await self._begin()
            if self._on_reset is not None:
                await self._on_reset()
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 -- the sentence says it all
            self.epoch = ""  # comes back here
            await asyncio.sleep(RETRY_SECONDS)

    def _stored(self, row_id: bytes, fields: Fields, run: str | None = None) -> Stored:
        return Stored.load(self.name, _seq(row_id), run or fields[b"r"].decode(), fields[b"b"])

    async def _ask(self, question: Awaitable[Any] | Any) -> Any:  # noqa: ANN401 -- Redis answers are many things
        try:
            return await question
        except ResponseError as error:
            if "EPOCH" in str(error):
                raise EpochChanged("the history in Redis is another one") from None
            raise StoreError(f"Redis refused: {str(error).rstrip('.')}. {_remedy(error)}".rstrip()) from error
        except (RedisError, OSError, TimeoutError) as error:
            # While it connects to a socket, redis-py has the one error caused by the other.
            if any(isinstance(each, AuthenticationError) for each in (error, error.__cause__)):
                raise StoreError(
                    "Redis refused the user or the password of KUBEFERRY_HISTORY: write there what Redis has, / and @ "
                    "in a password as %2F and %40."
                ) from error
            raise StoreError(
                f"Redis can't be asked: {type(error).__name__}. See that it runs where KUBEFERRY_HISTORY says, and "
                "that the URL begins with rediss:// where it speaks TLS, and else with redis://."
            ) from error

    def _keys(self, written: str) -> list[str]:
        return [self._key("epoch"), self._key("seq"), self._key(written)]

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _run(self, run: str, part: str) -> str:
        return f"{self._prefix}run:{run}:{part}"

    def _parts(self, run: str) -> list[str]:
        return [self._run(run, part) for part in ("events", "progress", "seen")]


def _client(url: str) -> client.Redis:
    """Raises SettingsError, which tells nothing of the URL: a part of a password may be anywhere in it."""
    try:
        parts = urlsplit(url)
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise ValueError("the password has ended the host")
        made = client.from_url(url, socket_connect_timeout=5, socket_timeout=30, health_check_interval=15)
        pool = made.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # options that there aren't are noticed only here
    except (ValueError, TypeError, RedisError):
        raise SettingsError(
            "KUBEFERRY_HISTORY is no usable Redis URL: look at its port and its options, and write /, ?, # and @ in "
            "its password as %2F, %3F, %23 and %40."
        ) from None
    return made


def _remedy(error: ResponseError) -> str:
    if isinstance(error, NoPermissionError):
        return "The README of the role event_server has the rights that the user of KUBEFERRY_HISTORY needs."
    if isinstance(error, OutOfMemoryError):
        return "Give it more memory (maxmemory), or have less kept (KUBEFERRY_RETENTION_BYTES)."
    return ""


def _seq(row_id: bytes) -> int:
    return int(row_id.split(b"-")[0])
