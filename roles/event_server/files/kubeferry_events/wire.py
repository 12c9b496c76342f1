# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The wire formats, checked against schema/events-v1.schema.json, which publisher, page and tests share.

fastjsonschema makes a Python function of a schema: an event takes some ten microseconds where an interpreter of
schemas takes a millisecond, and five thousand a second are to pass here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import fastjsonschema

from .errors import WrongFormat

SCHEMA_FILE = Path(__file__).parent / "schema" / "events-v1.schema.json"
PREFIX = "kubeferry.v1."
PROGRESS = "progress"
GAP = "gap"

_HOST = ("started", "poll", "retry", "ok", "changed", "failed", "skipped", "unreachable")
_ITEM = ("ok", "changed", "failed", "skipped", "retry")
_SELF = ("run.started", "run.finished", "play.started", "play.finished", "task.started", "task.finished")
# The definition that checks a published event, by its type without the prefix. A k8s.event is the server's to make.
_EVENTS = (
    {kind: f"event.{kind}" for kind in (*_SELF, PROGRESS, GAP)}
    | {f"host.{state}": "event.host" for state in _HOST}
    | {f"item.{state}": "event.item" for state in _ITEM}
)
CLIENT_MESSAGES = (
    "HELLO", "SUBSCRIBE", "UNSUBSCRIBE", "GET_HISTORY", "PUBLISH", "GET_EVENTS", "WATCH_EVENTS", "UNWATCH_EVENTS",
)  # fmt: skip

# The publisher cuts at 8 levels. Whatever reads an event calls itself for each of them, and Python lets it do so 1,000
# times.
MAX_DEPTH = 32
# No run has had so many events: a gap of more is made up.
MAX_GAP = 100_000_000
# What the schema's pattern of ids leaves room for.
MAX_PUBSEQ = 10**15 - 1
# Clocks differ; but a run from the future would stand above all others, and never fall silent.
MAX_AHEAD = timedelta(days=1)
SECONDS = "%Y-%m-%dT%H:%M:%S"

Check = Callable[[Any], Any]


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())
    return document


@cache
def _checker(definition: str) -> Check:
    schema = {"$ref": f"#/definitions/{definition}", "definitions": _document()["definitions"]}
    check: Check = fastjsonschema.compile(schema, use_default=False)
    return check


def compile_all() -> None:
    """Compile every checker now, a quarter of a second, and not in the middle of somebody's run."""
    for definition in set(_EVENTS.values()):
        _checker(definition)
    for kind in CLIENT_MESSAGES:
        _checker(f"client.{kind}")
    _checker("summary")


def kind_of(event: dict[str, Any]) -> str:
    """An event's type without the prefix."""
    return str(event["type"])[len(PREFIX) :]


def is_run(value: object) -> TypeGuard[str]:
    """Whether it is a run's id."""
    return (
        isinstance(value, str)
        and re.fullmatch(_document()["definitions"]["uuid"]["pattern"], value) is not None
    )


