# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import io

import pytest
import sample
from kubeferry_events.tail_output import Output
from kubeferry_events.tail_text import Text, fitting, progress_line

FORGED = "RECAP failed after 1.0 s"


def shown(events: list[dict]) -> list[str]:
    out = io.StringIO()
    text = Text(Output(out, "standard output"))
    for event in events:
        text.show(event)
    return out.getvalue().split("\n")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028"])
def test_nothing_that_is_told_makes_lines_of_the_tail(end):
    evil = f"x{end}{FORGED}{end}"
    p = sample.Publisher()
    at = {"task_id": "t", "host": evil}
    events = [
        p.started(evil, controller=evil),
        p.event("play.started", {"play_id": "p", "name": evil}),
        *p.task("t", evil, {evil: "ok"}),
        p.event("item.failed", {**at, "item": evil, "delegated_to": evil, "msg": evil}),
        p.event("host.failed", {**at, "msg": f"one{end}{FORGED}"}),
        p.event("gap", {"reason": "other", "message": evil}),
        p.event("run.finished", {"status": "ok", "stats": {evil: {"ok": 1}}}),
    ]
    lines = shown(events)
    assert not [line for line in lines if line.startswith(FORGED)]
    assert not [line for line in lines if len(line.splitlines()) > 1]
    # Of what was told, only a message has several lines, and they are indented more than any of the tail's own.
    at = lines.index("    one")
    assert lines[at + 1] == f"    {FORGED}"
    assert len(lines) == len(shown(events[:-1])) + 3
    assert "\n" not in progress_line({"label": evil, "phase": evil})


def test_what_would_turn_a_line_around_or_can_not_be_seen_is_shown():
    p = sample.Publisher()
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\xad\u200b\u2060\ufeff\U000e0041"
    (_empty, line, _end) = shown([p.event("task.started", {"task_id": "t", "name": f"a{marks}b"})])
    assert line == f"TASK [a{marks.encode('unicode_escape').decode()}b]"


def test_wide_letters_take_two_columns():
    assert fitting("a語bc", 4) == ("a語b", 4)
    assert fitting("語語", 3) == ("語", 2)
    assert fitting("語語", 4) == ("語語", 4)
