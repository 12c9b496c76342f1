# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Events as a playbook's publisher sends them, made up."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

PREFIX = "kubeferry.v1."


def parity_report(matched: int, **lists: list[Any]) -> dict[str, Any]:
    """A report of plugins/plugin_utils/_parity_data.py's shape."""
    names = ("missing", "mismatched", "metadata_differences", "extra", "unreadable")
    full = {name: lists.get(name, []) for name in names}
    counts = {"matched": matched, **{name: len(items) for name, items in full.items()}}
    about = {
        "whole": not any(full.values()),
        "source": "/mnt/pvc-0 in pod source-namespace/busybox-sleep",
        "target": "/mnt/pvc-0 in pod destination-namespace/busybox-sleep",
        "checksum": "sha256",
        "transport": "tar",
        "route": "direct",
        "files": matched,
        "bytes": 3 * 1024**3,
        "seconds": 11.5,
    }
    return {**about, "matched": matched, **full, "counts": counts, "truncated": False}


class Publisher:
    """Numbers and stamps the events of one run, as the callback does."""

    def __init__(self, run: str | None = None, start: datetime | None = None) -> None:
        self.run = run or str(uuid.uuid4())
        self.at = start or datetime.now(UTC)
        self.pubseq = 0
        self._progress = 0

    def event(self, kind: str, data: dict[str, Any], *, after: float = 0.0, **flags: bool) -> dict[str, Any]:
        """The next event; `after` are seconds since the one before."""
        self.at += timedelta(seconds=after)
        if kind == "progress":
            self._progress += 1
            number = f"{self.pubseq}.{self._progress}"
        else:
            self.pubseq += 1
            number = str(self.pubseq)
        return {
            "specversion": "1.0",
            "id": f"{self.run}:{number}",
            "source": f"/runs/{self.run}",
            "type": PREFIX + kind,
            "time": self.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "runid": self.run,
            "pubseq": self.pubseq,
            **flags,
            "data": data,
        }

    def started(self, playbook: str = "copy.yml", **more: Any) -> dict[str, Any]:
        about = {
            "playbook": playbook,
            "ansible_version": "2.19.14",
            "controller": "runner-1",
            "user": "ada",
            "forks": 10,
        }
        return self.event("run.started", {**about, **more})

    def finished(self, status: str = "ok", duration: float = 12.5) -> dict[str, Any]:
        return self.event("run.finished", {"status": status, "duration": duration, "stats": {}})

    def task(self, task_id: str, name: str, hosts: dict[str, str], **more: Any) -> list[dict[str, Any]]:
        """A whole task: its start, each host's result (by state) and its end."""
        events = [
            self.event(
                "task.started",
                {"task_id": task_id, "name": name, "action": "ansible.builtin.command", **more},
            )
        ]
        for host, state in hosts.items():
            events.append(self.result(task_id, name, host, state))
        return [*events, self.event("task.finished", {"task_id": task_id, "duration": 1.0})]

    def result(self, task_id: str, name: str, host: str, state: str, **more: Any) -> dict[str, Any]:
        about = {
            "task_id": task_id,
            "task": name,
            "host": host,
            "changed": state == "changed",
            "duration": 0.4,
        }
        return self.event(f"host.{state}", {**about, **more}, after=0.01)


