# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of many claims as one list for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.kubeferry.pvc.plugins.module_utils._quantity import readable


def migration_summary(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`lines` for people, the totals, and the hosts that `failed`."""
    made = [dict(each) for each in outcomes]
    done = [each for each in made if each["state"] == "done"]
    failed = [each for each in made if each["state"] != "done"]
    totals = {key: sum(int(each[key]) for each in done) for key in ("files", "bytes", "bytes_moved")}
    first = (
        f"{len(done)} of {len(made)} claims are migrated: {totals['files']} files, {readable(totals['bytes'])}, "
        f"{readable(totals['bytes_moved'])} of them sent now"
    )
    lines = [first] + [
        f"FAILED {each['title']}: {each['msg']}" for each in sorted(failed, key=lambda one: one["title"])
    ]
    lines += [
        f"{each['title']}: {each['replaced']} paths of the destination were others than the source's and are replaced"
        for each in sorted(done, key=lambda one: one["title"])
        if int(each.get("replaced", 0))
    ]
    lines += [
        f"{each['title']}: the destination has {each['extra']} paths that the source hasn't, see its report"
        for each in sorted(done, key=lambda one: one["title"])
        if int(each.get("extra", 0))
    ]
    lines += [
        f"{each['title']}: {text}"
        for each in sorted(made, key=lambda one: one["title"])
        for text in each.get("not_running", [])
    ]
    return {"lines": lines, "done": len(done), "failed": sorted(each["host"] for each in failed), **totals}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"migration_summary": migration_summary}
