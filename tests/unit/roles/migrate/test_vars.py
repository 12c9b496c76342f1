# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables that the role makes of those that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLE = Path(__file__).parents[4] / "roles" / "migrate"
TAINT = {"key": "dedicated", "operator": "Exists"}


@pytest.fixture
def value():
    """Gives a variable of the role, where others are set."""
    loader = DataLoader()
    files = [ROLE / folder / "main.yml" for folder in ("defaults", "vars")]
    ours = {
        name: value
        for file in files
        for name, value in loader.load_from_file(str(file), trusted_as_template=True).items()
    }
    return lambda name, **given: Templar(loader, {**ours, **given}).template(ours[name])


def test_a_plan_is_made_with_the_helper_pods_that_copy(value):
    plain = value("migrate_helper")
    assert plain.keys() == {"image", "pod_security", "lifetime", "wait_timeout"}
    resources = {"limits": {"memory": "64Mi"}}
    assert value("migrate_helper", copy_resources=resources, copy_tolerations=[TAINT]) == {
        **plain,
        "resources": resources,
        "tolerations": [TAINT],
    }


def test_the_helper_pod_of_the_source_tolerates_what_was_stopped_for_it(value):
    assert value("migrate_tolerations", migrate_quiesced={}) == []
    other = {"key": "other", "operator": "Exists"}
    found = value("migrate_tolerations", migrate_quiesced={"tolerations": [TAINT]}, copy_tolerations=[other])
    assert found == [other, TAINT]


def test_what_the_first_pass_brings_is_noted_among_the_reports_of_the_claim(value):
    found = value("migrate_baseline", inventory_hostname="ns.a", migrate_folder="here")
    assert found == str(Path.cwd() / "here" / "ns.a" / "first-pass.jsonl")


def test_a_folder_for_reports_has_a_name_that_a_file_can_have(value):
    def folder(host):
        return value("migrate_host_folder", inventory_hostname=host).removeprefix("pvc-migration/")

    longest = "n" * 252
    assert folder("ns." + longest) == "ns." + longest
    found = {folder("ns." + longest + end) for end in ("a", "b")}
    assert len(found) == 2
    assert all(len(name) == 255 and name.startswith("ns.nnn") for name in found)


def test_what_another_host_of_the_play_restores_is_no_workload_left(value):
    left = [{"claim": f"ns/{name}", "msg": name} for name in ("b", "gone")]
    hostvars = {name: {"claim_source": {"namespace": "ns", "pvc": name}} for name in ("a", "b")}
    play = {"ansible_play_hosts": ["a", "b", "else"], "hostvars": {**hostvars, "else": {}}}
    back = {"left": left, "not_running": ["away"]}
    assert value("migrate_not_running", migrate_back=back, **play) == ["away", "gone"]
    assert value("migrate_not_running", migrate_back={"skipped": True}) == []


def test_claims_can_be_in_one_pod_by_the_names_of_namespace_and_cluster(value):
    def places(source, target, **auth):
        given = {"claim_source": {"pvc": "a", **source}, "claim_target": {"pvc": "b", **target}}
        return len(value("migrate_places", **given, migrate_source_auth={}, migrate_target_auth=auth))

    here = {"namespace": "ns"}
    assert places(here, here) == 1
    assert places({**here, "kubeconfig": "/kc"}, {"kubeconfig": "/kc", **here}) == 1
    assert places(here, {"namespace": "other"}) == 2
    assert places({**here, "context": "a"}, {**here, "context": "b"}) == 2
    assert places(here, here, host="https://there") == 2
    assert places(here, here, api_key="token") == 1


@pytest.mark.parametrize(
    ("given", "auth", "place"),
    [
        ({"kubeconfig": "a", "context": "b"}, {}, {"kubeconfig": "a", "context": "b"}),
        (
            {"kubeconfig": "a", "context": "b"},
            {"api_key": "t"},
            {"kubeconfig": "a", "context": "b", "api_key": "t"},
        ),
        ({"kubeconfig": "a", "context": "b"}, {"kubeconfig": "c"}, {"kubeconfig": "c"}),
        ({"kubeconfig": "a", "context": "b"}, {"host": "h"}, {"host": "h"}),
        ({"kubeconfig": "a", "context": "d"}, {"kubeconfig": "c"}, {"kubeconfig": "c", "context": "d"}),
        (
            {"kubeconfig": "e", "context": "f"},
            {"host": "h"},
            {"kubeconfig": "e", "context": "f", "host": "h"},
        ),
    ],
)
def test_another_cluster_of_the_destination_has_nothing_of_that_of_the_source(value, given, auth, place):
    source = {"namespace": "ns", "pvc": "a", "kubeconfig": "a", "context": "b"}
    target = {"namespace": "ns", "pvc": "a", **given}
    found = value("migrate_target", claim_source=source, claim_target=target, migrate_target_auth=auth)
    assert found == {"namespace": "ns", "pvc": "a", **place}
