# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The list at the end of the playbook migrate, run as a user runs it against an API server in memory."""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from execserver import ExecServer
from fakeapi import claim, status

HOSTS = {
    name: {
        "claim_source": {"namespace": "ns", "pvc": name},
        "claim_target": {"namespace": "ns", "pvc": f"new-{name}"},
    }
    for name in ("shop", "gone", "lost")
}


@pytest.fixture
def server():
    """It has a claim that can be copied, and the Deployment that uses it."""
    volumes = [{"persistentVolumeClaim": {"claimName": "shop"}}]
    spec = {"replicas": 3, "template": {"spec": {"volumes": volumes}}}
    with ExecServer() as started:
        started.api.remove("pods", started.api.all("pods")[0])
        for name in ("shop", "new-shop", "new-gone"):
            started.api.add("persistentvolumeclaims", claim(name))
        started.api.add("deployments", {"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})
        yield started


@pytest.fixture
def migrate(server, playbook, tmp_path):
    """Runs the playbook, or another one, on the claims."""
    inventory = tmp_path / "claims.json"
    inventory.write_text(json.dumps({"claims": {"hosts": HOSTS, "vars": {"ansible_connection": "local"}}}))
    extra = {
        "source_host": server.url,
        "target_host": server.url,
        "source_api_key": "a-token",
        "target_api_key": "a-token",
        "ansible_python_interpreter": sys.executable,
    }

    def run(*arguments: str, name: str = "migrate"):
        return playbook(name, "-i", inventory, *arguments, seconds=240, variables=extra)

    return run


@pytest.mark.timeout(300)
def test_in_check_mode_it_lists_what_would_come_of_each(server, migrate):
    done = migrate("--check", "--limit", "shop,gone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok  ns/shop -> ns/new-shop: 0; stops Deployment web" in done.stdout
    assert "NO  ns/gone -> ns/new-gone" in done.stdout
    assert "1 of 2 claims can be copied" in done.stdout
    assert {method for method, *_rest in server.api.requests} <= {"GET", "POST"}
    assert server.api.all("leases") == []


@pytest.mark.timeout(300)
def test_in_check_mode_it_fails_where_nothing_could_be_found_out(server, migrate):
    server.api.refuse[("get", "persistentvolumeclaims")] = [(401, status(401, "no"))] * 99
    done = migrate("--check", "--limit", "shop,gone")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "0 of 2 claims can be copied" in done.stdout
    assert "the API server doesn't accept the credentials" in done.stdout


@pytest.mark.timeout(300)
def test_tags_that_leave_everything_out_are_no_success(server, migrate):
    done = migrate("--limit", "shop", "--tags", "nothing")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "undefined" not in done.stdout + done.stderr
    assert "Nothing was done: leave out --tags and --skip-tags." in done.stdout
    assert server.api.requests == []


@pytest.mark.timeout(300)
def test_without_the_tasks_that_always_run_it_is_no_success(server, migrate):
    done = migrate("--limit", "shop", "--skip-tags", "always")
    assert done.returncode not in {0, 2}, done.stdout + done.stderr
    assert "With --skip-tags always, nothing is migrated: leave it out." in done.stdout + done.stderr
    assert server.api.requests == []


@pytest.mark.timeout(300)
def test_a_folder_for_reports_that_can_not_be_made_is_told_before_anything_is_touched(
    server, migrate, tmp_path
):
    (tmp_path / "file").write_text("mine\n")
    done = migrate("-e", "migrate_folder=file/reports")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{tmp_path}/file/reports can't be made, or written to, as the folder for reports" in done.stdout
    assert "give another one with migrate_folder." in done.stdout
    assert server.api.requests == []


@pytest.fixture
def free(tmp_path):
    """Each host goes on without waiting for the others."""
    (tmp_path / "ansible.cfg").write_text("[defaults]\nstrategy = free\n")


@pytest.mark.timeout(300)
def test_one_list_of_all_is_told_also_where_nothing_can_be_written_any_more(free, migrate, tmp_path):
    """As on a disk that is full by then."""
    (tmp_path / "pvc-migration" / "failed.txt").mkdir(parents=True)
    done = migrate("--forks", "1", "--limit", "gone,lost")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "FAILED ns/gone -> ns/new-gone: Claim ns/gone doesn't exist" in done.stdout
    assert "0 of 2 claims are migrated" in done.stdout
    assert done.stdout.count("claims are migrated") == 1


@pytest.mark.timeout(300)
def test_with_any_strategy_there_is_one_plan_of_all(free, migrate):
    done = migrate("--forks", "1", "--limit", "gone,lost", name="plan")
    assert "0 of 2 claims can be copied" in done.stdout
    assert done.stdout.count("claims can be copied") == 1


@pytest.mark.timeout(300)
def test_what_is_stopped_when_the_credentials_die_is_in_the_list(server, migrate):
    """What ends the run then is that a lease can't be released."""
    (deployment,) = server.api.all("deployments")
    handle = server.api.handle

    def answer(method, target, *rest):
        dead = server.api.all("pods")
        return (401, status(401, "Unauthorized")) if dead else handle(method, target, *rest)

    server.api.handle = answer
    try:
        done = migrate("--limit", "shop")
        assert deployment["spec"]["replicas"] == 0, "as it is when the first helper pod is made"
    finally:
        server.api.handle = handle
    assert done.returncode == 2, done.stdout + done.stderr
    assert "0 of 1 claims are migrated" in done.stdout
    (line,) = [each for each in done.stdout.splitlines() if "may still be stopped" in each]
    assert (
        "ns/shop -> ns/new-shop: Deployment ns/web may still be stopped, as bringing it back failed (" in line
    )
    assert "doesn't accept the credentials" in line
    assert "): run the playbook kubeferry.pvc.restore." in line
    # Which the guards still try to do, now and then.
    deadline = time.monotonic() + 90
    while deployment["spec"]["replicas"] != 3 or server.api.all("leases"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.timeout(300)
def test_what_stays_stopped_for_claims_that_are_not_restored_is_told_once(server, migrate):
    """`old` is in no inventory, and `gone` is restored by another host."""
    (deployment,) = server.api.all("deployments")
    for name, claims in (("both", ["gone", "shop"]), ("old", ["old"])):
        other = copy.deepcopy(deployment)
        record = json.dumps({"claims": claims, "was": {"replicas": 1}})
        other["metadata"] = {
            "name": name,
            "namespace": "ns",
            "annotations": {"kubeferry.io/quiesced": record},
        }
        other["spec"]["replicas"] = 0
        server.api.add("deployments", other)
    done = migrate("--forks", "1", "--limit", "shop,gone", name="restore")
    assert done.returncode == 0, done.stdout + done.stderr
    replicas = {each["metadata"]["name"]: each["spec"]["replicas"] for each in server.api.all("deployments")}
    assert replicas == {"web": 3, "both": 1, "old": 0}
    assert done.stdout.count(" stays stopped for claim ") == 1
    assert "Deployment ns/old stays stopped for claim old: to end that" in done.stdout


@pytest.mark.timeout(300)
def test_what_stays_stopped_for_another_claim_is_in_the_list(server, migrate):
    (deployment,) = server.api.all("deployments")
    record = json.dumps({"claims": ["old"], "runs": {"old": "run-dead"}, "was": {"replicas": 3}})
    deployment["metadata"]["annotations"] = {"kubeferry.io/quiesced": record}
    deployment["spec"]["replicas"] = 0
    done = migrate("--limit", "shop", "-e", "migrate_wait_timeout=1")
    assert deployment["spec"]["replicas"] == 0
    said = "ns/shop -> ns/new-shop: Deployment ns/web stays stopped for claim old by run run-dead, which may be at"
    assert done.stdout.count(said) == 1, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ({}, "gone"),
        ({"state": "failed", "msg": "gone"}, "gone"),
        ({"state": "failed", "msg": "full"}, "full And then: gone"),
        ({"state": "done"}, "All files are copied and proven, but: gone"),
    ],
)
def test_what_goes_wrong_twice_in_the_same_words_is_told_once(outcome, says):
    loader = DataLoader()
    file = Path(__file__).parents[3] / "playbooks" / "migrate.yml"
    plays = loader.load_from_file(str(file), trusted_as_template=True)
    (play,) = [each for each in plays if each["name"] == "Migrate claims"]
    note = play["tasks"][0]["rescue"][0]["vars"]
    given = {
        "migrate_outcome": outcome,
        "ansible_failed_result": {"msg": "gone"},
        "inventory_hostname": "ns.a",
    }
    assert Templar(loader, {**note, **given}).template(note["failure"])["msg"] == says
