# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from awxkit import ROOT, Job, survey_answers
from eventkit import running
from livekit import SOURCE, TARGET, helper_pods, in_pod, kubectl

FOLDER = "/mnt/pvc-0/awx"


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, object]]:
    """What the fields of a cluster's credential are filled with."""
    subprocess.run([ROOT / "tests" / "cluster" / "cluster", "check"], check=True, timeout=240)
    # The account whose token a platform team puts into AWX, with the rights that the README names.
    manifests = ROOT / "tests" / "cluster" / "manifests"
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "copier", "namespace": SOURCE},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(account))
    for namespace in (SOURCE, TARGET):
        for name in ("copier-role", "copier-binding", "migrator-role", "migrator-binding"):
            kubectl("apply", "-n", namespace, "-f", str(manifests / f"{name}.yaml"))
    assert not helper_pods(), "helper pods of somebody else would be taken for those of a test"
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    server = config["clusters"][0]["cluster"]
    yield {
        "host": server["server"],
        "bearer_token": kubectl("create", "token", "copier", "-n", SOURCE, "--duration=30m").strip(),
        "verify_ssl": True,
        "ssl_ca_cert": base64.b64decode(server["certificate-authority-data"]).decode(),
    }
    for namespace in (SOURCE, TARGET):
        kubectl("delete", "-n", namespace, "rolebinding/kubeferry-migrator")


@pytest.fixture
def folders(cluster) -> str:
    """A folder of either claim: with files in the source, empty in the destination. Its name in a claim."""
    in_pod(SOURCE, 'mkdir -p "$1/sub" && cd "$1" && echo one >1 && echo two >sub/2 && echo three >3', FOLDER)
    in_pod(TARGET, 'mkdir -p "$1"', FOLDER)
    yield "awx"
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, 'rm -rf "$1"', FOLDER)


@pytest.fixture
async def events():
    """A running event server."""
    async with running() as server:
        yield server


@pytest.fixture
def job(tmp_path, cluster, folders) -> Callable[..., Job]:
    """Makes a job from claim to claim, with a credential for either cluster."""
    jobs: list[Job] = []

    def make(playbook: str = "copy", **answers: str) -> Job:
        places = {
            "source_namespace": SOURCE,
            "source_pvc": "pvc-0",
            "target_namespace": TARGET,
            "target_pvc": "pvc-0",
            "files": folders,
        }
        asked = places if playbook in ("copy", "verify") else {}
        made = Job(tmp_path / f"job-{len(jobs)}", playbook, survey_answers(playbook, **{**asked, **answers}))
        jobs.append(made)
        return made

    yield make
    for each in jobs:
        each.kill_everything()
