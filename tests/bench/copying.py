# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What proving a copy costs: pvc_copy with verification beside tools that prove nothing, in turn, from the same pod.

usage: tests/bench/copying.py [--rounds N] [--size MIB] [--files N] [case ...]

Pulls from a pod of source-namespace, whose image has BusyBox and rsync, into build/bench. Every tool does every case
once in each round, one after the other. The time of pvc_copy is the task's own, from its first question to its last
proof. Prints medians, spreads, and the ratio to `kubectl cp` in the same round, beside what is aimed at. Run by the
Python of .cache/venv, with KUBECONFIG leading to the cluster. KUBEFERRY_BENCH_DIR is another directory to pull into:
one in memory leaves out the disk, which can take longer for making 10,000 files than all else does together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from copypeers import BASE, Failure, Peers, pod_script
from copytable import OURS, Case, table

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = Path(os.environ.get("KUBEFERRY_BENCH_DIR") or ROOT / "build" / "bench")
SEED = """
size=$1 files=$2
mkdir -p {base}/random {base}/text {base}/small && cd {base} || exit 1
head -c "$size" /dev/urandom >random/blob
yes '2026-01-01T00:00:00Z INFO request served in 12 ms by worker 7' | head -c "$size" >text/blob
number=0
while [ "$number" -lt "$files" ]; do
  mkdir -p "small/$((number % 10))"
  head -c "$((number / 10 * 8 % 8000 + 8))" random/blob >"small/$((number % 10))/$number"
  number=$((number + 1))
done
"""
# A hundred pieces, spread evenly, make up one part in a hundred of the file.
CHANGE = """
cd {base}/random && piece=$(($1 / 10000)) && number=0
while [ "$number" -lt 100 ]; do
  dd if=/dev/urandom of=blob bs="$piece" count=1 seek="$((number * 100))" conv=notrunc 2>/dev/null
  number=$((number + 1))
done
"""
CASES = (
    Case("random", "one file of random bytes", "random", {OURS: 0.8}),
    Case("text", "one file that compresses", "text", {OURS: 0.8}),
    Case("small", "many small files", "small", {OURS: 0.8}),
    Case("change", "1% of the one file changed", "random", {OURS: 0.15}, again=True),
    Case("nothing", "nothing changed, one file", "random", {OURS: 0.1}, again=True),
    Case("nothing-small", "nothing changed, small files", "small", {OURS: 0.1}, again=True),
)


def measure(cases: list[Case], rounds: int, peers: Peers, change: Callable[[], None]) -> None:
    """Fill the cases' times. A tool that fails in a case is not asked again."""
    for number in range(rounds):
        for case in cases:
            for tool in peers.tools:
                if case.failed(tool.name):
                    continue
                # Small files stay to the end: ext4 is slow to make files for minutes where many were removed.
                place = OUT / f"{case.name}-{number}" / tool.folder
                place.mkdir(parents=True)
                try:
                    if case.again:
                        tool.copy(case.folder, place)
                    if case.name == "change":
                        change()
                    case.add(tool.name, tool.copy(case.folder, place))
                except Failure as exc:
                    case.fail(tool.name, str(exc))
        for case in cases:
            if case.folder != "small":
                shutil.rmtree(OUT / f"{case.name}-{number}")
    for case in cases:
        for name, why in case.failures.items():
            print(f"{case.title}: {name} fails: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description="pvc_copy beside its peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="of the one file, in MiB")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(case.name for case in CASES))
    options = parser.parse_args()
    chosen = [case for case in CASES if case.name in options.cases or not options.cases]
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    size = str(options.size << 20)
    with Peers(OUT, ROOT, os.environ["KUBECONFIG"]) as peers:
        try:
            pod_script(peers, SEED.format(base=BASE), size, str(options.files))
            measure(chosen, options.rounds, peers, partial(pod_script, peers, CHANGE.format(base=BASE), size))
        finally:
            pod_script(peers, f"rm -rf {BASE}")
            shutil.rmtree(OUT, ignore_errors=True)
    title = (
        f"{options.size} MiB, {options.files} files, {options.rounds} rounds; seconds and ratio to kubectl cp"
    )
    print(table(title, chosen, [tool.name for tool in peers.tools]))
    print(json.dumps({case.name: case.times for case in chosen}))


if __name__ == "__main__":
    main()
