# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The playbook that sets AWX up: what it makes, that a second run changes nothing, and what check mode asks."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from awxstub import TOKEN, Awx

ROOT = Path(__file__).resolve().parents[2]
AWX = ROOT / "extensions" / "awx"
CLUSTER = {"host": "https://api.example.com:6443", "bearer_token": "secret-token-7421", "verify_ssl": True}
EVENTS = {"url": "wss://events.example.com/ws", "token": "secret-token-7422", "verify_ssl": True}
GIVEN = {
    "awx_ee_image": "registry.example.com/kubeferry-ee:1",
    "awx_project_url": "https://git.example.com/kubeferry-awx.git",
    "awx_source": CLUSTER,
    "awx_destination": {**CLUSTER, "host": "https://api.example.org:6443"},
    "awx_event_server": EVENTS,
    "awx_claims": "claims.yml",
}
NAMES = ["copy", "verify", "plan", "migrate", "restore"]


@pytest.fixture(scope="module")
def awx():
    stub = Awx()
    yield stub
    stub.stop()


def set_up(awx: Awx, variables: dict[str, object], *options: str) -> tuple[int, str]:
    done = subprocess.run(
        ["ansible-playbook", AWX / "setup.yml", "--extra-vars", json.dumps(variables), *options],
        env=os.environ
        | {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections"),
            "ANSIBLE_HOME": str(ROOT / ".cache/ansible"),
            "CONTROLLER_HOST": awx.url,
            "CONTROLLER_OAUTH_TOKEN": TOKEN,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(awx) -> str:
    """What the first run printed."""
    status, output = set_up(awx, GIVEN, "-v")
    assert status == 0, output
    return output


def test_each_object_is_made(awx, made):
    counts = {kind: len(objects) for kind, objects in awx.objects.items()}
    assert counts == {
        "organizations": 1,
        "execution_environments": 1,
        "credential_types": 4,
        "credentials": 4,
        "projects": 1,
        "inventories": 2,
        "inventory_sources": 1,
        "hosts": 1,
        "job_templates": 5,
    }
    assert awx.named("projects", "kubeferry")["scm_url"] == GIVEN["awx_project_url"]
    host = awx.named("hosts", "localhost")
    assert json.loads(host["variables"])["ansible_python_interpreter"] == "{{ ansible_playbook_python }}"
    ours = [each["id"] for each in awx.objects["credentials"] if each["name"] != "kubeferry claims"]
    for name in NAMES:
        template = awx.named("job_templates", f"kubeferry {name}")
        assert template["playbook"] == f"{name}.yml"
        assert (AWX / "project" / template["playbook"]).is_file()
        assert sorted(awx.associations[f"{template['url']}credentials/"]) == sorted(ours)


def test_claims_are_hosts_of_their_own_inventory(awx, made):
    """Listed with a credential that gives K8S_AUTH_*, since an inventory source has no variables of a job."""
    inventory = awx.named("inventories", "kubeferry claims")
    source = awx.named("inventory_sources", "kubeferry claims")
    assert (source["inventory"], source["source"], source["source_path"]) == (
        inventory["id"],
        "scm",
        "claims.yml",
    )
    assert source["source_project"] == awx.named("projects", "kubeferry")["id"]
    assert (source["update_on_launch"], source["overwrite"]) == (True, True)
    credential = awx.named("credentials", "kubeferry claims")
    assert source["credential"] == credential["id"]
    kind = awx.named("credential_types", "kubeferry claims")
    assert credential["credential_type"] == kind["id"]
    assert awx.secrets["kubeferry claims"]["bearer_token"] == CLUSTER["bearer_token"]
    for name in NAMES:
        template = awx.named("job_templates", f"kubeferry {name}")
        of_claims = name in ("plan", "migrate", "restore")
        assert template["ask_job_slice_count_on_launch"] is template["ask_limit_on_launch"] is of_claims
        assert (template["inventory"] == inventory["id"]) is of_claims


def test_secrets_reach_awx_and_nothing_else(awx, made):
    assert awx.secrets["kubeferry source"]["bearer_token"] == CLUSTER["bearer_token"]
    assert awx.secrets["kubeferry events"]["token"] == EVENTS["token"]
    assert "secret-token" not in made


def test_injectors_arrive_as_templates(awx, made):
    for kind in awx.objects["credential_types"]:
        assert kind["kind"] == "cloud"
        fields = {field["id"] for field in kind["inputs"]["fields"]}
        assert set(kind["inputs"]["required"]) <= fields
        text = json.dumps(kind["injectors"])
        assert set(re.findall(r"{{ (\w+) }}", text)) == fields
        assert "{{ tower.filename.ca }}" in text


def test_surveys_ask_for_variables_of_the_playbooks(awx, made):
    endpoints = (AWX / "../../playbooks/vars/endpoints.yml").read_text()
    keys = yaml.safe_load(endpoints)["endpoint_keys"]
    ends = {f"{side}_{key}" for side in ("source", "target") for key in keys}
    for name in NAMES[:-1]:
        survey = awx.surveys[awx.named("job_templates", f"kubeferry {name}")["id"]]
        playbook = (AWX / f"../../playbooks/{name}.yml").read_text()
        playbook += (AWX / "../../roles/migrate/meta/argument_specs.yml").read_text()
        if "vars/endpoints.yml" in playbook:
            playbook += endpoints
        for question in survey["spec"]:
            wanted = rf"^      {question['variable']}:$|\b{question['variable']}\b(?!:)"
            read = playbook.endswith(endpoints) and question["variable"] in ends
            assert read or re.search(wanted, playbook, re.MULTILINE), question["variable"]
            assert question["type"] in ("text", "textarea", "multiplechoice")
            if question["type"] == "multiplechoice":
                assert question["default"] in question["choices"]


def test_a_template_without_questions_has_no_survey(awx, made):
    """AWX refuses an empty one."""
    template = awx.named("job_templates", "kubeferry restore")
    assert template["survey_enabled"] is False
    assert template["id"] not in awx.surveys


def test_a_second_run_changes_what_is_different_and_check_mode_only_asks(awx, made):
    before = len(awx.writes)
    status, output = set_up(awx, {**GIVEN, "awx_project_url": "https://git.example.com/moved.git"}, "--check")
    assert status == 0, output
    assert re.search(r"changed: \[localhost\].*", output.split("Make the project")[1].split("TASK")[0])
    assert " changed=1 " in output
    assert len(awx.writes) == before


def test_check_mode_of_an_awx_that_has_nothing_yet():
    awx = Awx()
    try:
        status, output = set_up(awx, GIVEN, "--check")
    finally:
        awx.stop()
    assert status == 0, output
    assert re.search(r"changed=4 +unreachable=0 +failed=0 +skipped=8 ", output), output
    assert awx.writes == []


def test_an_organization_beside_another_one_has_its_own():
    """Names of projects, inventories, credentials and templates are unique in an organization only."""
    awx = Awx()
    try:
        first = awx.named("organizations", "Default")["id"]
        for kind, names in (
            ("projects", ["kubeferry"]),
            ("inventories", ["kubeferry", "kubeferry claims"]),
            ("credentials", ["kubeferry source", "kubeferry claims"]),
            ("job_templates", [f"kubeferry {name}" for name in NAMES]),
        ):
            for name in names:
                awx.add(kind, {"name": name, "organization": first, "credential_type": None})
        theirs = {each["id"] for kind in awx.objects for each in awx.objects[kind]}
        second = awx.add("organizations", {"name": "Other"})["id"]
        mine = awx.add("credentials", {"name": "by hand", "organization": second, "credential_type": None})[
            "id"
        ]
        awx.add("credentials", {"name": "by hand", "organization": first, "credential_type": None})
        theirs |= {mine, mine + 1}
        given = {**GIVEN, "awx_organization": "Other", "awx_other_credentials": ["by hand"]}
        status, output = set_up(awx, given)
    finally:
        awx.stop()
    assert status == 0, output
    made = {kind: [each for each in awx.objects[kind] if each["id"] not in theirs] for kind in awx.objects}
    for kind, number in (("projects", 1), ("inventories", 2), ("credentials", 4), ("job_templates", 5)):
        assert [each["organization"] for each in made[kind]] == [second] * number
    for template in made["job_templates"]:
        assert not theirs & {template["project"], template["inventory"]}
        assert theirs & set(awx.associations[f"{template['url']}credentials/"]) == {mine}
    (source,) = made["inventory_sources"]
    assert not theirs & {source["inventory"], source["source_project"], source["credential"]}
    (host,) = made["hosts"]
    assert host["inventory"] not in theirs


def test_a_credential_of_another_organization_is_refused_before_anything_is_made():
    awx = Awx()
    try:
        other = awx.add("organizations", {"name": "Other"})["id"]
        awx.add("credentials", {"name": "by hand", "organization": other, "credential_type": None})
        status, output = set_up(awx, {**GIVEN, "awx_other_credentials": ["by hand"]})
    finally:
        awx.stop()
    assert status == 2
    assert "awx_other_credentials names by hand, of which the organization Default has 0" in output
    assert awx.writes == []


def test_what_is_missing_is_said_before_anything_is_made():
    awx = Awx()
    try:
        status, output = set_up(awx, {"awx_ee_image": GIVEN["awx_ee_image"]})
    finally:
        awx.stop()
    assert status == 2
    assert "awx_project_url, a git repository" in output
    assert awx.requests == []


def test_an_inventory_of_claims_needs_their_cluster():
    awx = Awx()
    try:
        status, output = set_up(awx, {key: GIVEN[key] for key in GIVEN if key != "awx_source"})
    finally:
        awx.stop()
    assert status == 2
    assert "awx_claims needs awx_source" in output
    assert awx.requests == []


@pytest.mark.parametrize("name", NAMES)
def test_the_picker_of_awx_finds_the_playbooks(name):
    """Releases of AWX up to 24 look for these words at the beginning of a line, without a collection's name."""
    listed = re.compile(r"^\s*-?\s*(?:hosts|include|import_playbook):", re.MULTILINE)
    assert listed.search((AWX / "project" / f"{name}.yml").read_text())


def test_what_the_project_asks_galaxy_for_is_this_collection():
    wanted = yaml.safe_load((AWX / "project/collections/requirements.yml").read_text())
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    assert [each["name"] for each in wanted["collections"]] == [f"{galaxy['namespace']}.{galaxy['name']}"]
