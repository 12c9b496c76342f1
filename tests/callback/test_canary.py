# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Secrets in every place that a hook sees, searched for in all that leaves the playbook or is kept on disk."""

from __future__ import annotations

import base64
import json
import re

import pytest

from .conftest import DATA

CANARY = re.compile(r"CANARY[-\w]*|CANARY text with blanks")
SETTINGS = {
    "KUBEFERRY_EVENTS_REDACT_VALUES": "CANARY-listed-in-play,CANARY-listed-in-task,CANARY-listed-in-message,"
    "CANARY-listed-in-tag,CANARY-listed-in-output,CANARY-listed-at-the-edge,CANARY-listed-in-stats,"
    "CANARY-listed-as-host,CANARY-listed-as-user",
    "KUBEFERRY_EVENTS_REDACT_KEYS": "^my_own_",
    "K8S_AUTH_API_KEY": "CANARY-environment-k8s",
    "KUBEFERRY_OTHER_TOKEN": "CANARY-environment-token",
    "ANSIBLE_LIBRARY": str(DATA / "library"),
}
# What the command line gives: the answer to a prompt, and a variable with a telling name.
GIVEN = ("-e", "given_at_once=CANARY-given", "-e", "other_password=CANARY-extra-variable")


def leaks(text):
    found = set(CANARY.findall(text))
    # The middle of a base64 text is enough to find it whatever stands before it.
    found |= {
        word for word in ("CANARY-environment",) if base64.b64encode(word.encode())[:20].decode() in text
    }
    return found


@pytest.mark.parametrize("core", ["2.19", "2.21"])
def test_nothing_secret_leaves(playbooks, recorder, check_schema, core):
    playbooks.settings = SETTINGS
    recorder.token = "CANARY-own-token"
    run = playbooks.run(
        "canary.yml", *GIVEN, url=recorder.url, core=core, KUBEFERRY_EVENTS_TOKEN=recorder.token
    )
    assert run.status == 0, run.stdout + run.stderr
    hello, *rest = recorder.frames
    assert "CANARY-own-token" in hello
    sent = "".join(rest)
    assert leaks(sent) == set()
    check_schema(recorder.events)

    # The search would find something, and the events are there.
    assert {"CANARY-hidden-task", "CANARY-key-api"} <= leaks((DATA / "canary.yml").read_text())
    assert sent.count("MARKER-that-may-leave") == 1
    assert "MARKER-argument" in sent
    assert "MARKER-prompt" in sent
    assert "MARKER-delegated" in sent
    results = [event for event in recorder.events if event["type"].startswith("kubeferry.v1.host.")]
    hidden = [event for event in results if event["data"].get("no_log")]
    assert {event["data"]["task"] for event in hidden} >= {
        "Hidden task",
        "Hidden by a template",
        "Hidden by a template that fails",
        "Hidden items",
        "Hidden retry",
        "Hidden job",
        "In a hidden block",
        "Hidden handler",
        "In a hidden play",
        "Unreachable",
    }
    assert all(event["redacted"] for event in hidden)
    masked = [event for event in results if event["data"]["task"] == "Behind telling names"]
    assert masked[-1]["redacted"] is True
    cut = [event for event in results if event["data"]["task"] == "At the edge of a cut"]
    assert cut[-1]["truncated"] is True


def test_nothing_secret_is_kept(playbooks):
    playbooks.settings = SETTINGS
    run = playbooks.run(
        "canary.yml", *GIVEN, url="ws://127.0.0.1:9/ws", KUBEFERRY_EVENTS_TOKEN="CANARY-own-token"
    )
    assert run.status == 0
    kept = playbooks.spooled()
    assert "MARKER-that-may-leave" in kept
    assert leaks(kept) == set()
    for path in playbooks.spool.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("core", ["2.19", "2.21"])