def is_summary(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is a run's row in the list of runs, with its number."""
    try:
        _checker("summary")(value)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return isinstance(value, dict) and isinstance(value.get("seq"), int)


def is_pubseq(value: object) -> TypeGuard[int]:
    """Whether it is a number that a publisher may give to an event."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PUBSEQ


def check_event(event: dict[str, Any], now: datetime) -> str:
    """Check a published event and return its kind. Raises WrongFormat, whose text holds nothing of the event's data."""
    kind = event.get("type")
    if not isinstance(kind, str) or not kind.startswith(PREFIX) or kind[len(PREFIX) :] not in _EVENTS:
        raise WrongFormat("an event's type is none that a publisher makes in version 1", "PUBLISH")
    if _is_deeper(event, MAX_DEPTH):
        raise WrongFormat(f"an event is nested deeper than {MAX_DEPTH} levels", "PUBLISH")
    kind = kind[len(PREFIX) :]
    _check(_EVENTS[kind], event, "event", "PUBLISH")
    run, number = event.get("runid"), event.get("pubseq")
    if run is None or number is None:
        raise WrongFormat("an event has no runid or pubseq", "PUBLISH")
    prefix, _colon, rest = str(event["id"]).partition(":")
    number_in_id, dot, _count = rest.partition(".")
    if prefix != run or number_in_id != str(number) or bool(dot) != (kind == PROGRESS):
        raise WrongFormat("an event's id is not made of its runid and pubseq", "PUBLISH")
    if event["source"] != f"/runs/{run}":
        raise WrongFormat("an event's source is not its run", "PUBLISH")
    if kind != PROGRESS and not is_pubseq(number):
        raise WrongFormat("an event's pubseq is below 1", "PUBLISH")
    _check_time(event["time"], now)
    if kind == GAP:
        first_of_gap(event["data"], number)
    return kind


def _is_deeper(value: object, levels: int) -> bool:
    """Whether dicts and lists are nested deeper than so many levels. Level by level: never a call in a call."""
    level = [value]
    for _level in range(levels):
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                below += part.values()
            elif isinstance(part, list):
                below += part
        if not below:
            return False
        level = below
    return any(isinstance(part, dict | list) for part in level)


def _check_time(time: str, now: datetime) -> None:
    """The schema's pattern is met; whether there is such a day and hour, and whether it has come."""
    try:
        datetime.fromisoformat(time[:19])
    except ValueError:
        raise WrongFormat("an event's time is none", "PUBLISH") from None
    if time[:19] > (now + MAX_AHEAD).strftime(SECONDS):
        raise WrongFormat(
            "an event's time is more than a day ahead: compare the two machines' clocks", "PUBLISH"
        )


def first_of_gap(data: dict[str, Any], number: int) -> int:
    """The first of the numbers that a gap stands for; the last is its own. Raises WrongFormat where they don't fit."""
    last = data.get("last_pubseq", number)
    first = data.get("first_pubseq", last)
    if not (is_pubseq(first) and is_pubseq(last) and first <= last == number):
        raise WrongFormat("a gap's numbers don't fit together", "PUBLISH")
    if data.get("count", last - first + 1) != last - first + 1:
        raise WrongFormat("a gap's count isn't that of its numbers", "PUBLISH")
    if last - first >= MAX_GAP:
        raise WrongFormat(f"a gap stands for more than {MAX_GAP} events", "PUBLISH")
    return int(first)


def check_message(message: dict[str, Any]) -> str:
    """Check a client's message and return its type. Raises WrongFormat."""
    kind = message.get("type")
    if kind not in CLIENT_MESSAGES:
        raise WrongFormat
    _check(f"client.{kind}", message, "message", str(kind))
    for name in _whole_numbers(f"client.{kind}"):
        # To JSON Schema 2.0 is an integer; to a database and a list it isn't.
        if isinstance(message.get(name), float):
            raise WrongFormat(f"message.{name} is written with a fraction", str(kind))
    return str(kind)


@cache
def _whole_numbers(definition: str) -> tuple[str, ...]:
    """The properties of a message that are integers."""
    definitions = _document()["definitions"]
    found = []
    for name, rule in definitions[definition]["properties"].items():
        meant = definitions[rule["$ref"].removeprefix("#/definitions/")] if "$ref" in rule else rule
        if meant.get("type") == "integer":
            found.append(name)
    return tuple(found)


@cache
def _names() -> frozenset[str]:
    """All properties that the schema has, and the empty text between two signs."""
    definitions = _document()["definitions"].values()
    return frozenset(name for rule in definitions for name in rule.get("properties", ())) | {""}


def _check(definition: str, value: dict[str, Any], what: str, request: str) -> None:
    try:
        _checker(definition)(value)
    except fastjsonschema.JsonSchemaValueException as error:
        # The rule and the place, never the value or a name that the schema doesn't have: it may be what somebody wants
        # kept secret.
        _data, *parts = re.split(r"(\.|\[\d+\])", str(error.name))
        place = what + "".join(
            part if at % 2 == 0 or part in _names() else "…" for at, part in enumerate(parts)
        )
        raise WrongFormat(f"{place} breaks the rule {error.rule} of the schema", request) from None


def parse(text: str) -> dict[str, Any]:
    """A JSON object with a `type`, from a peer that may be hostile. Raises WrongFormat."""
    try:
        message = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise WrongFormat from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WrongFormat
    return message


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def dump(value: object) -> bytes:
    """Compact JSON. ASCII only: lone surrogates in file names survive, and no encoder can fail on them."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
