# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Playbooks with directories of this machine, seen from where they were started."""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def trees(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)


def test_two_sources_share_a_staging_directory_and_paths_are_relative_to_the_start(played, trees, tmp_path):
    for name in ("one", "two", "one"):
        source = name if name == "two" else str(tmp_path / name)
        ended = played({"source_path": source, "target_path": f"to/{name}"})
        assert ended.status == 0, ended.output
        assert (tmp_path / "to" / name / name).read_text() == name
    ended = played({"source_path": "one", "target_path": "to/one", "report": "r.json"}, "verify")
    assert ended.status == 0, ended.output
    assert '"parity": true' in (tmp_path / "r.json").read_text()


@pytest.mark.parametrize(("name", "pattern"), [("plan", "claims"), ("migrate", "claims"), ("restore", "all")])
def test_an_inventory_that_cannot_be_read_is_no_success(played, tmp_path, name, pattern):
    (tmp_path / "shop.claims.yml").write_text(
        "plugin: kubeferry.pvc.claims\nnamespaces: [shop]\nmap: missing.yml\n"
    )
    ended = played({}, name, ("--inventory", str(tmp_path / "shop.claims.yml")))
    assert ended.status == 2, ended.output
    assert f"The inventory has no host in {pattern}: give one of kubeferry.pvc.claims" in ended.output


def test_a_limit_does_not_hide_that_the_inventory_cannot_be_read(played, tmp_path):
    (tmp_path / "shop.claims.yml").write_text("plugin: kubeferry.pvc.claims\nmap: missing.yml\n")
    (tmp_path / "failed.txt").write_text("shop.web\n")
    options = ("--inventory", str(tmp_path / "shop.claims.yml"), "--limit", f"@{tmp_path / 'failed.txt'}")
    ended = played({}, "migrate", options)
    assert ended.status not in {0, None}, ended.output
    assert "The inventory has no host in claims: give one of kubeferry.pvc.claims" in ended.output


@pytest.mark.parametrize("only", [False, True], ids=["limited", "alone"])
def test_a_claim_that_no_rule_matches_is_named(played, tmp_path, only):
    groups = {"unmapped": {"hosts": {"shop.stray": {}}}} | (
        {} if only else {"claims": {"hosts": {"shop.web": {}}}}
    )
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"children": groups}}))
    options = ("--inventory", str(tmp_path / "hosts.yml"), *([] if only else ["--limit", "shop.stray"]))
    ended = played({}, "migrate", options)
    if only:
        assert ended.status == 2, ended.output
        assert "has no host in claims: no rule of its map matches shop.stray." in ended.output
    else:
        assert ended.status == 0, ended.output
        assert "No rule of the map matches shop.stray: it is left alone." in ended.output
        assert not (tmp_path / "pvc-migration").exists()


@pytest.mark.parametrize("check", [False, True], ids=["done", "checked"])
def test_a_claim_that_can_not_even_begin_is_in_the_list(played, tmp_path, check):
    claims = {
        name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "claim_source": {"namespace": "shop", "pvc": name},
            "claim_target": {"namespace": "store", "pvc": name},
            "claim_wanted": {"access_modes": ["ReadWriteOnce"], "size": "1Gi"},
        }
        for name in ("one", "two")
    }
    claims["two"]["migrate_retries"] = "abc"
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"children": {"claims": {"hosts": claims}}}}))
    variables = {"source_kubeconfig": "no-such-file", "target_kubeconfig": "no-such-file"}
    options = ("--inventory", str(tmp_path / "hosts.yml"), *(["--check"] if check else []))
    ended = played(variables, "migrate", options)
    assert ended.status == 2, ended.output
    if check:
        ended = played(variables, "plan", options[:2])
        assert ended.status == 2, ended.output
        for name in ("one", "two"):
            assert f"NO  shop/{name} -> store/{name}" in ended.output
        assert "0 of 2 claims can be copied" in ended.output
        assert not (tmp_path / "pvc-migration").exists()
    else:
        assert "0 of 2 claims are migrated" in ended.output
        assert "FAILED two" in ended.output or "FAILED shop/two -> store/two" in ended.output
        assert (tmp_path / "pvc-migration/failed.txt").read_text().split() == ["one", "two"]
    assert f"no usable kubeconfig no-such-file in {tmp_path}:" in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("name", ["/", "/tmp/..", "link"])
def test_staging_is_not_the_root_however_it_is_written(played, trees, tmp_path, name):
    (tmp_path / "link").symlink_to("/")
    ended = played({"source_path": "one", "target_path": "to", "staging": name})
    assert ended.status == 2, ended.output
    assert "The staging directory can't be /" in ended.output
    assert not (tmp_path / "to").exists()


def test_names_keep_their_blanks_and_home_is_home(played, trees, tmp_path):
    (tmp_path / "one" / " one").write_text("the one with a blank")
    variables = {"source_path": "one", "target_path": "~/to", "staging": "~/staged", "files": " one\r\n \n"}
    ended = played(variables, environment={"HOME": str(tmp_path / "home")})
    assert ended.status == 0, ended.output
    assert [path.name for path in (tmp_path / "home/to").iterdir()] == [" one"]
    assert (tmp_path / "home/staged/report.json").exists()
    assert not (tmp_path / "~").exists()


def test_what_may_differ_is_said_beside_what_matches(played, trees, tmp_path):
    ended = played({"source_path": "one", "target_path": "to"})
    assert ended.status == 0, ended.output
    (tmp_path / "to" / "one").chmod(0o600)
    ends = {"source_path": "one", "target_path": "to", "metadata": "report"}
    ended = played(ends, "verify")
    assert ended.status == 0, ended.output
    assert "1 paths match, and 1 more but for owner, mode or time, 1 files with" in ended.output
