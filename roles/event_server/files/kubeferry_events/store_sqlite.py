# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The history in one SQLite file: one process writes, in its own thread; a crash loses nothing acknowledged."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from .errors import StoreError
from .limits import Retention
from .run_state import iso_time
from .store import Deliver, Draft, Page, Stored, load_rows, safe

T = TypeVar("T")
VERSION = 1
# A server that is being stopped lets go of its history in that time.
LOCK_SECONDS = 3.0
TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, run TEXT NOT NULL, task TEXT NOT NULL, host TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX events_of_run ON events (run, seq);
CREATE TABLE progress (
    run TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (run, key))
    WITHOUT ROWID;
CREATE TABLE runs (run TEXT PRIMARY KEY, updated TEXT NOT NULL, finished INTEGER NOT NULL, summary TEXT NOT NULL)
    WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8))));
"""
# In this form the index of events is all that is read.
NEWEST = """
SELECT run, max(seq) FROM (
    SELECT run, max(seq) AS seq FROM events GROUP BY run UNION ALL SELECT run, max(seq) FROM progress GROUP BY run)
GROUP BY run
"""


class SqliteStore:
    """See `store.Store`."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.name = f"The history {self._path}"
        self.epoch = ""
        self.pruned_seq = 0
        self._next = 1
        self._deliver: Deliver = lambda _stored: None
        # A connection belongs to one thread. Readers don't wait for the writer (WAL).
        self._writer = ThreadPoolExecutor(1, "history-writer")
        self._reader = ThreadPoolExecutor(1, "history-reader")
        self._write: sqlite3.Connection | None = None
        self._read: sqlite3.Connection | None = None
        self._lock: int | None = None
        # The two files that are written; under their names there may be others later, or none.
        self._files: list[tuple[int, int]] = []

    async def open(self, deliver: Deliver, on_reset: Callable[[], Awaitable[None]]) -> None:
        del on_reset  # nobody else writes this file
        self._deliver = deliver
        await self._in(self._writer, self._open_writer)
        await self._in(self._reader, self._open_reader)

    async def close(self) -> None:
        for executor, connection in ((self._reader, self._read), (self._writer, self._write)):
            if connection is not None:
                await self._in(executor, connection.close)
            executor.shutdown(wait=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def check(self) -> None:
        await self._in(self._reader, self._read_anew)

    async def append(self, drafts: Sequence[Draft]) -> None:
        first = self._next
        self._next += len(drafts)
        await self._in(self._writer, lambda: self._insert(drafts, first))
        self._deliver(
            [Stored(first + at, draft.run, draft.body, draft.event) for at, draft in enumerate(drafts)]
        )

    async def read(self, run: str | None, after_seq: int, page: Page) -> Page:
        where, values = ("run = ? AND ", [run]) if run else ("", [])
        query = (
            f"SELECT seq, run, body FROM events WHERE {where}seq > ? UNION ALL "  # noqa: S608 -- two constants
            f"SELECT seq, run, body FROM progress WHERE {where}seq > ? ORDER BY seq LIMIT ?"
        )
        return await self._fill(page, query, [*values, after_seq, *values, after_seq])

    async def history(
        self, run: str, page: Page, *, task: str | None, host: str | None, before_seq: int | None
    ) -> Page:
        query = "SELECT seq, run, body FROM events WHERE run = ?"
        values: list[str | int] = [run]
        for column, value in (("task", task), ("host", host)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(safe(value))
        if before_seq is not None:
            query += " AND seq < ?"
            values.append(before_seq)
        return await self._fill(page, query + " ORDER BY seq DESC LIMIT ?", values)

    async def summaries(self) -> list[dict[str, Any]]:
        rows = await self._in(
            self._reader,
            lambda: self._connection(self._read).execute("SELECT run, summary FROM runs").fetchall(),
        )
        return load_rows(self.name, rows)

    async def save_summaries(self, rows: Sequence[dict[str, Any]]) -> None:
        values = [
            (row["run"], row.get("received", ""), row["status"] not in ("running", "silent"), json.dumps(row))
            for row in rows
        ]
        await self._in(self._writer, lambda: self._save(values))

    async def newest(self) -> dict[str, int]:
        return await self._in(
            self._reader, lambda: dict(self._connection(self._read).execute(NEWEST).fetchall())
        )

    async def prune(self, keep: Retention, now: float) -> list[str]:
        return await self._in(self._writer, lambda: self._prune(keep, now))

    async def _fill(self, page: Page, query: str, values: Sequence[str | int]) -> Page:
        def fill() -> None:
            # One more than is wanted tells whether there are more.
            with closing(self._connection(self._read).execute(query, [*values, page.limit + 1])) as rows:
                for seq, run, body in rows:
                    if not page.add(Stored.load(self.name, seq, run, body)):
                        break

        await self._in(self._reader, fill)
        return page

    async def _in(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        except (sqlite3.Error, OSError, RuntimeError) as error:
            raise StoreError(f"{self.name} failed: {error}{_remedy(error)}") from error

    def _connection(self, connection: sqlite3.Connection | None) -> sqlite3.Connection:
        if connection is None:
            raise StoreError(f"{self.name} is not open.")
        return connection

    # What follows runs in the writer's or the reader's thread.

    def _open_writer(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take()
        # Results may hold what the publisher's redaction didn't know: for the owner's eyes only.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._path.chmod(0o600)
        database = self._write = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        # A crash of the process loses nothing; a crash of the machine may lose the last moments, never the file.
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise StoreError(f"{self.name} is of version {version}, not {VERSION}: move it away.")
        if version == 0:
            database.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        self._read_meta(database)
        (newest,) = database.execute(
            "SELECT max((SELECT ifnull(max(seq), 0) FROM events), (SELECT ifnull(max(seq), 0) FROM progress))"
        ).fetchone()
        self._next = max(newest, self.pruned_seq) + 1
        self._files = self._there()

    def _read_meta(self, database: sqlite3.Connection) -> None:
        meta = dict(database.execute("SELECT name, value FROM meta").fetchall())
        epoch, pruned_seq = meta.get("epoch"), meta.get("pruned_seq", "0")
        if not isinstance(epoch, str) or not str(pruned_seq).isdecimal():
            raise StoreError(
                f"{self.name} is damaged in its table meta: put a copy of it back, or move it away to begin a new one."
            )
        self.epoch, self.pruned_seq = epoch, int(pruned_seq)

    def _there(self) -> list[tuple[int, int]]:
        found = [os.stat(name) for name in (self._path, f"{self._path}-wal")]
        return [(each.st_dev, each.st_ino) for each in found]

    def _check_files(self) -> None:
        """Raises StoreError where what is written would be in no file that a restart finds."""
        try:
            if self._there() == self._files:
                return
        except FileNotFoundError:
            pass
        raise StoreError(
            f"{self.name} was removed or replaced: put it back, or restart the server to begin a new one."
        )

    def _take(self) -> None:
        """Keep other servers off: two would number their events alike, and neither would show the other's."""
        # A file of its own, since closing a file ends the locks that SQLite has on it (POSIX).
        self._lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{self.name} is another running server's: stop that one, or set "
                        "KUBEFERRY_HISTORY to another file."
                    ) from None
                time.sleep(0.1)
            else:
                return

    def _open_reader(self) -> None:
        self._read = sqlite3.connect(self._path, isolation_level=None)
        self._read.execute("PRAGMA query_only = ON")

    def _read_anew(self) -> None:
        """Read the oldest and the newest event of the file that now has this name."""
        # The connections that are open have pages in memory, and a file that was removed or replaced stays theirs.
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (epoch,) = database.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone() or ("",)
            for order in ("ASC", "DESC"):
                database.execute(f"SELECT body FROM events ORDER BY seq {order} LIMIT 1").fetchall()  # noqa: S608
        if epoch != self.epoch:
            raise StoreError(f"{self.name} was replaced by another one.")

    def _insert(self, drafts: Sequence[Draft], first: int) -> None:
        events, progress = [], []
        for seq, draft in enumerate(drafts, first):
            if draft.progress is None:
                events.append((seq, draft.run, safe(draft.task), safe(draft.host), draft.body))
            else:
                progress.append((draft.run, safe(draft.progress), seq, draft.body))
        database = self._connection(self._write)
        with _transaction(database):
            database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", events)
            database.executemany("REPLACE INTO progress VALUES (?, ?, ?, ?)", progress)
            self._check_files()

    def _save(self, values: list[tuple[str, str, bool, str]]) -> None:
        database = self._connection(self._write)
        with _transaction(database):
            database.executemany("REPLACE INTO runs VALUES (?, ?, ?, ?)", values)

    def _prune(self, keep: Retention, now: float) -> list[str]:
        database = self._connection(self._write)
        oldest = database.execute(
            "SELECT run, finished, updated < ? FROM runs"
            # A damaged row counts as the oldest.
            " ORDER BY iif(json_valid(summary), json_extract(summary, '$.seq'), 0)",
            [iso_time(now - keep.days * 86_400)],
        ).fetchall()
        dropped = []
        left = len(oldest)
        for run, finished, is_old in oldest:
            # A run that never finished is dropped for its age alone, and so is the newest one.
            over = finished and run != oldest[-1][0] and (left > keep.runs or self._size() > keep.bytes)
            if is_old or over:
                self._drop(database, run)
                dropped.append(run)
                left -= 1
        if dropped:
            database.execute("PRAGMA incremental_vacuum")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return dropped

    def _size(self) -> int:
        database = self._connection(self._write)
        (pages,), (free,), (size,) = (
            database.execute(f"PRAGMA {name}").fetchone()
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _drop(self, database: sqlite3.Connection, run: str) -> None:
        with _transaction(database):
            (newest,) = database.execute(
                "SELECT max((SELECT ifnull(max(seq), 0) FROM events WHERE run = ?1),"
                " (SELECT ifnull(max(seq), 0) FROM progress WHERE run = ?1))",
                [run],
            ).fetchone()
            self.pruned_seq = max(self.pruned_seq, newest)
            database.execute("REPLACE INTO meta VALUES ('pruned_seq', ?)", [str(self.pruned_seq)])
            for table in ("events", "progress", "runs"):
                database.execute(f"DELETE FROM {table} WHERE run = ?", [run])  # noqa: S608 -- a constant


def _remedy(error: Exception) -> str:
    """What to do about SQLite's errors, by the first byte of their codes, which is the kind."""
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ". Stop the server, and put a copy of the file back or move it away to begin a new one."
    if kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return ". Make room on its disk, or set KUBEFERRY_HISTORY to a file elsewhere."
    return ""


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        # When the disk is full SQLite has rolled back by itself; to do it again would fail, and hide why.
        if database.in_transaction:
            database.execute("ROLLBACK")
