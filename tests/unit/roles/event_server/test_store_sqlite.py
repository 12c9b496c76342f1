# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import contextlib
import sqlite3

import pytest
import sample
from kubeferry_events.errors import StoreError
from kubeferry_events.limits import Retention
from kubeferry_events.store import Draft, Page
from kubeferry_events.store_sqlite import TABLES, SqliteStore
from kubeferry_events.wire import dump


def draft(size: int) -> Draft:
    event = sample.Publisher().started("x" * size)
    return Draft(event["runid"], dump(event), event, 1)


async def nothing() -> None:
    pass


async def test_a_full_history_says_so_and_takes_events_again_when_there_is_room(tmp_path):
    store = SqliteStore(tmp_path / "history.db")
    delivered = []
    await store.open(delivered.extend, nothing)
    await store._in(store._writer, lambda: store._write.execute("PRAGMA max_page_count = 20").fetchall())
    for _attempt in range(2):
        with pytest.raises(StoreError, match="full"):
            await store.append([draft(200_000)])
    await store._in(store._writer, lambda: store._write.execute("PRAGMA max_page_count = 2000").fetchall())
    await store.append([draft(200_000)])
    assert len(delivered) == 1
    await store.check()
    await store.close()


@pytest.mark.parametrize("name", ["history.db", "history.db-wal"])
async def test_nothing_is_taken_into_a_file_that_was_removed(tmp_path, name):
    store = SqliteStore(tmp_path / "history.db")
    delivered = []
    await store.open(delivered.extend, nothing)
    await store.append([draft(10)])
    aside = (tmp_path / name).rename(tmp_path / "aside")
    with pytest.raises(StoreError, match="was removed or replaced"):
        await store.append([draft(20)])
    (tmp_path / name).touch()
    with pytest.raises(StoreError, match="was removed or replaced"):
        await store.append([draft(20)])
    assert len(delivered) == 1
    aside.rename(tmp_path / name)
    await store.append([draft(30)])
    assert len(delivered) == 2
    await store.close()
    again = SqliteStore(tmp_path / "history.db")
    await again.open(delivered.extend, nothing)
    page = await again.read(None, 0, Page(10, 1_000_000))
    assert len(page.events) == 2
    await again.close()


def test_a_history_has_its_name_from_the_moment_on_when_it_has_tables():
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.executescript(TABLES)
        ((epoch,),) = database.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchall()
    assert len(epoch) == 16


async def test_a_damaged_row_does_not_keep_the_history_from_being_pruned(tmp_path):
    store = SqliteStore(tmp_path / "history.db")
    await store.open(lambda _stored: None, nothing)
    await store.append([draft(10)])
    insert = "INSERT INTO runs VALUES ('a', '2000', 1, 'nope'), ('b', '2000', 1, '{}')"
    await store._in(store._writer, lambda: store._write.execute(insert).fetchall())
    assert set(await store.prune(Retention(), 1_800_000_000.0)) == {"a", "b"}
    await store.close()


async def test_a_page_that_is_damaged_says_what_to_do(tmp_path):
    path = tmp_path / "history.db"
    path.write_bytes(b"no database at all, and longer than a header is" * 100)
    with pytest.raises(StoreError, match="move it away to begin a new one"):
        await SqliteStore(path).open(lambda _stored: None, nothing)
