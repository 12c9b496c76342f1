# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What an event tells of a task's result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._bounded import UNTOLD, Bounded
from ._hook_types import Task
from ._parity_data import FIELDS, is_report, parity_data
from ._redact import Redactor

# Not told either: an item's whole result again, texts that another field has, and Ansible's own bookkeeping.
_LEFT_OUT = UNTOLD | {
    "results", "warnings", "deprecations", "changed", "failed",
    "skipped", "unreachable", "msg", "stdout", "stderr", "stdout_lines", "stderr_lines", "attempts",
    "retries", "item",
    "ansible_loop", "ansible_loop_var", "ansible_index_var", "ansible_job_id", "censored",
    "failed_when_result", "failed_when_suppressed_exception", "add_group", "ansible_stats",
}  # fmt: skip
# Texts that another field has; what the items of a loop came to was searched with each of them.
_TWICE = frozenset(("stdout_lines", "stderr_lines"))
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MOST_NAMESPACES = 20


def asks_for_secrecy(task: Task, result: Mapping[str, Any] | None = None) -> bool:
    """Whether nothing of a result may be told.

    `no_log` may still be a template when a hook sees it, and a template may turn out true: only a plain false counts.
    """
    if task.no_log is not False and task.no_log is not None:
        return True
    return result is not None and bool(result.get("_ansible_no_log") or "censored" in result)


def namespaces(arguments: object) -> list[str]:
    """Return the Kubernetes namespaces that a task's arguments name, at the top or in an endpoint."""
    if not isinstance(arguments, Mapping):
        return []
    found: dict[str, None] = {}
    for part in (arguments, *(value for value in arguments.values() if isinstance(value, Mapping))):
        for key, value in part.items():
            named = isinstance(key, str) and isinstance(value, str) and key.rpartition("_")[2] == "namespace"
            if named and _NAMESPACE.fullmatch(value):
                found[str(value)] = None
    return list(found)[:_MOST_NAMESPACES]


def item_label(result: Mapping[str, Any], bounded: Bounded) -> str | None:
    """Return what a person calls the item of a loop; None where the result has none."""
    name = str(result.get("ansible_loop_var", "item"))
    item = result.get(name)
    label = result.get("_ansible_item_label", item)
    if label is None:
        return None
    # With `label` of `loop_control` it is another one.
    return bounded.mask(item) if label == item and bounded.hides(name, item) else bounded.in_words(label)


def learn_of_result(result: Mapping[str, Any], task: Task, redactor: Redactor) -> None:
    """Learn what is secret from a result and its task, whose fields are as they were for it, before any is told."""
    redactor.learn_task(task.args, task.environment or ())  # also what a result only shows as hidden
    redactor.learn_result(result, _TWICE | {"results"} if _is_of_loop(result) else _TWICE)


def _is_of_loop(result: Mapping[str, Any]) -> bool:
    items = result.get("results")
    first = items[0] if isinstance(items, list) and items else None
    return isinstance(first, Mapping) and "ansible_loop_var" in first


def result_data(result: Mapping[str, Any], bounded: Bounded, redactor: Redactor) -> dict[str, Any]:
    """Return the fields that an event has of a result that is no secret."""
    data: dict[str, Any] = {}
    invocation = result.get("invocation")
    if isinstance(invocation, Mapping) and (named := namespaces(invocation.get("module_args"))):
        data["namespaces"] = named
    for name in ("msg", "stdout", "stderr"):
        value = result.get(name)
        if value is not None and value != "":
            data[name] = bounded.in_words(value)
    if warned := result.get("warnings"):
        data["warnings"] = [bounded.text(_message(warning), 1_000) for warning in list(warned)[:20]]
    if job := result.get("ansible_job_id"):
        data["job_id"] = bounded.text(job, 1_000)
    if isinstance(result.get("results"), list):
        data["items"] = len(result["results"])
    told = _LEFT_OUT
    if is_report(result):
        told = _LEFT_OUT | FIELDS
        # A report's lists are cut by the module that makes it; their names count apart from the rest of a result.
        apart = Bounded(redactor)
        data["parity"] = parity_data(result, apart)
        bounded.redacted |= apart.redacted
        bounded.truncated |= apart.truncated
    if result.get("encoding") == "base64":
        told = told | {"content"}  # of a file, where no pattern would find anything
    rest = {key: value for key, value in result.items() if key not in told and not key.startswith("_ansible")}
    item = result.get("ansible_loop_var")
    if isinstance(item, str):
        rest.pop(item, None)
    if rest:
        data["result"] = bounded.value(rest)
    return data


def _message(warning: object) -> object:
    return warning.get("msg", "") if isinstance(warning, Mapping) else warning
