# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Many claims in one run: how long, how much memory, what is left; some fail, and a second run does just those.

usage: tests/bench/fleet.py [--claims N] [--broken N] [--forks N]

Makes claims of mixed sizes in a namespace of this project's own cluster, migrates them with kubeferry.pvc.migrate, and
samples the memory of all processes of the playbook. Broken ones are used by a pod that nothing could bring back; the
second run comes after these pods are gone. Run by the Python of .cache/venv, as root, with the cluster up.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from testkube.errors import ClusterError
from testkube.kubectl import Kubectl, find

ROOT = Path(__file__).resolve().parent.parent.parent
MADE = ROOT / ".cache" / "cluster"
OUT = ROOT / "build" / "fleet"
SOURCE, TARGET, CLASS = "kubeferry-fleet", "kubeferry-fleet-new", "kubeferry-fleet"
MANIFESTS = ROOT / "tests" / "cluster" / "manifests"
RIGHTS = ("copier-role", "copier-binding", "migrator-role", "migrator-binding")
# Files and bytes in each; most claims are small, as they are in real namespaces.
SIZES = ((5, 2_000), (50, 8_000), (400, 4_000), (3, 4_000_000), (2, 30_000_000))


def kubectl(*words: str) -> str:
    return Kubectl(find(), MADE / "kubeconfig")(*words, timeout=600)


def apply(items: Sequence[dict[str, Any]]) -> None:
    Kubectl(find(), MADE / "kubeconfig").apply(items)


def volume(name: str, claim: str = "") -> dict[str, Any]:
    reference = {"claimRef": {"namespace": SOURCE, "name": claim}} if claim else {}
    path = f"/run/kubeferry/volumes/{SOURCE}/{name}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{CLASS}-{name}", "labels": {CLASS: "yes"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
            **reference,
        },
    }


def claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": SOURCE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"user-of-{name}", "namespace": SOURCE},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "user",
                    "image": "busybox:1.37",
                    "command": ["sleep", "1d"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}],
        },
    }


def fill(names: Sequence[str]) -> int:
    """Put files into the claims' directories, seen from the host; the bytes of all."""
    rng, total = random.Random(1), 0
    for number, name in enumerate(names):
        files, size = SIZES[number % len(SIZES)]
        folder = MADE / "volumes" / SOURCE / name
        folder.mkdir(parents=True, exist_ok=True)
        for each in range(files):
            (folder / str(each)).write_bytes(rng.randbytes(size))
            total += size
    return total


def prepare(names: Sequence[str], broken: Sequence[str]) -> int:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            for name in (SOURCE, TARGET)
        ]
        + [
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": CLASS},
                "provisioner": "kubernetes.io/no-provisioner",
                "volumeBindingMode": "WaitForFirstConsumer",
            }
        ]
    )
    for namespace in (SOURCE, TARGET):
        kubectl("apply", "-n", namespace, *(f"-f={MANIFESTS / name}.yaml" for name in RIGHTS))
    total = fill(names)
    apply([volume(name, name) for name in names] + [volume(f"new-{name}") for name in names])
    apply([claim(name) for name in names])
    apply([pod(name) for name in broken])
    kubectl("wait", "-n", SOURCE, "pvc", "--all", "--for=jsonpath={.status.phase}=Bound", "--timeout=120s")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "fleet.claims.yml").write_text(
        f"plugin: kubeferry.pvc.claims\nnamespaces: [{SOURCE}]\nmap: map.yml\n"
    )
    (OUT / "map.yml").write_text(f"create: true\nrules:\n  - {{source: '*/*', target: '{TARGET}/{{2}}'}}\n")
    return total


def tear_down() -> None:
    kubectl("delete", "namespace", SOURCE, TARGET, "--ignore-not-found", "--timeout=300s")
    kubectl("delete", "pv", "-l", f"{CLASS}=yes", "--timeout=120s")
    kubectl("delete", "storageclass", CLASS, "--ignore-not-found")


