# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin as Ansible runs it, against a server on loopback."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.doc_fragments import constructed
from execserver import ExecServer
from fakeapi import claim, status
from kubernetes.config import kube_config

from ansible_collections.kubeferry.pvc.plugins.doc_fragments.endpoint import ModuleDocFragment
from ansible_collections.kubeferry.pvc.plugins.inventory.claims import DOCUMENTATION, InventoryModule

NAME = InventoryModule.NAME
OTHER = {"kubeconfig": "other/kc"}


@pytest.fixture(autouse=True)
def options():
    """What Ansible's loader of plugins would make of the documentation."""
    texts = (DOCUMENTATION, ModuleDocFragment.AUTH, constructed.ModuleDocFragment.DOCUMENTATION)
    known = {key: value for text in texts for key, value in yaml.safe_load(text)["options"].items()}
    constants.config.initialize_plugin_configuration_definitions("inventory", NAME, known)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with claims in all phases, and a kubeconfig for it in the working directory."""
    monkeypatch.chdir(tmp_path)
    with ExecServer() as started:
        for name, phase in (("data", "Bound"), ("new", "Pending"), ("tmp-1", "Pending"), ("gone", "Bound")):
            item = started.api.add("persistentvolumeclaims", claim(name))
            item["status"]["phase"] = phase
            if name == "gone":
                item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        kubeconfig = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            "clusters": [{"name": "c", "cluster": {"server": started.url}}],
            "users": [{"name": "c", "user": {"token": "a-token"}}],
        }
        (tmp_path / "kc").write_text(json.dumps(kubeconfig))
        yield started


@pytest.fixture
def read(server, tmp_path):
    """Reads an inventory in a directory of its own, and gives the variables by hosts, and the warnings."""

    def call(rules=(), target=OTHER, **options):
        place = tmp_path / "inventory"
        place.mkdir(exist_ok=True)
        given = {"plugin": NAME, "namespaces": ["ns"], "kubeconfig": "kc", **options}
        if rules:
            given["map"] = "map.yml"
            (place / "map.yml").write_text(json.dumps({"rules": rules, "target": target}))
        (place / "claims.yml").write_text(json.dumps(given))
        data = InventoryData()
        plugin = InventoryModule()
        plugin._load_name = NAME
        said = []
        plugin.display = type("Display", (), {"warning": staticmethod(said.append), "vvv": print})()
        plugin.parse(data, DataLoader(), str(place / "claims.yml"))
        return {name: host.get_vars() for name, host in data.hosts.items()}, said

    return call


@pytest.mark.parametrize("name", ["", "a/b"])
def test_what_is_no_name_of_a_namespace_does_not_mean_all(read, name):
    with pytest.raises(
        AnsibleParserError, match=r"give the name of a namespace|can't be the name of a namespace"
    ):
        read(namespaces=["ns", name])


def test_claims_that_are_left_out_are_named_with_the_reason(read):
    found, (said,) = read()
    assert found.keys() == {"ns.data"}
    assert "left out: ns/new (Pending), ns/tmp-1 (Pending), ns/gone (Terminating); give" in said
    found, said = read(phases=[])
    assert (len(found), said) == (4, [])


def test_what_a_rule_or_a_name_leaves_out_needs_no_word(read):
    found, said = read(
        rules=[{"source": "*/tmp-*", "skip": True}, {"source": "*/data"}], names=["tmp-*", "da*"]
    )
    assert (found.keys(), said) == ({"ns.data"}, [])


def test_a_claim_whose_whole_name_is_given_is_there_in_any_phase(read):
    found, said = read(names=["data", "new", "gone"])
    assert {name: each["claim_phase"] for name, each in found.items()} == {
        "ns.data": "Bound",
        "ns.new": "Pending",
        "ns.gone": "Terminating",
    }
    assert said == []


def test_a_whole_name_that_no_claim_has_is_refused(read):
    with pytest.raises(
        AnsibleParserError, match=r"No claim here has the name dat or nwe: correct or remove it in names"
    ):
        read(names=["dat", "new", "nwe", "x*"])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("namespace", "namespace is no option of this inventory: write namespaces."),
        ("name", "name is no option of this inventory: write names."),
        ("maps", "write map."),
        ("cash", "remove it, or see ansible-doc -t inventory kubeferry.pvc.claims."),
        ("cache", "cache is no option of this inventory: remove it"),
        ("cache_plugin", "cache_plugin is no option of this inventory: remove it"),
        (7, "7 is no option of this inventory: remove it"),
    ],
)
def test_a_key_that_is_no_option_is_refused_as_the_choice_would_be_wider(read, key, says):
    with pytest.raises(AnsibleParserError) as error:
        read(**{"namespaces": [], str(key): ["ns"]})
    assert says in str(error.value)


def test_every_option_is_known_with_those_of_its_fragments(read):
    found, _said = read(strict=True, keyed_groups=[], use_extra_vars=False, validate_certs=False)
    assert found.keys() == {"ns.data"}


@pytest.mark.parametrize("option", ["namespaces", "names", "storage_classes"])
def test_a_name_of_digits_needs_quotes(read, option):
    with pytest.raises(AnsibleParserError, match=f"claims.yml: {option}: 10 isn't text: write it in quotes"):
        read(**{option: ["ns", 10]})


def test_that_no_claim_is_chosen_is_a_warning(read):
    found, (said,) = read(min_size="50Mi")
    assert found == {}
    assert "no claim here is chosen: check namespaces, label_selector, names" in said


@pytest.mark.parametrize("namespaces", [[], ["ns"]])
def test_who_may_not_look_into_all_namespaces_can_name_some(server, read, namespaces):
    server.api.refuse[("list", "persistentvolumeclaims")] = [(403, status(403, "no"))]
    with pytest.raises(AnsibleParserError) as caught:
        read(namespaces=namespaces)
    where = "namespace ns, which must exist" if namespaces else "the whole cluster"
    assert f"needs the verb list on persistentvolumeclaims in {where}" in str(caught.value)
    assert ("Or name the namespaces to look in: namespaces." in str(caught.value)) == (not namespaces)


def test_a_rule_for_a_namespace_that_does_not_exist_is_named(server, read):
    server.api.namespaces.append("other")
    rules = [{"source": name} for name in ("other/data", "sn/data", "*/*")]
    found, (said,) = read(rules=rules, phases=[])
    assert "no claim here is that of rule 2 (sn/data) of the map" in said
    server.api.refuse[("get", "namespaces")] = [(403, status(403, "no"))] * 2
    assert read(rules=rules, phases=[]) == (found, [])


def test_a_rule_for_a_claim_that_is_not_there_is_named(server, read):
    server.api.namespaces.append("other")
    rules = [{"source": name} for name in ("ns/data", "ns/dta", "other/data", "ns/new", "ns/*")]
    found, (said,) = read(rules=rules, phases=[])
    assert len(found) == 4
    assert said.endswith(
        "no claim here is that of rule 2 (ns/dta) of the map: correct or remove what is misspelt."
    )


def test_kubeconfigs_are_where_the_run_was_started(read, tmp_path):
    found, _said = read(rules=[{"source": "*/*"}])
    assert found["ns.data"]["claim_source"] == {
        "namespace": "ns",
        "pvc": "data",
        "kubeconfig": str(tmp_path / "kc"),
    }
    assert found["ns.data"]["claim_target"]["kubeconfig"] == str(tmp_path / "other" / "kc")


@pytest.mark.parametrize(
    ("target", "kubeconfig", "context"),
    [({}, "kc", "c"), ({"context": "d"}, "kc", "d"), (OTHER, "other/kc", None)],
)
def test_counterparts_are_in_the_cluster_of_the_sources_unless_the_map_names_another(
    read, tmp_path, target, kubeconfig, context
):
    found, _said = read(rules=[{"source": "*/*", "target": "ns/{2}-new"}], target=target, context="c")
    place = found["ns.data"]["claim_target"]
    assert (place["kubeconfig"], place.get("context")) == (str(tmp_path / kubeconfig), context)


@pytest.mark.parametrize("variable", ["K8S_AUTH_KUBECONFIG", "KUBECONFIG"])
def test_kubeconfigs_of_the_environment_are_so_for_the_tasks_as_well(read, tmp_path, monkeypatch, variable):
    """A module inherits the variables, and runs in another directory. `kubernetes` reads KUBECONFIG at its import."""
    monkeypatch.delenv("K8S_AUTH_KUBECONFIG", raising=False)
    monkeypatch.setenv(variable, "kc:~/none")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", "kc")
    found, _said = read(kubeconfig=None)
    assert found.keys() == {"ns.data"}
    assert os.environ[variable] == f"{tmp_path}/kc:{os.path.expanduser('~')}/none"
