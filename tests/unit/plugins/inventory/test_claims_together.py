# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Inventory files as Ansible reads them, against servers on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from execserver import ExecServer
from fakeapi import claim, status

from ansible_collections.kubeferry.pvc.plugins import inventory as package

COLLECTIONS = next(
    parent for parent in Path(package.__path__[0]).parents if (parent / "ansible_collections").is_dir()
)


@pytest.fixture
def server():
    with ExecServer() as started:
        for name in ("data", "logs"):
            started.api.add("persistentvolumeclaims", claim(name, "shop"))
        yield started


@pytest.fixture
def read(tmp_path, server):
    """Reads inventory files, each of a claim's name and its map's rules, and gives the hosts and what is said."""

    def run(*files, servers=(), targets=()):
        arguments = []
        for number, (name, rules) in enumerate(files):
            by = servers[number] if servers else server
            path = tmp_path / f"{number}.claims.yml"
            content = {
                "plugin": "kubeferry.pvc.claims",
                "namespaces": ["shop"],
                "names": [name],
                "map": f"{number}.yml",
            }
            path.write_text(
                json.dumps({**content, "kubeconfig": kubeconfig(tmp_path / f"{number}.kubeconfig", by)})
            )
            target = {"target": {"kubeconfig": targets[number]}} if targets else {}
            (tmp_path / f"{number}.yml").write_text(json.dumps({"rules": rules, **target}))
            arguments += ["-i", str(path)]
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "inventory", "--list", *arguments],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_INVENTORY_ENABLED": "kubeferry.pvc.claims",
                "ANSIBLE_HOME": str(tmp_path),
                "COLUMNS": "10000",
            },
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        return json.loads(done.stdout)["_meta"]["hostvars"], done.stderr

    return run


def kubeconfig(path, server):
    """The path of a kubeconfig for a server."""
    auth = server.auth()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": auth["host"]}}],
        "users": [{"name": "u", "user": {"token": auth["api_key"]}}],
    }
    path.write_text(json.dumps(content))
    return str(path)


def test_two_claims_of_one_counterpart_are_refused_with_their_file(read):
    hosts, said = read(("*", [{"source": "shop/*", "target": "store/one"}]))
    assert hosts == {}
    assert "shop.data, shop.logs have the same counterpart store/one" in said


def test_two_claims_of_one_counterpart_in_two_files(read):
    rules = [{"source": "shop/*", "target": "store/one"}]
    hosts, said = read(("data", rules), ("logs", rules))
    assert set(hosts) == {"shop.data"}
    assert "shop.data, shop.logs have the same counterpart store/one" in said


def test_one_counterpart_by_two_names_of_its_cluster(read, server, tmp_path):
    """The namespace's uid tells, or the server where that may not be read; two that can't be asked are two."""
    server.api.namespaces.append("store")
    rules = [{"source": "shop/*", "target": "store/one"}]
    with ExecServer() as other:
        other.api.namespaces.append("store")
        for api, uid in ((server.api, "1"), (other.api, "2")):
            api.add("namespaces", {"metadata": {"name": "store", "uid": uid}})
        here, again, there, gone = (
            kubeconfig(tmp_path / str(number), each)
            for number, each in enumerate((server, server, other, other))
        )
        for targets, both in (([here, again], False), ([here, there], True)):
            hosts, said = read(("data", rules), ("logs", rules), targets=targets)
            assert set(hosts) == ({"shop.data", "shop.logs"} if both else {"shop.data"})
            assert ("shop.data, shop.logs have the same counterpart store/one" in said) != both
        other.api.refuse[("get", "namespaces")] = [(403, status(403, "no"))] * 2
        hosts, _said = read(("data", rules), ("logs", rules), targets=[there, gone])
        assert set(hosts) == {"shop.data"}
    hosts, _said = read(("data", rules), ("logs", rules), targets=[there, gone])
    assert set(hosts) == {"shop.data", "shop.logs"}


def test_claims_of_one_name_in_two_clusters_are_not_made_one(read, server, tmp_path):
    with ExecServer() as other:
        other.api.add("persistentvolumeclaims", claim("data", "shop"))
        rules = [{"source": "shop/*", "target": "store/{1}"}]
        hosts, said = read(("data", rules), ("data", rules), servers=(server, other))
    assert str(tmp_path / "0.kubeconfig") in json.dumps(hosts["shop.data"]["claim_source"])
    assert "shop.data is in another inventory already, with another cluster or counterpart" in said


def test_a_counterpart_that_is_a_source_of_another_file(read):
    hosts, said = read(
        ("data", [{"source": "shop/*", "target": "shop/logs"}]),
        ("logs", [{"source": "shop/*", "target": "store/logs"}]),
    )
    assert hosts["shop.data"]["claim_chained"] == hosts["shop.logs"]["claim_source"]
    assert "claim_chained" not in hosts["shop.logs"]
    assert said == ""
