# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import asyncio
import gc
import io
import logging

import pytest
from kubeferry_events.logs import BURST, MAX_CHARACTERS, SECONDS, Discretion

CANARY = "CANARY-7f3a"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def written(clock):
    """What the log holds."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(Discretion(clock))
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream.getvalue
    root.removeHandler(handler)


LIBRARIES = ["server", "web", "access", "internal", "websocket", "client"]


@pytest.mark.parametrize(
    "name", [f"aiohttp.{part}" for part in LIBRARIES] + ["asyncio", "redis", "kubeferry"]
)
def test_of_a_library_only_the_kind_and_the_place_are_written(written, name):
    log, said = logging.getLogger(name), f"about {CANARY}"
    try:
        int(CANARY)
    except ValueError:
        log.exception(said + ": %r", CANARY)  # noqa: G003 -- as libraries do
    log.warning(said, stack_info=True)
    failure, message = written().splitlines()
    assert CANARY not in written()
    assert failure.startswith(f"ERROR {name}: ValueError (test_logs.py:")
    assert message.startswith(f"WARNING {name}: a message of test_logs.py:")


async def test_nor_is_more_written_of_a_task_whose_failure_nobody_looked_at(written):
    async def fail(request: str) -> None:
        raise ValueError(request)

    task = asyncio.create_task(fail(CANARY), name=CANARY)
    await asyncio.wait({task})
    del task
    gc.collect()
    asyncio.get_running_loop().call_exception_handler({"message": CANARY, "future": CANARY})
    assert written().startswith("ERROR asyncio: ValueError (test_logs.py:")
    assert CANARY not in written()


def test_an_own_sentence_is_written_on_one_line_that_has_an_end(written):
    log = logging.getLogger("kubeferry_events.hub")
    log.error("%s", "100 % full\nERROR forged: \x1b[31mred")
    log.error("%s", "x" * 10_000)
    first, second = written().splitlines()
    assert first == "ERROR kubeferry_events.hub: 100 % full ERROR forged:  [31mred"
    assert len(second) < MAX_CHARACTERS + 50


def test_what_comes_too_often_is_counted(written, clock):
    def complain() -> None:
        logging.getLogger("kubeferry_events.hub").error("no history")

    for _attempt in range(BURST + 5):
        complain()
    logging.getLogger("kubeferry_events.hub").error("another thing")
    clock.now = SECONDS
    for _attempt in range(2):
        complain()
    line = "ERROR kubeferry_events.hub: no history"
    assert written().splitlines() == [
        *[line] * BURST,
        "ERROR kubeferry_events.hub: another thing",
        f"{line} [5 more of these were not written]",
    ]
