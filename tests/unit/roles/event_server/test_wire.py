# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest
import sample
from kubeferry_events import wire
from kubeferry_events.errors import WrongFormat

SCHEMA = json.loads(wire.SCHEMA_FILE.read_text())
REFERENCE = jsonschema.Draft7Validator(SCHEMA)
NOW = datetime.now(UTC)


def one_of_each() -> list[dict]:
    p = sample.Publisher()
    at = {"task_id": "t", "host": "h"}
    events = [
        p.started(),
        p.event("play.started", {"play_id": "p"}),
        p.event("task.started", {"task_id": "t"}),
    ]
    events += [
        p.event(f"host.{state}", at)
        for state in ("started", "poll", "retry", "ok", "changed", "failed", "skipped", "unreachable")
    ]
    events += [
        p.event(f"item.{state}", {**at, "item": "x"})
        for state in ("ok", "changed", "failed", "skipped", "retry")
    ]
    events += [
        p.event("progress", {"label": "copy", "phase": "move", "seconds_left": None}),
        p.event("progress", {"label": "copy", "phase": "end"}),
    ]
    events += [p.event("task.finished", {"task_id": "t"}), p.event("play.finished", {"play_id": "p"})]
    events += [
        p.event(
            "gap", {"reason": "spool_full", "first_pubseq": 9, "last_pubseq": p.pubseq + 1}, redacted=True
        ),
        p.finished(),
    ]
    return events


def test_the_schema_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: event["type"])
def test_the_compiled_checks_take_what_the_schema_takes(event):
    REFERENCE.validate(event)
    assert wire.PREFIX + wire.check_event(event, NOW) == event["type"]


BROKEN = {
    "unknown type": {"type": "kubeferry.v1.run.paused"},
    "another version": {"type": "kubeferry.v2.run.started"},
    "type of another kind": {"type": 7},
    "no data": {"data": None},
    "time without zone": {"time": "2026-01-01T00:00:00"},
    "pubseq below 0": {"pubseq": -1, "id": "x:-1"},
    "run id that is none": {"runid": "../../etc"},
    "specversion": {"specversion": "0.3"},
    "data of another shape": {"data": {"task_id": "t", "host": ["h"]}},
    "data without what is required": {"data": {"host": "h"}},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_the_compiled_checks_refuse_what_the_schema_refuses(change):
    event = {**sample.Publisher().event("host.ok", {"task_id": "t", "host": "h"}), **change}
    assert not REFERENCE.is_valid(event)
    with pytest.raises(WrongFormat):
        wire.check_event(event, NOW)


@pytest.mark.parametrize("change", [{"id": "x:1"}, {"source": "/runs/other"}, {"pubseq": 2}])
def test_id_and_source_belong_to_the_run(change):
    event = {**sample.Publisher().event("host.ok", {"task_id": "t", "host": "h"}), **change}
    with pytest.raises(WrongFormat):
        wire.check_event(event, NOW)


def nested(levels: int) -> dict:
    value: dict = {}
    for _level in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("levels", [5, 30, 31, 900])
def test_an_event_is_nested_only_so_deep(levels):
    about = {"task_id": "t", "host": "h", "result": nested(levels)}
    event = sample.Publisher().event("host.ok", about)  # two levels above the result
    if levels + 2 <= wire.MAX_DEPTH:
        assert wire.check_event(event, NOW) == "host.ok"
    else:
        with pytest.raises(WrongFormat, match="deeper"):
            wire.check_event(event, NOW)


@pytest.mark.parametrize(
    ("time", "good"),
    [
        ("2024-02-29T23:59:59.123456789Z", True),
        ("2023-02-29T00:00:00Z", False),
        ("2024-13-01T00:00:00Z", False),
        ("2024-01-01T24:00:00Z", False),
        ("9999-99-99T99:99:99Z", False),
        ((NOW + timedelta(hours=23)).strftime("%Y-%m-%dT%H:%M:%SZ"), True),
        ((NOW + timedelta(hours=25)).strftime("%Y-%m-%dT%H:%M:%SZ"), False),
    ],
)
def test_the_time_is_one_and_has_come(time, good):
    event = {**sample.Publisher().started(), "time": time}
    if good:
        assert wire.check_event(event, NOW) == "run.started"
    else:
        with pytest.raises(WrongFormat, match="time"):
            wire.check_event(event, NOW)


GAPS = {
    "last isn't its own": {"first_pubseq": 1, "last_pubseq": 8},
    "backwards": {"first_pubseq": 11, "last_pubseq": 10},
    "from 0": {"first_pubseq": 0, "last_pubseq": 10},
    "another count": {"first_pubseq": 6, "last_pubseq": 10, "count": 6},
    "fractions": {"first_pubseq": 6.0, "last_pubseq": 10.0},
}


@pytest.mark.parametrize("numbers", GAPS.values(), ids=GAPS.keys())
def test_the_numbers_of_a_gap_fit_together(numbers):
    p = sample.Publisher()
    p.pubseq = 9
    with pytest.raises(WrongFormat, match="gap"):
        wire.check_event(p.event("gap", {"reason": "spool_full", **numbers}), NOW)


def test_a_gap_stands_for_as_much_as_a_run_can_have():
    p = sample.Publisher()
    p.pubseq = 10**15 - 2
    with pytest.raises(WrongFormat, match="more than"):
        wire.check_event(p.event("gap", {"reason": "spool_full", "first_pubseq": 1}), NOW)


def test_an_error_says_nothing_of_the_data():
    event = sample.Publisher().event("host.ok", {"task_id": "t", "host": "h", "msg": ["canary-secret"]})
    with pytest.raises(WrongFormat) as caught:
        wire.check_event(event, NOW)
    assert "canary" not in str(caught.value)
    assert "msg" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "7",
        "null",
        '{"no": "type"}',
        '{"type": 3}',
        '{"type": NaN}',
        "[" * 100_000,
        '{"type":"X","n":' + "9" * 5000 + "}",
    ],
)
def test_what_is_no_message_is_the_wrong_format(text):
    with pytest.raises(WrongFormat) as caught:
        wire.parse(text)
    assert caught.value.message == "Wrong format"


def test_lone_surrogates_survive():
    message = wire.parse('{"type":"X","name":"\\ud800"}')
    assert json.loads(wire.dump(message)) == message


def test_messages_are_checked_by_their_type():
    assert (
        wire.check_message({"type": "GET_EVENTS", "token": {"access_token": "x"}, "namespace": "a-b"})
        == "GET_EVENTS"
    )
    for message in (
        {"type": "GET_EVENTS", "namespace": "../x"},
        {"type": "PUBLISH"},
        {"type": "SUBSCRIBE", "run": "x"},
        {"type": "NO"},
    ):
        with pytest.raises(WrongFormat):
            wire.check_message(message)


def test_a_rule_s_place_has_no_name_that_only_the_event_has():
    event = sample.Publisher().finished()
    event["data"]["stats"] = {"canary.example[1]": {"ok": "x"}}
    with pytest.raises(WrongFormat) as refused:
        wire.check_event(event, NOW)
    assert str(refused.value) == "Wrong format: event.data.stats.….…[1].ok breaks the rule type of the schema"