def descendants(root: int) -> Iterator[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    waiting = [root]
    while waiting:
        process = waiting.pop()
        yield process
        waiting += parents.get(process, [])


def resident(process: int) -> int:
    """The resident set size in bytes, with what is shared with forks; 0 for one that has ended."""
    try:
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def proportional(process: int) -> int:
    """The proportional set size in bytes, which can be added up; 0 for one that has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


class Sampler(threading.Thread):
    """Samples what a playbook's main process and all its processes take."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.main: list[int] = []
        self.all: list[int] = []

    def run(self) -> None:
        while self._process.poll() is None:
            self.main.append(resident(self._process.pid))
            self.all.append(sum(map(proportional, descendants(self._process.pid))))
            time.sleep(2)


def migrate(forks: int, *options: str) -> tuple[float, str, Sampler]:
    """Seconds, the summary, and the memory of one run."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(OUT / "fleet.claims.yml")]
    command += ["kubeferry.pvc.migrate", "--forks", str(forks), "-e", f"migrate_folder={OUT}", *options]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "KUBECONFIG": str(MADE / "kubeconfig-copier"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    }
    started = time.monotonic()
    with (OUT / "output.txt").open("w+") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        sampler = Sampler(process)
        sampler.start()
        process.wait()
        sampler.join()
        output.seek(0)
        said = re.findall(r'"(\d+ of \d+ claims are migrated[^"]*)"', output.read())
    return time.monotonic() - started, said[-1] if said else "no summary, see build/fleet/output.txt", sampler


def is_guard(entry: Path) -> bool:
    """Whether a process is a guard of a playbook of this checkout."""
    try:
        ours = str(MADE).encode() in (entry / "environ").read_bytes()
        return ours and (entry / "comm").read_text().strip() == "kubeferry-guard"
    except OSError:
        return False


def left() -> str:
    """What the run has left in the cluster, and on this machine."""
    found = [
        len(
            kubectl(
                "get", kind, "-n", namespace, "-l", "app.kubernetes.io/managed-by=kubeferry", "-o", "name"
            ).split()
        )
        for kind in ("pods", "leases")
        for namespace in (SOURCE, TARGET)
    ]
    guards = sum(map(is_guard, Path("/proc").iterdir()))
    return f"{sum(found[:2])} helper pods, {sum(found[2:])} leases, {guards} guards"


def tell(title: str, seconds: float, said: str, sampler: Sampler) -> None:
    third = max(1, len(sampler.main) // 3)
    early, late = sampler.main[third : 2 * third] or [0], sampler.main[-third:] or [0]
    print(f"{title}: {seconds:.0f} s; {said}")
    print(
        f"  memory: main process {max(early) / 1e6:.0f} MB in the second third, {max(late) / 1e6:.0f} MB in the last; "
        f"all processes {max(sampler.all or [0]) / 1e6:.0f} MB at most"
    )
    time.sleep(5)  # guards look at once when they are told to, but not before
    print(f"  left: {left()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="many claims in one run")
    parser.add_argument("--claims", type=int, default=200)
    parser.add_argument("--broken", type=int, default=5)
    parser.add_argument("--forks", type=int, default=8)
    options = parser.parse_args()
    try:
        bench(options)
    except ClusterError as error:
        sys.exit(str(error))


def bench(options: argparse.Namespace) -> None:
    names = [f"claim-{number:03}" for number in range(options.claims)]
    broken = names[:: max(1, len(names) // max(1, options.broken))][: options.broken]
    total = prepare(names, broken)
    print(f"{len(names)} claims, {total / 1e6:.0f} MB, {options.forks} forks", flush=True)
    try:
        tell("first run", *migrate(options.forks))
        kubectl("delete", "pod", "-n", SOURCE, *(f"user-of-{name}" for name in broken), "--timeout=120s")
        tell("second run, with what failed", *migrate(options.forks, "--limit", f"@{OUT / 'failed.txt'}"))
    finally:
        tear_down()


if __name__ == "__main__":
    main()
