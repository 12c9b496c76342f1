# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many results of `pvc_plan` as one list for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.kubeferry.pvc.plugins.module_utils._quantity import from_bytes, readable


def plan_summary(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`lines` for people, the totals, and the `problems` of all claims together."""
    made = [dict(plan) for plan in plans]
    together = _overflow([plan for plan in made if plan["possible"]])
    possible = [plan for plan in made if plan["possible"]]
    seen = [plan for plan in made if "capacity" in plan]
    common = (
        [note for note in seen[0]["notes"] if all(note in plan["notes"] for plan in seen)] if seen[1:] else []
    )
    lines = [line for plan in made for line in _lines(plan, common)]
    size = sum(plan.get("bytes", plan["capacity"]) for plan in possible)
    measured = all("bytes" in plan for plan in possible)
    lines += [f"for all claims: {note}" for note in common]
    lines += [f"all together: {text}" for text in together]
    lines.append(
        f"{len(possible)} of {len(made)} claims can be copied, "
        f"{readable(size)} {'in their files' if measured else 'at most (the size of their volumes)'}"
    )
    return {
        "lines": lines,
        "possible": len(possible),
        "impossible": len(made) - len(possible),
        "bytes": size,
        "problems": together,
    }


def _lines(plan: Mapping[str, Any], common: Sequence[str]) -> list[str]:
    facts = [from_bytes(plan["capacity"])] if "capacity" in plan else []
    if "bytes" in plan:
        facts.append(f"{plan['files']} files, {readable(plan['bytes'])}")
    if plan["creates"]:
        new = plan["creates"]
        facts.append(f"new with {from_bytes(new['bytes'])} of {new['storage_class'] or 'the default class'}")
    facts += [f"stops {each['kind']} {each['name']}" for each in plan["workloads"]]
    facts += [note for note in plan["notes"] if note not in common]
    mark = "ok  " if plan["possible"] else "NO  "
    lines = [f"{mark}{plan['source']} -> {plan['target']}{': ' if facts else ''}{'; '.join(facts)}"]
    return lines + [f"      {text}" for text in plan["problems"]]


def _overflow(plans: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each quota that all plans together exceed. Each is a result of `pvc_plan`."""
    asked: dict[tuple[str, str, str], int] = {}
    quotas: dict[tuple[str, str, str], tuple[str, int]] = {}
    for plan in plans:
        new = plan.get("creates") or {}
        for each in plan.get("quotas") or []:
            resource = str(each["resource"])
            of_class, _dot, _rest = resource.partition(".storageclass.storage.k8s.io/")
            if _rest and of_class != new["storage_class"]:
                continue
            key = (str(new["server"]), str(new["namespace"]), resource)
            asked[key] = asked.get(key, 0) + (
                1 if resource.endswith("persistentvolumeclaims") else int(new["bytes"])
            )
            quotas[key] = (str(each["quota"]), int(each["left"]))
    return [
        f"namespace {key[1]} has {_amount(key[2], quotas[key][1])} left of {key[2]} (quota {quotas[key][0]}), and all "
        f"claims together need {_amount(key[2], need)}: raise the quota, or limit the run"
        for key, need in asked.items()
        if need > quotas[key][1]
    ]


def _amount(resource: str, count: int) -> str:
    """So many of a quota's resource: claims, or bytes."""
    return str(count) if resource.endswith("persistentvolumeclaims") else readable(count)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plan_summary": plan_summary}
