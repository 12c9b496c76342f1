# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Requests with numbers that no database takes."""

from __future__ import annotations

import pytest
import sample

NUMBERS = [
    ("GET_HISTORY", "limit"),
    ("GET_HISTORY", "before_seq"),
    ("SUBSCRIBE", "after_seq"),
]


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
async def test_a_number_that_is_none_is_wrong_format(server, publisher, viewer, kind, name):
    p = sample.Publisher()
    await publisher.publish([p.started()])
    for number in (2.0, 0.5, 1e300, 2**63, 2**70, 10**400, -1, True, "2", None):
        answer = await viewer.ask({"type": kind, "run": p.run, "epoch": "x", name: number})
        assert (answer["code"], answer["request"]) == ("wrong_format", kind), number
        assert answer["message"].startswith("Wrong format")
    # The connection is as good as before, and the largest numbers that there are do no harm.
    largest = 1000 if name == "limit" else 2**63 - 1
    answer = await viewer.ask({"type": kind, "run": p.run, "epoch": "x", name: largest})
    assert answer["type"] in ("HISTORY", "SNAPSHOT")
    assert "Traceback" not in server.log.read_text()
