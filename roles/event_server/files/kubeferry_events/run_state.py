# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What one run looks like now: a pure function of its events, applied one by one.

A run with a thousand hosts and a hundred tasks has a hundred thousand results; their details stay in the history, and
here each is one letter (see `runState` in the schema).

A file of tasks that is included for each host by itself becomes a task with an identity of its own for each of them.
They have one place in the playbook, and are one task here, in which each host has the letter of its own. Where a host
comes to a place again, as in a loop, that is another task.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from .ledger import Ledger
from .wire import kind_of

LETTERS = {
    "started": b"s", "poll": b"s", "retry": b"r", "ok": b"o", "changed": b"c", "failed": b"f", "skipped": b"k",
    "unreachable": b"u",
}  # fmt: skip
IGNORED = b"i"
# Bounds on what a hostile or broken publisher can make this process hold.
MAX_HOSTS = 20_000
MAX_TASKS = 5_000
MAX_PLAYS = 2_000
MAX_JOINED = 100_000
MAX_REPEATED = 100
MAX_PROGRESS = 200
# Reports that list paths, and all of them.
MAX_PARITY_LISTS = 200
MAX_PARITY = 2_000
MAX_PROBLEMS = 200
MAX_GAPS = 100
MAX_NAMESPACES = 50
# Longer than any pause between two signs of life of a healthy run: progress comes every second.
SILENT_SECONDS = 300.0
STARTED_FIELDS = (
    "playbook",
    "controller",
    "user",
    "job",
    "check",
    "ansible_version",
    "limit",
    "diff",
    "tags",
)
PROBLEM_FIELDS = ("task_id", "task", "host", "item", "msg", "ignored", "action")


Place: TypeAlias = tuple[str, str, str]
"""A play, where in its files a task is written, and the task's name."""
FIELDS = ("play_id", "name", "action", "role", "path", "handler", "no_log", "namespaces")


@dataclass
class Task:
    """A task and the letters of its hosts. `joined` has the hosts whose letters are of tasks of the same place."""

    about: dict[str, Any]
    place: Place | None = None
    cells: bytearray = field(default_factory=bytearray)
    joined: dict[int, str] = field(default_factory=dict)

    def owner(self, host: int) -> str | None:
        """Which task a host's letter is of, if it has one."""
        if bytes(self.cells[host : host + 1]) in (b"", b"."):
            return None
        return self.joined.get(host) or str(self.about["task_id"])

    def set(self, host: int, letter: bytes) -> bytes:
        """Write a host's letter and return the one that was there."""
        if len(self.cells) <= host:
            self.cells.extend(b"." * (host + 1 - len(self.cells)))
        before = bytes(self.cells[host : host + 1])
        self.cells[host : host + 1] = letter
        return before


