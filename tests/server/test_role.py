# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The role, as far as a server on this machine goes, and `make serve`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, running

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def play(
    work: Path,
    role: dict[str, object],
    *options: str,
    roles: Path = ROOT / "roles",
    status: int = 0,
    **variables: object,
) -> str:
    """Run the role, or some of its tasks, on this machine."""
    book = work / "play.yml"
    task = {"ansible.builtin.include_role": {"name": "event_server", **role}}
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KUBE")},
        "ANSIBLE_ROLES_PATH": str(roles),
        "ANSIBLE_HOME": str(work / "ansible"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    command = [BIN / "ansible-playbook", *options, "-e", json.dumps(variables), book]
    done = subprocess.run(
        command, env=environment, cwd=work, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("host", ["::1", "::", "0.0.0.0", "localhost"])
async def test_the_role_asks_where_the_server_listens(tmp_path, host):
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    async with running(KUBEFERRY_HOST=host, KUBEFERRY_ALLOW_PLAIN="1") as server:
        about = {"event_server_host": host, "event_server_port": server.port, "event_server_timeout": 3}
        await asyncio.to_thread(play, tmp_path, {"tasks_from": "answer"}, **about)


@pytest.mark.timeout(320)
def test_check_mode_says_what_a_fresh_machine_would_get(tmp_path):
    directory = tmp_path / "server"
    # Each file that is put somewhere is a task of its own to Ansible: a few of them show as much.
    roles = tmp_path / "roles"
    shutil.copytree(
        ROOT / "roles" / "event_server",
        roles / "event_server",
        ignore=shutil.ignore_patterns("[a-z]*.py", "*.js", "*.css", "__pycache__"),
    )
    said = play(
        tmp_path,
        {},
        "--check",
        roles=roles,
        event_server_directory=str(directory),
        event_server_virtualenv=str(BIN.parent),
        event_server_publish_token=PUBLISH_TOKEN,
        event_server_view_token=VIEW_TOKEN,
    )
    assert "failed=0" in said
    assert not directory.exists()


def test_check_mode_runs_no_unit_that_is_not_there(tmp_path):
    unit = {"event_server_name": "no-such-unit", "event_server_directory": str(tmp_path)}
    before = {"event_server_code": {"changed": True}, "event_server_settings": {"changed": True}}
    assert "failed=0" in play(tmp_path, {"tasks_from": "run_systemd"}, "--check", **unit, **before)


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs this machine")
def test_a_unit_that_nothing_would_run_is_refused_before_anything_is_changed(tmp_path):
    directory = tmp_path / "server"
    given = {
        "event_server_mode": "systemd",
        "event_server_name": "no-such-unit",
        "event_server_directory": str(directory),
        "event_server_publish_token": PUBLISH_TOKEN,
        "event_server_view_token": VIEW_TOKEN,
    }
    said = play(tmp_path, {}, status=2, **given)
    assert "set event_server_mode to process. Nothing was changed." in " ".join(said.split())
    assert not directory.exists()
    directory.mkdir()
    (directory / "environment").write_text("tokens")
    play(tmp_path, {}, **given, event_server_state="absent")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("how", ["environment", "command line"])
def test_make_serve_knows_the_cluster_that_kubeconfig_names(tmp_path, how):
    kubeconfig = tmp_path / "no such kubeconfig"
    named = f"KUBECONFIG={kubeconfig}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
    environment |= {"KUBEFERRY_PORT": "0", "KUBEFERRY_HISTORY": "/proc/none/history.db"}
    if how == "environment":
        environment["KUBECONFIG"] = str(kubeconfig)
    command = ["make", "serve", "PYTHON=true", f"run={BIN}", *([named] if how != "environment" else [])]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert f"{named} can't be read" in done.stderr
