# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Which play and task an Ansible hook is about, under ids that are unique in the run.

Ansible's own are not: all batches of a `serial` play share the play's uuid and its tasks' uuids, a handler that is
flushed twice starts twice under one uuid, and the strategies `free` and `host_pinned` announce a task once for each
host.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ._hook_types import Play, Task
from ._redact import LONGEST_WORD, Redactor

# An event before it is written: its type without the prefix, and its data.
Told: TypeAlias = "tuple[str, dict[str, Any]]"

# They announce a task once; all others may announce it for each host. `debug` is `linear` with a prompt.
LOCKSTEP = {"linear", "debug", "ansible.builtin.linear", "ansible.builtin.debug"}


@dataclass
class TaskRun:
    """One task on its way through the hosts of one play."""

    uuid: str
    task_id: str
    play_id: str | None
    name: str
    action: str
    handler: bool
    began: float
    ended: float | None = None
    # When it was sent to each host, the items that each has told of, and the failed attempts of the present one.
    hosts: dict[str, float] = field(default_factory=dict)
    items: Counter[str] = field(default_factory=Counter)
    failed_attempts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # What every event of a host has of its task.
        self.about: dict[str, Any] = {"task_id": self.task_id, "task": self.name, "action": self.action}
        if self.play_id is not None:
            self.about["play_id"] = self.play_id
        if self.handler:
            self.about["handler"] = True
        # Whether it may have progress to tell: modules of this collection can, and nobody knows yet what a template is.
        self.copies = self.action.rpartition(".")[2].startswith("pvc_") or "{{" in self.action


