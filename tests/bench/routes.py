# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Routes side by side: verified copies between two claims, beside rsync between the two volumes' directories.

usage: tests/bench/routes.py [--rounds N] [--size MIB] [--files N]

On the project's own cluster, whose volumes are directories of this machine, so that rsync can show what the disk
allows. Helper pods have BusyBox and openssl. The time of a route is that of its tasks, from the first question to the
last proof, without the start of pods. Prints medians, spreads, and the ratio to rsync in the same round, beside what is
aimed at. Run by the Python of .cache/venv.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from copypeers import HEAD, Failure, play, run
from copytable import Case, table

ROOT = Path(__file__).resolve().parent.parent.parent
MADE = ROOT / ".cache" / "cluster"
OUT = ROOT / "build" / "bench-routes"
NAMESPACE = "source-namespace"
SOURCE, TARGET = "bench-source", "bench-target"
LIMIT = "rsync on the node"
ROUTES = ("mount", "direct", "stream", "staging")
IMAGE = "kubeferry/busybox-openssl:1"
AIMS = {"mount": 1.5, "direct": 2.5}
CASES = (
    Case("random", "one file of random bytes", "random", AIMS, yardstick=LIMIT),
    Case("small", "many small files", "small", AIMS, yardstick=LIMIT),
)
COPY = """
    - kubeferry.pvc.pvc_copy:
        source: "{{ ends[item.0] }}"
        target: "{{ ends[item.1] }}"
        route: "{{ route }}"
        transport: tar
        label: "{{ item.0 }}"
        report: "{{ report }}"
      loop: "{{ [['source', 'staged'], ['staged', 'target']] if staging else [['source', 'target']] }}"
"""


def seed(folder: Path, size: int, files: int) -> None:
    """One file of `size` bytes, and small ones."""
    (folder / "random").mkdir(parents=True)
    blob = os.urandom(1 << 20)
    with open(folder / "random" / "blob", "wb") as stream:
        stream.writelines(number.to_bytes(8, "big") + blob[8:] for number in range(size >> 20))
    for number in range(files):
        path = folder / "small" / str(number % 10) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob[number : number + number // 10 * 8 % 8000 + 8])


def rsync(source: Path, target: Path, place: str) -> float:
    """The same bytes between the two directories, by a tool that has nothing in between."""
    return run(["rsync", "-a", f"{source}/", f"{target / place}/"])


def route(name: str, folder: str, place: str) -> float:
    """A folder of one claim to a folder of the other one. The seconds of the tasks."""
    report = OUT / f"{name}.json"
    report.unlink(missing_ok=True)
    claim = {"namespace": NAMESPACE, "image": IMAGE}
    ends = {
        "source": {**claim, "pvc": SOURCE, "path": folder},
        "target": {**claim, "pvc": TARGET, "path": place},
        "staged": {"path": str(OUT / "staged" / place), "manifest": str(OUT / "staged" / f"{place}.jsonl")},
    }
    staging = name == "staging"
    values = {"ends": ends, "route": "stream" if staging else name, "staging": staging, "report": str(report)}
    book = OUT / "copy.yml"
    book.write_text(HEAD + COPY)
    play(book, values, ROOT, str(MADE / "kubeconfig-copier"))
    hops = json.loads(report.read_text())["hops"].values()
    if not all(hop["parity"] for hop in hops):
        raise Failure("the copy isn't whole")
    return sum(float(hop["seconds"]) for hop in hops)


def measure(rounds: int, source: Path, target: Path) -> None:
    """Fill the cases' times: each tool once in each round, one after the other."""
    for number in range(rounds):
        for case in CASES:
            tools: dict[str, Callable[[str], float]] = {
                LIMIT: partial(rsync, source / case.folder, target),
                **{name: partial(route, name, case.folder) for name in ROUTES},
            }
            for name, copy in tools.items():
                if case.failed(name):
                    continue
                place = f"{case.name}-{number}-{name.partition(' ')[0]}"
                (target / place).mkdir()
                os.sync()
                try:
                    case.add(name, copy(place))
                except Failure as exc:
                    case.fail(name, str(exc))
        shutil.rmtree(OUT / "staged", ignore_errors=True)
        for left in target.iterdir():
            shutil.rmtree(left)
    for case in CASES:
        for name, why in case.failures.items():
            print(f"{case.title}: {name} fails: {why}")


def claims(*options: str) -> list[Path]:
    """Make both claims, or delete them; their directories."""
    cluster = [str(ROOT / "tests" / "cluster" / "cluster"), "claim"]
    for name in (SOURCE, TARGET):
        subprocess.run(
            [*cluster, NAMESPACE, name, *options], check=True, stdout=subprocess.DEVNULL, timeout=120
        )
    return [MADE / "volumes" / NAMESPACE / name for name in (SOURCE, TARGET)]


def main() -> None:
    parser = argparse.ArgumentParser(description="routes beside rsync on the node")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="of the one file, in MiB")
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    places = claims()
    try:
        seed(places[0], options.size << 20, options.files)
        measure(options.rounds, *places)
    finally:
        claims("--delete")
        for place in (*places, OUT):
            shutil.rmtree(place, ignore_errors=True)
    title = (
        f"{options.size} MiB, {options.files} files, {options.rounds} rounds; seconds and ratio to {LIMIT}"
    )
    print(table(title, [*CASES], [LIMIT, *ROUTES]))
    print(json.dumps({case.name: case.times for case in CASES}))


if __name__ == "__main__":
    main()
