# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A real cluster, playbooks run on it as a user runs them, and a look at both by means that aren't ours."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from testkube.kubectl import find

ROOT = Path(__file__).resolve().parents[2]
MADE = ROOT / ".cache" / "cluster"
COPIER = os.environ.get("KUBECONFIG") or str(MADE / "kubeconfig-copier")
ADMIN = os.environ.get("KUBEFERRY_ADMIN_KUBECONFIG") or str(MADE / "kubeconfig")

# Those of the documentation, unless the suites that run meanwhile have them.
SOURCE, TARGET = os.environ.get("KUBEFERRY_NAMESPACES", "source-namespace destination-namespace").split()
SLEEPER = "busybox-sleep"
MARK = "KUBEFERRY_LIVE_TEST"
PATIENCE = 3
"""How many times as long as by itself anything may take here, beside other suites on a slow machine."""


@cache
def kubectl_program() -> str:
    return str(find())


def kubectl(*words: str, stdin: str | None = None, seconds: float = 40) -> str:
    """What one kubectl command of the administrator prints."""
    done = subprocess.run(
        [kubectl_program(), f"--kubeconfig={ADMIN}", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE * seconds,
        check=False,
    )
    assert done.returncode == 0, f"kubectl {' '.join(words)[:300]}: {done.stderr}"
    return done.stdout


def in_pod(namespace: str, script: str, *arguments: str, seconds: float = 40, pod: str = SLEEPER) -> str:
    """What a shell script prints that root runs in a pod of a namespace, its sleeping one by default."""
    return kubectl("exec", "-n", namespace, pod, "--", "sh", "-c", script, "sh", *arguments, seconds=seconds)


def digests(namespace: str, folder: str) -> dict[str, str]:
    """The files below a folder of a claim, the work directory of a copy left out, and the digest of each."""
    script = 'cd "$1" && find . -path ./.kubeferry -prune -o -type f -exec sha256sum {} +'
    lines = in_pod(namespace, script, folder, seconds=60).splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def helper_pods(output: str = "name") -> list[str]:
    """What kubectl says of the helper pods of both namespaces, also of those on their way out."""
    words = ("get", "pods", "-l", "app.kubernetes.io/managed-by=kubeferry", "-o", output)
    return [word for namespace in (SOURCE, TARGET) for word in kubectl(*words, "-n", namespace).split()]


def make_claim(name: str, mode: str = "ReadWriteOnce", node: str = "", namespace: str = SOURCE) -> None:
    """A claim of the label `live-test`, and a volume for it that is on one node or on any."""
    folder = MADE / "volumes" / namespace / name
    folder.mkdir(parents=True, exist_ok=True)
    key, value = ("kubernetes.io/hostname", node) if node else ("kubernetes.io/os", "linux")
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}]
    labels = {"live-test": name}
    common = {"accessModes": [mode], "storageClassName": "kubeferry-wait"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"live-{name}", "labels": labels},
        "spec": {
            **common,
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": name},
            "local": {"path": f"/run/kubeferry/volumes/{namespace}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {**common, "resources": {"requests": {"storage": "1Gi"}}},
    }
    items = {"apiVersion": "v1", "kind": "List", "items": [volume, claim]}
    kubectl("apply", "-f", "-", stdin=json.dumps(items))


def run_app(
    claim: str,
    tolerations: Sequence[Mapping[str, str]] = (),
    node: str = "node2",
    namespace: str = SOURCE,
    path: str = "/data",
) -> None:
    """A pod of the user's own, `app-` and the claim's name, on a node, that has the claim mounted."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"app-{claim}", "namespace": namespace, "labels": {"live-test": claim}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": list(tolerations),
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": "busybox:1.37",
                    "command": ["sleep", "1d"],
                    "volumeMounts": [{"name": "data", "mountPath": path}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    kubectl("wait", "-n", namespace, f"pod/app-{claim}", "--for=condition=Ready", "--timeout=60s", seconds=70)


def eventually(what: str, check: Callable[[], object], seconds: float, pause: float = 0.3) -> None:
    """Wait until `check` gives something true."""
    deadline = time.monotonic() + PATIENCE * seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s (last: {found!r})"
        time.sleep(pause)


@dataclass(frozen=True)
class Ended:
    """A playbook that has ended: its exit status and what it printed."""

    status: int
    output: str

    @property
    def failures(self) -> list[str]:
        """The messages of the tasks that failed, in their order."""
        decoder = json.JSONDecoder()
        pieces = re.split(r"(?:FAILED!|failed: \[\S+\] \(item=\S+\)) => ", self.output)[1:]
        return [decoder.raw_decode(piece)[0]["msg"] for piece in pieces]


class Playbook:
    """A playbook of the collection under way, in a process group of its own and recognisable in all its processes."""

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, object],
        name: str = "copy",
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._output = folder / f"{name}-{self._mark}.out"
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(ROOT / ".cache" / "ansible"),
            **os.environ,
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "KUBECONFIG": COPIER,
            MARK: self._mark,
            **(environment or {}),
        }
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    "ansible-playbook",
                    f"kubeferry.pvc.{name}",
                    "--extra-vars",
                    json.dumps(variables),
                    *options,
                ],
                cwd=folder,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait(self, seconds: float = 90) -> Ended:
        return Ended(self.process.wait(PATIENCE * seconds), self.output)

    def kill_everything(self) -> None:
        """SIGKILL for all processes at one moment, as when the machine goes down: all stop before one dies."""
        stopped: set[int] = set()
        while fresh := set(self.processes()) - stopped:
            self._signal(fresh, signal.SIGSTOP)
            stopped |= fresh
        self._signal(stopped, signal.SIGKILL)
        eventually("the end of all processes", lambda: not self.processes(), 10)

    def _signal(self, processes: Iterable[int], number: signal.Signals) -> None:
        for process in processes:
            with _vanishing():
                os.kill(process, number)

    def processes(self) -> list[int]:
        """Every process that has this playbook's mark in its environment, so also those that left its group."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with _vanishing():
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def commands(self) -> list[str]:
        """The command lines of these processes, to be shown."""
        found = []
        for process in self.processes():
            with _vanishing():
                found.append(
                    Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
                )
        return found


class _vanishing:  # noqa: N801 -- reads as a statement
    """A process may end while it is looked at, or belong to somebody else."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        return kind is not None and issubclass(kind, OSError)
