# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many results of `pvc_plan` as one list for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.kubeferry.pvc.plugins.module_utils._pair_plan import overflow
from ansible_collections.kubeferry.pvc.plugins.module_utils._quantity import from_bytes, readable


def plan_summary(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`lines` for people, the totals, and the `problems` of all claims together."""
    made = [dict(plan) for plan in plans]
    together = overflow([plan for plan in made if plan["possible"]])
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


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plan_summary": plan_summary}
