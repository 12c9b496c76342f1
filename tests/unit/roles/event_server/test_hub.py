# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import pytest
import sample
from kubeferry_events.errors import StoreError
from kubeferry_events.hub import Hub
from kubeferry_events.limits import Limits
from kubeferry_events.metrics import Metrics
from kubeferry_events.store import Draft
from kubeferry_events.store_sqlite import SqliteStore
from kubeferry_events.wire import dump


class Store(SqliteStore):
    """A real history; `full` while rows of the list have no room in it."""

    full = False

    async def save_summaries(self, rows) -> None:
        if self.full:
            raise StoreError("The disk is full.")
        await super().save_summaries(rows)


@pytest.fixture
async def hub(tmp_path):
    hub = Hub(Store(tmp_path / "history.db"), Limits(), Metrics())
    await hub.open()
    yield hub
    await hub.close()


def draft(event) -> Draft:
    return Draft(event["runid"], dump(event), event, event["pubseq"])


async def kept(hub) -> dict[str, str]:
    return {row["run"]: row["status"] for row in await hub.store.summaries()}


async def test_a_row_that_could_not_be_kept_is_kept_later(hub):
    p, other = sample.Publisher(), sample.Publisher()
    await hub.append([draft(p.started())])
    await hub.run(p.run)
    await hub.save_rows()
    await hub.append([draft(p.finished())])
    hub.store.full = True
    with pytest.raises(StoreError):
        await hub.save_rows()
    assert await kept(hub) == {p.run: "running"}
    hub.store.full = False
    await hub.append([draft(other.started())])
    await hub.run(other.run)
    await hub.save_rows()
    assert await kept(hub) == {p.run: "ok", other.run: "running"}
