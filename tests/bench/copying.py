# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What proving a copy costs: pvc_copy with verification beside `kubectl cp` without, in turn, from the same pod.

usage: tests/bench/copying.py [--rounds N]

One file of 1 GiB of random bytes, and 10,000 files of 8 to 8,000 bytes, are pulled from the pod busybox-sleep of
source-namespace into build/bench. The times of pvc_copy are those of the task, from its first question to its last
proof, and of the whole ansible-playbook around it. Prints medians, spreads, and ratios to `kubectl cp` in the same
round. Run by the Python of .cache/venv, with KUBECONFIG leading to the cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "build" / "bench"
NAMESPACE, POD, BASE = "source-namespace", "busybox-sleep", "/mnt/pvc-0/kubeferry-bench"
LIMIT = 600
SEED = f"""
mkdir -p {BASE}/big {BASE}/small && cd {BASE} || exit 1
[ -e big/blob ] || head -c 1073741824 /dev/urandom >big/blob
[ -e small/9/999 ] || for d in 0 1 2 3 4 5 6 7 8 9; do
  mkdir -p small/$d
  for f in $(seq 0 999); do head -c $((f * 8 + 8)) /dev/urandom >small/$d/$f; done
done
"""
CASES = {"big": "1 GiB of random bytes", "small": "10,000 small files"}
PLAYBOOK = f"""
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {{ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"}}
  tasks:
    - kubeferry.pvc.pvc_copy:
        source: {{namespace: {NAMESPACE}, pod: {POD}, path: "{BASE}/{{{{ case }}}}"}}
        target: {{path: "{{{{ target }}}}"}}
        report: "{{{{ target }}}}.json"
        label: pull
"""


def run(argv: list[str], **variables: str) -> float:
    """Run a command to its end; its wall time in seconds. Ends the benchmark if it fails."""
    started = time.monotonic()
    done = subprocess.run(
        argv, env={**os.environ, **variables}, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    if done.returncode:
        sys.exit(f"{argv[0]} failed with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - started


def find_kubectl() -> str:
    """The machine's own, or the one that was built for the test cluster."""
    built = sorted(Path("~/.cache/kubeferry").expanduser().glob("kubernetes-*/kubectl"))
    found = shutil.which("kubectl") or (str(built[-1]) if built else None)
    return found or sys.exit("There is no kubectl to compare with: run `make cluster`, which builds one.")


def kubectl(*words: str) -> float:
    return run([find_kubectl(), "-n", NAMESPACE, *words])


def kubectl_cp(case: str, target: Path) -> dict[str, float]:
    return {"kubectl cp": kubectl("cp", f"{NAMESPACE}/{POD}:{BASE}/{case}", str(target))}


def pvc_copy(case: str, target: Path) -> dict[str, float]:
    """The task's own seconds, and those of the playbook."""
    book = OUT / "playbook.yml"
    book.write_text(PLAYBOOK)
    words = ["ansible-playbook", str(book), "-e", f"case={case}", "-e", f"target={target}"]
    whole = run(
        [str(Path(sys.executable).parent / words[0]), *words[1:]],
        ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache" / "collections"),
        K8S_AUTH_KUBECONFIG=os.environ["KUBECONFIG"],
    )
    hop = json.loads(Path(f"{target}.json").read_text())["hops"]["pull"]
    if not hop["parity"]:
        sys.exit(f"{case}: the copy isn't whole")
    return {"pvc_copy, verified": hop["seconds"], "ansible-playbook with it": whole}


def again(case: str, target: Path) -> dict[str, float]:
    return {"pvc_copy again, nothing changed": pvc_copy(case, target)["pvc_copy, verified"]}


def measure(case: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; they take turns, each into an empty directory."""
    times: dict[str, list[float]] = {}
    steps: list[tuple[Callable[[str, Path], dict[str, float]], str]] = [
        (kubectl_cp, "theirs"),
        (pvc_copy, "ours"),
        (again, "ours"),
    ]
    for number in range(rounds):
        # Nothing is removed in between: ext4 is slow to make files for a while where others were just removed.
        place = OUT / f"{case}-{number}"
        place.mkdir(parents=True)
        for step, name in steps:
            for label, seconds in step(case, place / name).items():
                times.setdefault(label, []).append(seconds)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="pvc_copy beside kubectl cp")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    kubectl("exec", POD, "--", "sh", "-c", SEED)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    try:
        print(f"{'':34}{'median s':>10}{'spread':>16}{'ratio to kubectl cp':>22}")
        for case, title in CASES.items():
            times = measure(case, rounds)
            print(title)
            for label, seconds in times.items():
                ratios = [a / b for a, b in zip(seconds, times["kubectl cp"], strict=True)]
                spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
                print(
                    f"  {label:32}{statistics.median(seconds):10.1f}{spread:>16}{statistics.median(ratios):22.2f}"
                )
    finally:
        kubectl("exec", POD, "--", "rm", "-rf", BASE)
        shutil.rmtree(OUT, ignore_errors=True)


if __name__ == "__main__":
    main()
