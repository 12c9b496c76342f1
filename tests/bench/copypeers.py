# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The tools that the copy is measured against, each as one way to pull a folder of a pod."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from copytable import OURS, YARDSTICK
from testkube.kubectl import find

NAMESPACE, POD, BASE = "source-namespace", "kubeferry-bench", "/mnt/pvc-0/kubeferry-bench"
LIMIT = 900
MANIFEST = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": POD, "namespace": NAMESPACE},
    "spec": {
        "containers": [
            {
                "name": "bench",
                "image": "kubeferry/busybox-rsync:1",
                "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"],
                "volumeMounts": [{"name": "data", "mountPath": "/mnt/pvc-0"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "pvc-0"}}],
    },
}
HEAD = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
"""
COPY = """
    - kubeferry.pvc.pvc_copy:
        source: {namespace: "{{ namespace }}", pod: "{{ pod }}", path: "{{ folder }}"}
        target: {path: "{{ place }}/copy"}
        report: "{{ place }}/report.json"
        label: pull
"""
K8S_CP = """
    - kubernetes.core.k8s_cp:
        namespace: "{{ namespace }}"
        pod: "{{ pod }}"
        remote_path: "{{ folder }}"
        local_path: "{{ place }}"
        state: from_pod
"""


class Failure(Exception):
    """A tool couldn't do it; the message is its last words."""


@dataclass(frozen=True)
class Tool:
    """`copy(folder, place)` pulls a folder into `place`, and gives the seconds that it took."""

    name: str
    copy: Callable[[str, Path], float]

    @property
    def folder(self) -> str:
        return self.name.split(",")[0].replace(" ", "-").replace("|", "to")


def run(argv: list[str], **variables: str) -> float:
    """Run a command to its end; its wall time in seconds."""
    started = time.monotonic()
    environment = {**os.environ, **variables}
    try:
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise Failure(f"not finished after {LIMIT} s") from exc
    seconds = time.monotonic() - started
    if done.returncode:
        text = (done.stdout + done.stderr).strip()
        told = re.findall(r'"msg": "(.*?)(?:\\n|")', text) or text.splitlines()[-1:] or ["no word"]
        raise Failure(f"exit status {done.returncode}: {told[0][:200]}")
    return seconds


def play(book: Path, values: Mapping[str, object], root: Path, kubeconfig: str) -> float:
    """Run a playbook with the collection's installed archive; its wall time in seconds."""
    program = str(Path(sys.executable).parent / "ansible-playbook")
    return run(
        [program, str(book), "-e", json.dumps(values)],
        ANSIBLE_COLLECTIONS_PATH=str(root / ".cache" / "collections"),
        K8S_AUTH_KUBECONFIG=kubeconfig,
    )


class Peers:
    """The tools, and the pod that they pull from while the block lasts."""

    def __init__(self, out: Path, root: Path, kubeconfig: str) -> None:
        self._out = out
        self._root = root
        self._kubeconfig = kubeconfig
        self.tools = [
            Tool(YARDSTICK, self._kubectl_cp),
            Tool("kubectl exec tar | tar", self._tar),
            Tool("rsync over kubectl exec", self._rsync),
            Tool("kubernetes.core.k8s_cp", self._k8s_cp),
            Tool(OURS, self._pvc_copy),
        ]

    def __enter__(self) -> Self:
        self.kubectl("create", "--validate=false", "-f", str(self._written("pod.json", json.dumps(MANIFEST))))
        self.kubectl("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=90s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kubectl("delete", "pod", POD, "--now")

    def kubectl(self, *words: str) -> float:
        return run([*self._kubectl(), *words])

    def _kubectl(self) -> list[str]:
        return [str(find()), f"--kubeconfig={self._kubeconfig}", "-n", NAMESPACE]

    def _written(self, name: str, text: str) -> Path:
        self._out.mkdir(parents=True, exist_ok=True)
        path = self._out / name
        path.write_text(text)
        return path

    def _kubectl_cp(self, folder: str, place: Path) -> float:
        return self.kubectl("cp", f"{NAMESPACE}/{POD}:{BASE}/{folder}", str(place / "copy"))

    def _tar(self, folder: str, place: Path) -> float:
        sender = shlex.join(
            [*self._kubectl(), "exec", POD, "--", "tar", "-C", f"{BASE}/{folder}", "-cf", "-", "."]
        )
        return run(["bash", "-o", "pipefail", "-c", f"{sender} | tar -C {shlex.quote(str(place))} -xf -"])

    def _rsync(self, folder: str, place: Path) -> float:
        words = shlex.join([*self._kubectl(), "exec", "-i"])
        shell = self._written("rsh", f'#!/bin/sh\npod=$1; shift\nexec {words} "$pod" -- "$@"\n')
        shell.chmod(0o755)
        argv = ["rsync", "-a", "--blocking-io", f"--rsh={shell}", f"{POD}:{BASE}/{folder}/", f"{place}/copy/"]
        return run(argv)

    def _k8s_cp(self, folder: str, place: Path) -> float:
        """It is given the one file where there is one: of folders it can't take any."""
        path, to = (folder, place) if folder == "small" else (f"{folder}/blob", place / "blob")
        return self._play("k8s_cp.yml", K8S_CP, path, to)

    def _pvc_copy(self, folder: str, place: Path) -> float:
        """The task's own seconds."""
        self._play("pvc_copy.yml", COPY, folder, place)
        hop = json.loads((place / "report.json").read_text())["hops"]["pull"]
        if not hop["parity"]:
            raise Failure("the copy isn't whole")
        return float(hop["seconds"])

    def _play(self, name: str, text: str, folder: str, place: Path) -> float:
        values = {"namespace": NAMESPACE, "pod": POD, "folder": f"{BASE}/{folder}", "place": str(place)}
        return play(self._written(name, HEAD + text), values, self._root, self._kubeconfig)


def pod_script(peers: Peers, script: str, *arguments: str) -> None:
    """Run a shell script in the pod."""
    peers.kubectl("exec", POD, "--", "sh", "-c", script, "sh", *arguments)