def test_what_is_learnt_on_the_way_does_not_leave(playbooks, recorder, check_schema, core):
    playbooks.settings = {
        "ANSIBLE_LIBRARY": str(DATA / "library"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(DATA / "vault-password.txt"),
        "DB_PASS": "CANARY-environment-pass",
        "MYSQL_PWD": "CANARY-environment-pwd",
    }
    run = playbooks.run("learnt.yml", url=recorder.url, core=core)
    assert run.status == 0, run.stdout + run.stderr
    sent = "".join(recorder.frames[1:])
    assert leaks(sent) == set()
    assert "CANARY/" not in sent
    assert base64.b64encode((DATA / "secrets.yml").read_bytes()).decode()[:40] not in sent
    for marker in "files later other option after taken items beside environment address statistic".split():
        assert f"MARKER-{marker}" in sent
    check_schema(recorder.events)
    labels = {event["data"].get("label") for event in recorder.of("progress")}
    assert labels - {None, ""} == {"a copy to <redacted>"}


def test_with_more_secrets_than_can_be_kept_no_results_are_told(playbooks, recorder):
    playbook = playbooks.written(
        "- hosts: h1\n  gather_facts: false\n  tasks:\n    - debug: {msg: CANARY-of-a-crowd}\n"
    )
    crowd = [f"CANARY-{number:05}" for number in range(1_001)]
    run = playbooks.run(playbook, "-e", json.dumps({"bulk_secret": crowd}), url=recorder.url)
    assert run.status == 0
    assert ["more than 1000 secret values" in warning for warning in run.warnings] == [True]
    assert leaks("".join(recorder.frames[1:])) == set()
    (told,) = recorder.of("host.ok")
    assert told["redacted"] is True
    assert told["truncated"] is True


@pytest.mark.parametrize("core", ["2.19", "2.21"])
def test_what_is_told_before_its_result_does_not_leave(playbooks, recorder, check_schema, core):
    playbooks.settings = {"ANSIBLE_LIBRARY": str(DATA / "library")}
    others = str(DATA / "others.ini")
    run = playbooks.run("before.yml", "-i", others, url=recorder.url, core=core)
    assert run.status == 0, run.stdout + run.stderr
    assert run.warnings == []
    assert "CallbackTaskResult" not in run.stderr
    sent = "".join(recorder.frames[1:])
    assert leaks(sent) == set()
    for marker in re.findall(r"MARKER-[-\w]+", (DATA / "before.yml").read_text()):
        assert marker in sent
    check_schema(recorder.events)


def test_hosts_that_are_taken_out_stay_apart(playbooks, recorder, check_schema):
    """In results, progress and the recap, whatever words stand behind telling names."""
    playbooks.settings = {"ANSIBLE_LIBRARY": str(DATA / "library"), "KUBEFERRY_EVENTS_REDACT_VALUES": "h2,h1"}
    playbook = playbooks.written(
        "- hosts: h1:h2\n  gather_facts: false\n  vars: {token_status: failed, secret_state: failures}\n  tasks:\n"
        "    - pvc_slow_copy: {label: 'of {{ ansible_play_hosts.index(inventory_hostname) }}', seconds: 1}\n"
        "    - set_stats:\n        data: {place: '{{ ansible_play_hosts.index(inventory_hostname) }}'}\n"
        "        per_host: true\n      when: inventory_hostname == 'h2'\n"
        "    - fail:\n      when: inventory_hostname == 'h2'\n"
    )
    run = playbooks.run(playbook, url=recorder.url)
    assert run.status == 2, run.stdout + run.stderr
    check_schema(recorder.events)
    (failed,) = recorder.of("host.failed")
    (h1,) = {event["data"]["host"] for event in recorder.of("host.skipped")}
    h2 = failed["data"]["host"]
    assert {h1, h2} == {"<redacted>", "<redacted 2>"}
    progress = {(event["data"]["host"], event["data"]["label"]) for event in recorder.of("progress")}
    assert progress == {(h1, "of 0"), (h2, "of 1")}
    (end,) = recorder.of("run.finished")
    assert end["data"]["status"] == "failed"
    assert [end["data"]["stats"][host]["failures"] for host in (h1, h2)] == [0, 1]
    assert end["data"]["custom"]["hosts"] == {h2: {"place": 1}}