def copy_run(publisher: Publisher | None = None) -> list[dict[str, Any]]:
    """A copy of three files in two hops, with one mismatch found at the end: everything that the page can show."""
    p = publisher or Publisher(start=datetime.now(UTC) - timedelta(seconds=40))
    spaces = ["source-namespace", "destination-namespace"]
    play = {"play_id": "p1", "name": "Copy the claim pvc-0", "hosts": ["localhost"], "strategy": "linear"}
    events = [p.started(), p.event("play.started", play)]
    steps = [
        ("t1", "Check both claims", "kubeferry.pvc.pvc_mount", "ok", 1.5, {}),
        ("t2", "Mount the source claim", "kubeferry.pvc.pvc_mount", "changed", 4.0, {}),
        (
            "t3",
            "Bring the files to staging",
            "kubeferry.pvc.pvc_copy",
            "changed",
            9.0,
            {"parity": parity_report(1204)},
        ),
        ("t4", "Mount the destination claim", "kubeferry.pvc.pvc_mount", "changed", 3.0, {}),
        (
            "t5",
            "Send the files on",
            "kubeferry.pvc.pvc_copy",
            "changed",
            11.0,
            {"parity": parity_report(1204)},
        ),
    ]
    for task_id, name, action, state, seconds, more in steps:
        about = {
            "task_id": task_id,
            "play_id": "p1",
            "name": name,
            "action": action,
            "role": "kubeferry.pvc.copy",
            "path": "tasks/main.yml:12",
            "namespaces": spaces,
        }
        events.append(p.event("task.started", about, after=0.1))
        if action.endswith("copy"):
            label = (
                "source-namespace/busybox-sleep → staging"
                if task_id == "t3"
                else "staging → destination-namespace/busybox-sleep"
            )
            total = 3 * 1024**3
            for part in (0.2, 0.6, 1.0):
                done = int(total * part)
                data = {
                    "task_id": task_id,
                    "host": "localhost",
                    "v": 1,
                    "pid": 4242,
                    "label": label,
                    "phase": "move",
                    "bytes": done,
                    "bytes_total": total,
                    "files": int(1204 * part),
                    "files_total": 1204,
                    "seconds": 8 * part,
                    "bytes_per_second": 410_000_000,
                    "seconds_left": round(8 * (1 - part), 1) or None,
                }
                events.append(p.event("progress", data, after=seconds / 4))
            events.append(p.event("progress", {**data, "phase": "end"}))
        result = {
            "task_id": task_id,
            "play_id": "p1",
            "task": name,
            "action": action,
            "host": "localhost",
            "changed": state == "changed",
            "duration": seconds,
            "msg": f"{name}: done",
            "result": {"changed": state == "changed", "bytes": 3221225472},
            **more,
        }
        events.append(p.event(f"host.{state}", result, after=seconds / 4))
        events.append(p.event("task.finished", {"task_id": task_id, "play_id": "p1", "duration": seconds}))
    report = parity_report(
        1201,
        mismatched=[{"path": "a/11", "differs": ["content"]}],
        missing=["a/51"],
        metadata_differences=[{"path": "10", "differs": {"mode": ["0640", "0644"], "uid": ["1001", "0"]}}],
    )
    events.append(
        p.event(
            "task.started",
            {
                "task_id": "t6",
                "play_id": "p1",
                "name": "Verify end to end",
                "action": "kubeferry.pvc.pvc_verify",
                "role": "kubeferry.pvc.copy",
                "namespaces": spaces,
            },
            after=0.1,
        )
    )
    failure = {
        "task_id": "t6",
        "play_id": "p1",
        "task": "Verify end to end",
        "action": "kubeferry.pvc.pvc_verify",
        "host": "localhost",
        "duration": 2.2,
        "msg": "1 missing at the target (a/51); 1 different (a/11). The target was left as it is; run the copy again.",
        "parity": report,
    }
    events.append(p.event("host.failed", failure, after=2.2))
    return events


def included_run(hosts: int, rounds: int = 2, publisher: Publisher | None = None) -> list[dict[str, Any]]:
    """Two tasks of a file that is included for each host by itself, in a loop: each time they have new identities."""
    p = publisher or Publisher(start=datetime.now(UTC) - timedelta(minutes=5))
    names = [f"shop.claim-{number}" for number in range(hosts)]
    about = {"play_id": "p1", "name": "Migrate", "hosts": names, "strategy": "free"}
    events = [p.started("migrate.yml"), p.event("play.started", about)]
    for turn in range(rounds):
        for step, name in enumerate(("Mount the claim", "Copy")):
            for number, host in enumerate(names):
                task = {"task_id": f"{turn}-{step}-{number}", "play_id": "p1"}
                where = {
                    "path": f"claim.yml:{step + 1}",
                    "action": "kubeferry.pvc.pvc_copy",
                    "role": "migrate",
                }
                events.append(p.event("task.started", {**task, "name": name, **where}))
                events.append(p.event("host.started", {**task, "task": name, "host": host}))
            for number, host in enumerate(names):
                state = "failed" if step and number == 1 else "ok"
                events.append(p.result(f"{turn}-{step}-{number}", name, host, state, play_id="p1"))
    events += [
        p.event("task.finished", {"task_id": f"{turn}-{step}-{number}", "duration": 2.5})
        for turn in range(rounds)
        for step in range(2)
        for number in range(hosts)
    ]
    return [*events, p.finished("failed", 290.0)]


def wide_run(hosts: int, tasks: int, publisher: Publisher | None = None) -> list[dict[str, Any]]:
    """Many hosts and tasks, with some failures spread over them."""
    p = publisher or Publisher(start=datetime.now(UTC) - timedelta(minutes=5))
    names = [f"node{number:04d}.example" for number in range(hosts)]
    events = [
        p.started("fleet.yml"),
        p.event("play.started", {"play_id": "p1", "name": "All nodes", "hosts": names, "strategy": "linear"}),
    ]
    states = ["ok", "ok", "changed", "ok", "skipped", "ok"]
    for at in range(tasks):
        results = {host: states[(number + at) % len(states)] for number, host in enumerate(names)}
        for number, host in enumerate(names):
            if (number * 7 + at * 13) % 211 == 0:
                results[host] = "failed" if at % 3 else "unreachable"
        events += p.task(f"t{at}", f"Step {at + 1} of the rollout", results, play_id="p1")
    return [*events, p.finished("failed", 290.0)]
