# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What is told of a whole run, at its beginning and at its end."""

from __future__ import annotations

import os
import platform
import pwd
from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible.release import __version__ as ansible_version

from ._bounded import Bounded
from ._hook_types import Playbook, Stats, Task
from ._redact import LONGEST_WORD, MASK, Redactor

# Of more hosts only the totals are told.
MOST_HOSTS = 2_000
# What ansible-core calls the playbook that it makes of a command of `ansible`.
_AD_HOC = "__adhoc_playbook__"
_NAMES = ("ok", "changed", "failures", "unreachable", "skipped", "rescued", "ignored")


def run_data(playbook: Playbook, redactor: Redactor) -> dict[str, Any]:
    """Return who runs what, and how."""

    def word(value: object) -> str:
        return redactor.cut(str(value), LONGEST_WORD)

    arguments = context.CLIARGS
    name = os.path.basename(str(playbook._file_name or ""))  # noqa: SLF001 (the only name it has)
    data: dict[str, Any] = {
        "playbook": "ad hoc" if name in ("", _AD_HOC) else word(name),
        "ansible_version": ansible_version,
        "controller": word(platform.node()),
        "user": _user(),
        "check": bool(arguments.get("check")),
        "diff": bool(arguments.get("diff")),
    }
    if isinstance(forks := arguments.get("forks"), int):
        data["forks"] = forks
    if limit := arguments.get("subset"):
        data["limit"] = word(limit)
    for name in ("tags", "skip_tags"):
        if tags := arguments.get(name):
            data[name] = [word(tag) for tag in tags[:100]]
    if job := os.environ.get("JOB_ID"):  # AWX
        data["job"] = word(job)
    return data


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())  # as in a container with a user that no file names


class HiddenStats:
    """The names of custom statistics that a task under `no_log` has set."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._all = False

    def note(self, task: Task) -> None:
        """A task under `no_log` has ended."""
        if task.action.rpartition(".")[2] != "set_stats":
            return
        data = task.args.get("data")
        if isinstance(data, Mapping):
            self._names.update(map(str, data))
            self._all |= any("{{" in name for name in self._names)
        else:
            self._all = True  # a template: nobody knows its names

    def hide(self, custom: Mapping[str, object]) -> dict[str, object]:
        return {name: MASK if self._all or name in self._names else value for name, value in custom.items()}


class Counted:
    """Takes one playbook's results out of Ansible's numbers, which go on through all playbooks of one command."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, int]] = {}

    def of_run(self, stats: Stats) -> dict[str, dict[str, int]]:
        """Return what each host of the playbook that has just ended came to."""
        none = dict.fromkeys(_NAMES, 0)
        before = self._before
        self._before = {host: dict(stats.summarize(host)) for host in sorted(stats.processed)}
        told: dict[str, dict[str, int]] = {}
        for host, summary in self._before.items():
            counts = {name: summary[name] - before.get(host, none)[name] for name in _NAMES}
            if host not in before or any(counts.values()):
                told[host] = counts
        return told


def stats_data(
    by_host: Mapping[str, Mapping[str, int]],
    of_user: Mapping[str, Mapping[str, object]],
    bounded: Bounded,
    hidden: HiddenStats,
    broken_off: bool = False,
) -> dict[str, Any]:
    """Return the recap. `of_user` are Ansible's custom statistics.

    A run that was broken off for want of hosts has failed, whatever they count: a failure that was rescued isn't among
    their failures, but among those of `max_fail_percentage`.
    """
    totals = {name: sum(counts[name] for counts in by_host.values()) for name in _NAMES}
    data: dict[str, Any] = {
        "status": "failed" if totals["failures"] or totals["unreachable"] or broken_off else "ok",
        "totals": totals,
    }
    if len(by_host) <= MOST_HOSTS:
        data["stats"] = by_host
    else:
        bounded.truncated = True
    if of_user:
        custom = dict(of_user)
        of_run = custom.pop("_run", None)
        told = hidden.hide(of_run) if isinstance(of_run, Mapping) else {}
        of_hosts = {host: hidden.hide(of_host) for host, of_host in custom.items()}
        data["custom"] = bounded.value({**told, "hosts": of_hosts} if of_hosts else told)
    return data
