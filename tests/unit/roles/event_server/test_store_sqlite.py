# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import pytest
import sample
from kubeferry_events.errors import StoreError
from kubeferry_events.store import Draft
from kubeferry_events.store_sqlite import SqliteStore
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