class RunState:
    """Everything that the page shows of one run."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.seq = 0
        # What came, and that with what gaps stand for: a gap never keeps out an event that comes after all.
        self.arrived = Ledger()
        self.ledger = Ledger()
        self.events = 0
        self.status = "running"
        self.about: dict[str, Any] = {}
        self.started = self.updated = self.finished = ""
        self.duration: float | None = None
        self.counts = dict.fromkeys(("ok", "changed", "failed", "skipped", "unreachable", "ignored"), 0)
        self.plays: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.unlisted = 0  # tasks that were started when so many were listed already
        self.places: dict[Place, list[str]] = {}
        self.joined: dict[str, str] = {}
        self.task = ""
        self.hosts: dict[str, int] = {}
        self.stats: dict[str, Any] = {}
        self.progress: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.parity: list[dict[str, Any]] = []
        self.mismatches = 0
        self.lists = 0
        self.problems: deque[dict[str, Any]] = deque(maxlen=MAX_PROBLEMS)
        self.gaps: deque[dict[str, Any]] = deque(maxlen=MAX_GAPS)
        self.namespaces: dict[str, None] = {}
        self.over_limit = False

    def apply(self, event: dict[str, Any], seq: int) -> None:
        """Take in one stored event; one that was taken in before changes nothing."""
        if seq <= self.seq:
            return
        self.seq = seq
        kind = kind_of(event)
        data, time = event["data"], event["time"]
        if kind != "progress":
            self.events += 1
            self.note(event)
        self.updated = max(self.updated, time)
        self._namespaces(data)
        group, _dot, what = kind.partition(".")
        handler = getattr(self, f"_{group}", None)
        if handler is not None:
            handler(what, data, time)

    def note(self, event: dict[str, Any]) -> None:
        """Count an event as arrived, and what a gap stands for as accounted for."""
        kind = kind_of(event)
        if kind != "progress" and (number := event.get("pubseq")):
            self.arrived.add(number)
            self.ledger.add(number)
        if kind == "gap" and (last := event["data"].get("last_pubseq")):
            self.ledger.cover(event["data"].get("first_pubseq", last), last)

    def _namespaces(self, data: dict[str, Any]) -> None:
        for name in data.get("namespaces", ()):
            if len(self.namespaces) < MAX_NAMESPACES:
                self.namespaces.setdefault(name)

    def _run(self, what: str, data: dict[str, Any], time: str) -> None:
        if what == "started":
            self.about = {name: data[name] for name in STARTED_FIELDS if name in data}
            self.started = time
        else:
            self.status, self.finished = data["status"], time
            self.stats = data.get("stats", {})
            self.duration = data.get("duration")

    def _play(self, what: str, data: dict[str, Any], time: str) -> None:
        play = self.plays.get(data["play_id"])
        if play is None:
            if len(self.plays) >= MAX_PLAYS:
                return
            play = self.plays[data["play_id"]] = {"play_id": data["play_id"]}
        if what == "started":
            play |= {name: data[name] for name in ("name", "strategy", "batch") if name in data}
            play["started"] = time
            for host in data.get("hosts", ()):
                self._host_number(host)
        else:
            play["finished"] = time

    def _task(self, what: str, data: dict[str, Any], time: str) -> None:
        task = self._task_of(data)
        if task is None:
            if what == "started":
                self.unlisted += 1
                self.task = data.get("name", "")
            return
        alone = task.about["task_id"] == data["task_id"]
        if what == "started":
            if alone:
                task.about |= {name: data[name] for name in FIELDS if name in data}
                task.about["started"] = time
            else:
                task.about.pop("finished", None)
                task.about.pop("duration", None)
            self.task = task.about.get("name", "")
        else:
            task.about["finished"] = time
            if "duration" in data and alone and not task.joined:
                task.about["duration"] = data["duration"]

    def _task_of(self, data: dict[str, Any]) -> Task | None:
        """The task that an event is of, or the one of the same place that it has joined."""
        number = data["task_id"]
        task = self.tasks.get(self.joined.get(number, number))
        if task is not None:
            return task
        place = None
        if "path" in data:
            place = (data.get("play_id", ""), data["path"], data.get("name", ""))
            before = self.places.get(place, [])
            if before and len(before) < MAX_REPEATED and len(self.joined) < MAX_JOINED:
                self.joined[number] = before[0]
                return self.tasks[before[0]]
        return self._new_task({"task_id": number}, place)

    def _new_task(self, about: dict[str, Any], place: Place | None) -> Task | None:
        if len(self.tasks) >= MAX_TASKS:
            return None
        task = self.tasks[about["task_id"]] = Task(about, place)
        if place is not None:
            self.places.setdefault(place, []).append(about["task_id"])
        return task

    def _task_at(self, data: dict[str, Any], host: int | None) -> Task | None:
        """The task that a host's event is of: of those of the same place the one where it is, or can be."""
        task, number = self._task_of(data), data["task_id"]
        if task is None or host is None or task.place is None:
            return task
        there = [self.tasks[each] for each in self.places[task.place]]
        owners = [each.owner(host) for each in there]
        if number in owners:
            return there[owners.index(number)]
        if None in owners:
            free = there[owners.index(None)]
            if free.about["task_id"] != number:
                self.joined[number] = free.about["task_id"]
                free.joined[host] = number
            return free
        self.joined.pop(number, None)
        about = {name: task.about[name] for name in FIELDS if name in task.about}
        return self._new_task({"task_id": number, **about}, task.place)

    def _host_number(self, host: str) -> int | None:
        number = self.hosts.get(host)
        if number is None and len(self.hosts) < MAX_HOSTS:
            number = self.hosts[host] = len(self.hosts)
        return number

    def _host(self, what: str, data: dict[str, Any], time: str) -> None:
        host = self._host_number(data["host"])
        task = self._task_at(data, host)
        if task is not None:
            # A result may arrive without its task's start, after a gap: it brings the name along.
            task.about.setdefault("name", data.get("task", ""))
            task.about.setdefault("play_id", data.get("play_id", ""))
            task.about.setdefault("started", time)
        ignored = bool(data.get("ignored")) and what in ("failed", "unreachable")
        if task is not None and host is not None:
            before = task.set(host, IGNORED if ignored else LETTERS[what])
            if before in b"ocfkui" and before != b"." and what in ("started", "poll"):
                task.set(host, before)  # a late start never hides a result
        if what in self.counts:
            self.counts["ignored" if ignored else what] += 1
        if what in ("failed", "unreachable"):
            self._problem(what, data, time)
        if "parity" in data and what not in ("started", "poll", "retry"):
            self._parity(data, time)

    def _item(self, what: str, data: dict[str, Any], time: str) -> None:
        if what == "failed":
            self._problem(what, data, time)
        if "parity" in data and what != "retry":
            self._parity(data, time)

    def _problem(self, what: str, data: dict[str, Any], time: str) -> None:
        problem = {name: data[name] for name in PROBLEM_FIELDS if name in data}
        self.problems.append({**problem, "what": what, "time": time, "seq": self.seq})

    def _parity(self, data: dict[str, Any], time: str) -> None:
        report = data["parity"]
        counts = report["counts"]
        self.mismatches += sum(counts.get(name, 0) for name in ("missing", "mismatched", "unreadable"))
        lists = any(value for value in report.values() if isinstance(value, list))
        if len(self.parity) < MAX_PARITY and (not lists or self.lists < MAX_PARITY_LISTS):
            self.lists += lists
            known: dict[str, Any] = {name: data[name] for name in ("task", "item") if name in data}
            self.parity.append(
                {"task_id": data["task_id"], "host": data["host"], "time": time, **known, "report": report}
            )

    def _progress(self, _what: str, data: dict[str, Any], time: str) -> None:
        key = progress_key(data)
        if key not in self.progress and len(self.progress) >= MAX_PROGRESS:
            self.progress.popitem(last=False)
        before = self.progress.get(key, {})
        # The last word sums up what was done. One that has nothing to sum up keeps what the phase before it reached.
        counted = data.get("bytes") or data.get("files")
        kept = (
            {**before, "phase": "end", "time": time}
            if data["phase"] == "end" and before and not counted
            else None
        )
        self.progress[key] = kept or {**data, "key": key, "time": time}

    def _gap(self, _what: str, data: dict[str, Any], time: str) -> None:
        if data["reason"] == "run_limit":
            self.over_limit = True
        self.gaps.append({**data, "time": time, "seq": self.seq})

    def summary(self, now: datetime | None = None) -> dict[str, Any]:
        """One row of the list of runs. With `now`, a run that has said nothing for long is called silent."""
        status = self.status
        if status == "running" and now is not None and seconds_since(self.updated, now) > SILENT_SECONDS:
            status = "silent"
        row = {
            "run": self.run, "status": status, **self.about, "started": self.started, "updated": self.updated,
            "finished": self.finished, "duration": self.duration, "events": self.events, "hosts": len(self.hosts),
            "tasks": len(self.tasks) + self.unlisted, "task": self.task, "counts": dict(self.counts),
            "mismatches": self.mismatches, "gaps": len(self.gaps) + len(self.ledger.missing()), "seq": self.seq,
        }  # fmt: skip
        return {name: value for name, value in row.items() if value not in ("", None)}

    def as_dict(self, now: datetime | None = None) -> dict[str, Any]:
        """The `runState` of the schema."""
        return {
            "summary": self.summary(now),
            "plays": list(self.plays.values()),
            "tasks": self._tasks(),
            "hosts": list(self.hosts),
            "stats": self.stats,
            "progress": list(self.progress.values()),
            "parity": self.parity,
            "problems": list(self.problems),
            "gaps": list(self.gaps),
            "missing": [list(hole) for hole in self.ledger.missing()],
            "namespaces": list(self.namespaces),
        }

    def _tasks(self) -> list[dict[str, Any]]:
        joined: dict[str, dict[str, list[int]]] = {}
        for number, other in self.joined.items():
            joined.setdefault(other, {})[number] = []
        for name, task in self.tasks.items():
            for host, number in task.joined.items():
                joined.setdefault(name, {}).setdefault(number, []).append(host)
        return [
            {
                **task.about,
                "cells": task.cells.decode(),
                **({"joined": joined[name]} if name in joined else {}),
            }
            for name, task in self.tasks.items()
        ]


def progress_key(data: dict[str, Any]) -> str:
    """What a progress event replaces: its `key`, or host, label and process."""
    key = data.get("key")
    return str(key) if key else f"{data.get('host', '')} {data['label']} {data.get('pid', '')}"


def seconds_since(time: str, now: datetime) -> float:
    """Seconds between an event's time and `now`; 0 where the time can't be read (nanoseconds are cut)."""
    try:
        then = datetime.strptime(time[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return (now - then).total_seconds()


def iso_time(unix: float) -> str:
    """A Unix time as events write it, in seconds: what sorts before it is older."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S")
