# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""How a pod is doing, read from its status: pure functions over the dictionary that the API server gives."""

from __future__ import annotations

from typing import Any

RUNNING = "it is Running"
"""What :func:`describe` says of a pod with nothing wrong about it."""


_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
# A pod's containers by their sort; the list of their states is called `<sort>Statuses`.
_ALL = ("container", "initContainer", "ephemeralContainer")


def default_container(pod: dict[str, Any]) -> str:
    """The container that the pod names for who names none, as kubectl has it; empty if it names none that it has."""
    named = ((pod.get("metadata") or {}).get("annotations") or {}).get(_DEFAULT_CONTAINER)
    spec = pod.get("spec") or {}
    there = {container["name"] for sort in _ALL for container in spec.get(f"{sort}s") or ()}
    return str(named) if named in there else ""


def describe(pod: dict[str, Any], only: str = "") -> str:
    """The pod's state in words, as in `it is Pending, container a waits (ImagePullBackOff)`.

    Of its containers, that called `only` is looked at, whatever its sort; all but init containers if it is empty.
    """
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return "it is being deleted"
    words = [f"it is {status.get('phase') or 'in an unknown state'}"]
    if status.get("reason"):
        words.append(str(status["reason"]))
    sorts = _ALL if only else _ALL[:1]
    for container in [each for sort in sorts for each in status.get(f"{sort}Statuses") or []]:
        if only not in ("", container.get("name")):
            continue
        state = container.get("state") or {}
        name = container.get("name")
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting is not None:
            words.append(f"container {name} waits ({waiting.get('reason') or 'no reason given'})")
        elif ended is not None:
            words.append(
                f"container {name} has ended ({ended.get('reason') or 'exit status'} {ended.get('exitCode')})"
            )
    return ", ".join(words)


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether all containers are ready and the pod isn't on its way out."""
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
