# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A copy between claims with each ansible-core, Python and Kubernetes client."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from livekit import ROOT, SOURCE, TARGET, Playbook, digests, helper_pods, in_pod
from make_cores import NotHere
from make_matrix import make

FOLDER = "/mnt/pvc-0/matrix"
VARIABLES = {
    "source_namespace": SOURCE,
    "source_pvc": "pvc-0",
    "source_path": "matrix",
    "target_namespace": TARGET,
    "target_pvc": "pvc-0",
    "target_path": "matrix",
    "pod_security": "baseline",
}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    subprocess.run([ROOT / "tests" / "cluster" / "cluster", "check"], check=True, timeout=240)
    in_pod(
        SOURCE,
        'rm -rf "$1" && mkdir -p "$1/a" && cd "$1" && echo 10 >10 && echo 11 >a/11 && ln -s 10 link',
        FOLDER,
    )
    yield digests(SOURCE, FOLDER)
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, 'rm -rf "$1"', FOLDER)


@pytest.mark.timeout(400)
def test_a_copy(combination, files, tmp_path):
    try:
        commands = make(combination)
    except NotHere as reason:
        pytest.skip(str(reason))
    in_pod(TARGET, 'rm -rf "$1" && mkdir "$1"', FOLDER)
    playbook = Playbook(
        tmp_path,
        {**VARIABLES, "staging": str(tmp_path / "staging")},
        environment={"PATH": f"{commands}:{os.defpath}"},
    )
    try:
        ended = playbook.wait(240)
    finally:
        playbook.kill_everything()
    assert ended.status == 0, ended.output
    for unwanted in ("WARNING", "DEPRECATION"):
        assert unwanted not in ended.output
    assert digests(TARGET, FOLDER) == files
    report = json.loads((tmp_path / "staging/report.json").read_text())
    assert [hop["parity"] for hop in report["hops"].values()] == [True] * 3
    assert helper_pods() == []
