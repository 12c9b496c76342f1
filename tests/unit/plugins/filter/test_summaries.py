# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubeferry.pvc.plugins.filter.migration_summary import migration_summary
from ansible_collections.kubeferry.pvc.plugins.filter.plan_summary import plan_summary

GI = 1 << 30


def plan(name, **facts):
    return {
        "source": f"shop/{name}",
        "target": f"store/{name}",
        "possible": not facts.get("problems"),
        "problems": [],
        "notes": [],
        "workloads": [],
        "capacity": GI,
        "creates": {},
        "quotas": [],
        **facts,
    }


def new(size=2 * GI, storage_class="fast"):
    return {"namespace": "store", "server": "s", "storage_class": storage_class, "bytes": size}


def quota(resource, left):
    return [{"quota": "q", "resource": resource, "left": left}]


def test_a_line_for_each_claim_and_its_problems():
    plans = [
        plan("a", creates=new(), workloads=[{"kind": "Deployment", "name": "web"}], notes=["seen", "all"]),
        plan("b", problems=["it is gone"], notes=["all"]),
        plan("c", files=3, bytes=2048, notes=["all"]),
    ]
    summary = plan_summary(plans)
    assert summary["lines"] == [
        "ok  shop/a -> store/a: 1Gi; new with 2Gi of fast; stops Deployment web; seen",
        "NO  shop/b -> store/b: 1Gi",
        "      it is gone",
        "ok  shop/c -> store/c: 1Gi; 3 files, 2.0 KiB",
        "for all claims: all",
        "2 of 3 claims can be copied, 1.0 GiB at most (the size of their volumes)",
    ]
    assert (summary["possible"], summary["impossible"], summary["bytes"]) == (2, 1, GI + 2048)
    assert plan_summary(plans[2:])["lines"][-1].endswith("can be copied, 2.0 KiB in their files")


def test_quotas_that_all_claims_together_exceed():
    of_class = "fast.storageclass.storage.k8s.io/requests.storage"
    for quotas, exceeded in (
        (quota("requests.storage", 4 * GI), False),
        (quota("requests.storage", 4 * GI - 1), True),
        (quota("persistentvolumeclaims", 1), True),
        (quota("persistentvolumeclaims", 2), False),
        (quota(of_class, 3 * GI), True),
        (quota(of_class.replace("fast", "slow"), 0), False),
    ):
        plans = [plan(name, creates=new(), quotas=quotas) for name in "ab"]
        assert bool(plan_summary(plans)["problems"]) is exceeded, quotas
    plans = [plan(name, creates=new(), quotas=quota("requests.storage", 3 * GI)) for name in "ab"]
    (problem,) = plan_summary(plans)["problems"]
    assert "has 3.0 GiB left of requests.storage" in problem
    assert "need 4.0 GiB" in problem
    assert plan_summary([])["lines"] == ["0 of 0 claims can be copied, 0 B in their files"]


def test_what_became_of_all():
    done = {"state": "done", "files": 2, "bytes": 3000, "bytes_moved": 0}
    outcomes = [
        {"host": "shop.b", "state": "failed", "title": "shop/b -> store/b", "msg": "it is gone"},
        {"host": "shop.a", "title": "shop/a -> store/a", "not_running": ["X isn't running again."], **done},
        {"host": "shop.c", "title": "shop/c -> store/c", "replaced": 5, "extra": 3, **done},
    ]
    assert migration_summary(outcomes) == {
        "lines": [
            "2 of 3 claims are migrated: 4 files, 5.9 KiB, 0 B of them sent now",
            "FAILED shop/b -> store/b: it is gone",
            "shop/c -> store/c: 5 paths of the destination were others than the source's and are replaced",
            "shop/c -> store/c: the destination has 3 paths that the source hasn't, see its report",
            "shop/a -> store/a: X isn't running again.",
        ],
        "done": 2,
        "failed": ["shop.b"],
        "files": 4,
        "bytes": 6000,
        "bytes_moved": 0,
    }