class RunState:
    """Follows the hooks. What it returns are the events (type, data) that a step brought about, in order."""

    def __init__(
        self,
        redactor: Redactor,
        playbook_directory: str = "",
        before_task: Callable[[Task], None] | None = None,
    ) -> None:
        """`before_task` learns the secrets of a task, since its name is cut here, which no secret may be."""
        self._redactor = redactor
        self._before_task = before_task
        self._directory = playbook_directory.rstrip("/")
        self._seen: Counter[str] = Counter()
        self._play: dict[str, Any] | None = None
        self._play_began = 0.0
        self._lockstep = True
        self._tasks: dict[str, TaskRun] = {}
        # Rounds of a task that hosts are still in although another host has begun the next one (free, host_pinned).
        self._overtaken: list[TaskRun] = []
        # A host is in one task at a time, whatever the strategy.
        self._on_host: dict[str, TaskRun] = {}

    def _unique(self, uuid: str) -> str:
        self._seen[uuid] += 1
        return uuid if self._seen[uuid] == 1 else f"{uuid}.{self._seen[uuid]}"

    def _word(self, value: object) -> str:
        return self._redactor.cut(str(value), LONGEST_WORD)

    def play_started(self, play: Play, hosts: list[str] | None = None) -> list[Told]:
        """Begin a play, or the next batch of one; the one before it has ended."""
        told = self.play_finished()
        uuid, strategy = str(play._uuid), str(play.strategy)  # noqa: SLF001 (the only name it has)
        self._lockstep = strategy in LOCKSTEP
        self._play = {"play_id": self._unique(uuid), "name": self._word(play.get_name())}
        self._play_began = time.monotonic()
        data = {**self._play, "strategy": self._word(strategy)}
        if hosts:
            data["hosts"] = hosts
        if play.serial and play.serial not in ([0], ["0"]):
            data["batch"] = self._seen[uuid]
        return [*told, ("play.started", data)]

    def play_finished(self) -> list[Told]:
        told: list[Told] = [self._task_finished(task) for task in (*self._overtaken, *self._tasks.values())]
        self._overtaken.clear()
        self._tasks.clear()
        self._on_host.clear()
        if self._play is not None:
            lasted = round(time.monotonic() - self._play_began, 3)
            told.append(("play.finished", {**self._play, "duration": lasted}))
            self._play = None
        return told

    def task_started(self, task: Task, handler: bool = False) -> list[Told]:
        """Begin a task, unless another host has begun it already (free, host_pinned)."""
        known = self._tasks.get(str(task._uuid))  # noqa: SLF001
        # `meta` is announced for each host by `linear` too, and no host has a result of it.
        if known is not None and not (self._lockstep and known.hosts):
            return []
        if not self._lockstep:
            return self._begin(task, handler)
        told: list[Told] = [self._task_finished(before) for before in self._tasks.values()]
        self._tasks.clear()
        return [*told, *self._begin(task, handler)]

    def _begin(self, task: Task, handler: bool) -> list[Told]:
        if self._before_task is not None:
            self._before_task(task)
        uuid = str(task._uuid)  # noqa: SLF001
        told: list[Told] = []
        if before := self._tasks.get(uuid):
            if self._occupied(before):
                self._overtaken.append(before)
            else:
                told.append(self._task_finished(before))
        run = self._tasks[uuid] = TaskRun(
            uuid=uuid,
            task_id=self._unique(uuid),
            play_id=self._play["play_id"] if self._play else None,
            name=self._word(task.get_name()),
            action=self._word(task.action),
            handler=handler,
            began=time.monotonic(),
        )
        data: dict[str, Any] = {"task_id": run.task_id, "name": run.name, "action": run.action}
        if run.play_id is not None:
            data["play_id"] = run.play_id
        if handler:
            data["handler"] = True
        return [*told, ("task.started", {**data, **self._details(task)})]

    def _details(self, task: Task) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if role := getattr(task, "_role", None):
            found["role"] = self._word(role.get_name())
        if path := task.get_path():
            file, colon, line = str(path).rpartition(":")
            inside = self._directory and file.startswith(f"{self._directory}/")
            short = file[len(self._directory) + 1 :] if inside else file.rpartition("/")[2]
            whole = f"{short}{colon}{line}"
            found["path"] = (
                whole if len(whole) <= LONGEST_WORD else self._redactor.text(whole)[-LONGEST_WORD:]
            )
        if tags := [self._word(tag) for tag in list(task.tags or ())[:100]]:
            found["tags"] = tags
        if getattr(task, "async_val", 0):
            found["async"] = True
        return found

    def _task_finished(self, run: TaskRun) -> Told:
        lasted = (run.ended or run.began) - run.began
        data: dict[str, Any] = {"task_id": run.task_id, "name": run.name, "duration": round(lasted, 3)}
        if run.play_id is not None:
            data["play_id"] = run.play_id
        return "task.finished", data

    def host_started(self, host: str, task: Task) -> tuple[TaskRun, list[Told]]:
        """Send a task to a host. A host that had it already starts a new round of it."""
        run = self._tasks.get(str(task._uuid))  # noqa: SLF001
        told: list[Told] = []
        if run is None or host in run.hosts:
            handler = run.handler if run else False
            told = self._begin(task, handler)
            run = self._tasks[str(task._uuid)]  # noqa: SLF001
        run.hosts[host] = time.monotonic()
        self._on_host[host] = run
        return run, told

    def host_finished(self, host: str, run: TaskRun) -> list[Told]:
        """A host has its result. The last one in a round that was overtaken ends that round."""
        if self._on_host.get(host) is run:
            del self._on_host[host]
        if not any(run is other for other in self._overtaken) or self._occupied(run):
            return []
        self._overtaken = [other for other in self._overtaken if other is not run]
        return [self._task_finished(run)]

    def _occupied(self, run: TaskRun) -> bool:
        return any(other is run for other in self._on_host.values())

    def of_result(self, host: str, task: Task) -> tuple[TaskRun, list[Told]]:
        """Return the task that a result belongs to; one that nobody announced begins with it (a skipped `meta`)."""
        told: list[Told] = []
        uuid, run = str(task._uuid), self._on_host.get(host)  # noqa: SLF001
        if run is None or (run.uuid != uuid and uuid in self._tasks):
            run = self._tasks.get(uuid)
        # Else it is the poll of an async task, which comes under a task that Ansible makes up for it.
        if run is None:
            told = self._begin(task, handler=False)
            run = self._tasks[str(task._uuid)]  # noqa: SLF001
        run.ended = time.monotonic()
        return run, told
