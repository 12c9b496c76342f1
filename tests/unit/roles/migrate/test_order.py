# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of what the role does."""

from __future__ import annotations

from pathlib import Path

from ansible.parsing.dataloader import DataLoader

TASKS = Path(__file__).parents[4] / "roles" / "migrate" / "tasks"


def blocks(name):
    return [
        task["block"] for task in DataLoader().load_from_file(str(TASKS / f"{name}.yml")) if "block" in task
    ]


def test_what_another_run_has_brought_is_forgotten_before_the_first_pass():
    """Else the second one would remove what has vanished since that other run."""
    ((forget, copy),) = blocks("first_pass")
    assert forget["ansible.builtin.file"] == {"path": "{{ migrate_baseline }}", "state": "absent"}
    assert copy["ansible.builtin.include_tasks"] == "copy.yml"


def test_only_the_claim_to_copy_from_has_to_be_there_for_a_lease():
    """The other one may be made later. What a run has left is brought back though both are gone."""
    found = {
        (name, task["kubeferry.pvc.pvc_lease"]["claim"]): task["kubeferry.pvc.pvc_lease"].get(
            "must_exist", True
        )
        for name in ("migrate", "restore")
        for block in blocks(name)
        for task in block
        if task.get("kubeferry.pvc.pvc_lease", {"state": "none"}).get("state", "present") == "present"
    }
    source, target = "{{ migrate_source }}", "{{ migrate_target }}"
    assert found == {
        ("migrate", source): True,
        ("migrate", target): False,
        ("restore", source): False,
        ("restore", target): False,
    }


def test_a_claim_that_is_in_use_is_refused_unless_that_is_meant():
    (plan,) = [
        task["kubeferry.pvc.pvc_plan"]
        for task in DataLoader().load_from_file(str(TASKS / "plan.yml"))
        if "kubeferry.pvc.pvc_plan" in task
    ]
    assert plan["into_used"] == "{{ migrate_into_used }}"
    defaults = DataLoader().load_from_file(str(TASKS.parent / "defaults" / "main.yml"))
    assert defaults["migrate_into_used"] is False


def test_what_the_first_pass_has_replaced_is_counted():
    (count,) = DataLoader().load_from_file(str(TASKS / "first_pass.yml"))[0]["always"]
    (work,) = blocks("migrate")
    (success,) = [task for task in work if task["name"] == "Note the success"]
    assert "copy_pushed.planned.replace" in count["ansible.builtin.set_fact"]["migrate_replaced_before"]
    assert "migrate_replaced_before" in success["ansible.builtin.set_fact"]["migrate_outcome"]["replaced"]


def test_what_was_stopped_is_asked_for_between_the_copy_and_the_success():
    (work,) = blocks("migrate")
    names = [task["name"] for task in work]
    (asked,) = [
        number
        for number, task in enumerate(work)
        if task.get("kubeferry.pvc.pvc_quiesce", {}).get("state") == "held"
    ]
    assert names.index("Copy") < asked < names.index("Note the success")
    assert work[asked]["when"] == "migrate_mode != 'live'"


def test_a_claim_is_marked_with_whose_files_it_gets_before_the_first_of_them():
    (work,) = blocks("migrate")
    names = [task["name"] for task in work]
    assert (
        names.index("Plan")
        < names.index("Have the claim to copy to")
        < names.index("Copy while the workloads run")
    )
    marked = work[names.index("Have the claim to copy to")]
    assert marked["kubeferry.pvc.pvc_claim"]["origin"] == "{{ migrate_plan.origin }}"
    assert "when" not in marked


def test_the_volume_to_copy_to_is_waited_for_before_anything_is_stopped():
    (work,) = blocks("migrate")
    names = [task["name"] for task in work]
    there = names.index("Have the claim to copy to")
    assert work[there]["kubeferry.pvc.pvc_claim"]["wait_timeout"] == "{{ migrate_wait_timeout }}"
    assert there < names.index("Stop the workloads that use the claim")
