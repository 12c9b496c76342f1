# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The sample project on a real cluster, under ansible-runner as AWX starts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal

from awxkit import Job
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client
from livekit import SOURCE, TARGET, digests, eventually, helper_pods, in_pod

FOLDER = "/mnt/pvc-0/awx"


def attach_clusters(job: Job, cluster) -> None:
    job.attach("source cluster", cluster)
    job.attach("destination cluster", cluster)


async def test_a_job_copies_proves_and_is_seen(job, cluster, events):
    """Three files; artifacts for AWX, events at the server, nothing left, and no secret anywhere AWX keeps."""
    made = job(files="awx/1\nawx/sub\nawx/3\n")
    attach_clusters(made, cluster)
    url = events.url.replace("http", "ws") + "/ws"
    made.attach("event server", {"url": url, "token": PUBLISH_TOKEN, "verify_ssl": True})
    assert await asyncio.to_thread(made.run, "-vvv") == 0, made.output[-3000:]

    assert digests(TARGET, FOLDER) == digests(SOURCE, FOLDER)
    assert len(digests(TARGET, FOLDER)) == 3
    figures = made.stored_artifacts()["kubeferry"]
    assert figures["parity"] is True
    assert figures["files"] == 3
    assert figures["bytes"] == len("one\ntwo\nthree\n")
    assert helper_pods() == []
    assert not [path for path in made.scratch.rglob("*") if path.is_file() and path.name in ("1", "2", "3")]
    for kept_out in (cluster["bearer_token"], PUBLISH_TOKEN, "/root/", "WARNING"):
        assert kept_out not in made.output

    async with await Client.connect(events.url, VIEW_TOKEN) as viewer:
        await viewer.send({"type": "SUBSCRIBE"})
        (row,) = (await viewer.until("SNAPSHOT"))["state"]["runs"]
        await viewer.send({"type": "SUBSCRIBE", "run": row["run"]})
        run = (await viewer.until("SNAPSHOT"))["state"]
    assert row["status"] == "ok", row
    assert row["gaps"] == 0
    assert "Compare the destination with the source" in json.dumps(run["tasks"])
    assert str(cluster["bearer_token"]) not in json.dumps(run)


def test_check_on_launch_shows_and_changes_nothing(job, cluster):
    made = job()
    attach_clusters(made, cluster)
    assert made.run("--check", "--diff") == 0, made.output[-3000:]
    assert digests(TARGET, FOLDER) == {}
    assert "awx/sub/2" in made.output
    assert helper_pods() == []


def test_a_cluster_without_a_credential_is_named(job, cluster):
    made = job()
    made.attach("source cluster", cluster)
    assert made.run() == 2
    assert '"kubeferry destination cluster" to the job template' in " ".join(made.output.split())


def test_insecure_tls_of_a_credential_is_warned_of(job, cluster):
    """AWX's own credential type turns verification off where it has no authority, and says nothing."""
    made = job("verify", files="awx/1")
    made.attach_token(str(cluster["host"]), str(cluster["bearer_token"]))
    assert made.run() == 2  # the destination has no such file yet
    said = " ".join(made.output.split())
    assert "isn't verified" in said
    assert "K8S_AUTH_VERIFY_SSL" in said
    assert str(cluster["bearer_token"]) not in said


def test_claims_of_an_inventory_are_planned_and_migrated(job, cluster):
    """The project's own inventory and map. Its credential stays with it: a job has those of the two clusters."""
    hosts = "source-namespace.pvc-0"
    planned = job("plan", migrate_mode="live", migrate_into_used="true", measure="true", strict="true")
    credential = [str(cluster[key]) for key in ("host", "bearer_token", "ssl_ca_cert")]
    listed = planned.update_inventory("claims.yml", *credential)
    assert credential[1] not in json.dumps(listed)
    attach_clusters(planned, cluster)
    assert planned.run("--limit", hosts) == 0, planned.output[-3000:]
    assert f"{SOURCE}/pvc-0 -> {TARGET}/pvc-0" in planned.output
    assert digests(TARGET, FOLDER) == {}

    made = job("migrate", migrate_mode="live", migrate_into_used="true")
    made.hold(listed)
    attach_clusters(made, cluster)
    assert made.run("--limit", hosts, seconds=240) == 0, made.output[-3000:]
    assert len(digests(TARGET, FOLDER)) == 3
    assert digests(TARGET, FOLDER) == digests(SOURCE, FOLDER)
    assert made.stored_artifacts()["kubeferry_migration"]["done"] == 1
    assert helper_pods() == []


def test_a_limit_leaves_the_guard_on(job, cluster):
    """With a limit there is no localhost, but there is a claim. Nothing is copied to whatever cluster is at hand."""
    host = {
        "claim_source": {"namespace": SOURCE, "pvc": "pvc-0"},
        "claim_target": {"namespace": TARGET, "pvc": "pvc-0"},
        "ansible_connection": "local",
    }
    made = job("migrate", migrate_mode="live")
    made.hold({"claims": {"hosts": ["a.claim"]}, "_meta": {"hostvars": {"a.claim": host}}})
    made.attach("source cluster", cluster)
    assert made.run("--limit", "a.claim") == 2
    assert '"kubeferry destination cluster" to the job template' in " ".join(made.output.split())
    assert digests(TARGET, FOLDER) == {}


def test_cancel_leaves_no_helper_pod(job, cluster):
    """AWX's cancel is a SIGTERM to ansible-runner, and ansible-runner kills the process group of ansible-playbook."""
    in_pod(SOURCE, 'head -c 100000000 /dev/urandom >"$1/large"', FOLDER)
    made = job()
    attach_clusters(made, cluster)
    process = made.start()
    eventually("both helper pods", lambda: len(helper_pods()) == 2, 90, pause=0.1)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(40) != 0
    assert (made.artifacts / "status").read_text() == "canceled"
    eventually("the end of the helper pods", lambda: not helper_pods(), 40)
    eventually("the end of all processes", lambda: not made.processes(), 20)
    assert "large" not in in_pod(TARGET, 'ls "$1"', FOLDER).split()
