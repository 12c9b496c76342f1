# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Fixtures of the tests that run a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, ServerProcess, running


@pytest.fixture
async def server() -> AsyncIterator[ServerProcess]:
    async with running() as process:
        yield process


@pytest.fixture
async def publisher(server: ServerProcess) -> AsyncIterator[Client]:
    async with await Client.connect(server.url, PUBLISH_TOKEN) as client:
        yield client


@pytest.fixture
async def viewer(server: ServerProcess) -> AsyncIterator[Client]:
    async with await Client.connect(server.url, VIEW_TOKEN) as client:
        yield client
