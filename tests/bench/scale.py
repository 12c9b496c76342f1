# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""How time and memory grow with the number of files, and what it costs to find that nothing has changed.

usage: tests/bench/scale.py [--most N]        (the largest tree; 1,000,000 files unless said otherwise)

Trees of small files on this machine, in build/bench-scale. For each size, `pvc_copy --check` plans the whole copy to an
empty directory, and for the largest also the comparison of the tree with itself under another name (a second directory
of hard links), every byte read. Prints seconds, seconds for each 100,000 files, and the peak of the module's resident
memory. A sparse file of 100 GiB is planned as well. Then 100,000 files that were copied are copied again: the ratio is
to `find -printf` over the same tree in the same run, the module's start taken off. Run by the Python of .cache/venv.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = ROOT / "build" / "bench-scale"
IN_FOLDER = 1_000
ROUNDS = 3
CHILD = """
import json, os, resource, sys, time
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from copyoptions import endpoint, options
from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy_task, _verify_task
work, source, target, check = sys.argv[3:7]
given = options(endpoint(path=source), endpoint(path=target), manifest=None, extra="report")
started = time.monotonic()
if work == "verify":
    found = _verify_task.run(given, check_mode=False)
else:
    found = _copy_task.run(given, check_mode=check == "check")
print(json.dumps({
    "seconds": time.monotonic() - started,
    "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "parity": found["parity"], "files": found["files"], "proof": found.get("proof", ""),
}))
"""


def module(work: str, source: Path, target: Path, check: str = "") -> dict[str, float]:
    """What a task of the module takes, in a process of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(PLACE / "cache")}
    argv = [sys.executable, "-c", CHILD, str(ROOT / ".cache" / "src"), str(ROOT / "tests" / "faults"), work]
    done = subprocess.run(
        [*argv, str(source), str(target), check], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{work} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def make(root: Path, count: int) -> Path:
    """A tree of `count` files of up to 200 bytes."""
    for number in range(count):
        folder = root / f"{number // IN_FOLDER:06}"
        if number % IN_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"file {number % IN_FOLDER}").write_bytes(b"x" * (number % 200))
    return root


def link(source: Path, target: Path) -> None:
    """The same files under other names: no room, but as much to read."""
    for folder in source.iterdir():
        (target / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            os.link(file, target / folder.name / file.name)
        shutil.copystat(folder, target / folder.name)
    shutil.copystat(source, target)


def grows(most: int) -> None:
    print(f"{'':34}{'seconds':>10}{'per 100,000':>14}{'peak MiB':>10}")
    for count in (size for size in (10_000, 100_000, 1_000_000) if size <= most):
        tree = make(PLACE / f"{count}", count)
        tell(f"plan {count:,} files", count, module("copy", tree, PLACE / "nothing", "check"))
        if count == most:
            link(tree, PLACE / "again")
            tell(f"verify {count:,} files", count, module("verify", tree, PLACE / "again"))
    sparse = PLACE / "sparse"
    sparse.mkdir()
    with (sparse / "hole").open("wb") as stream:
        stream.truncate(100 << 30)
    tell("plan a sparse file of 100 GiB", 0, module("copy", sparse, PLACE / "nothing", "check"))


def tell(what: str, count: int, found: dict[str, float]) -> None:
    each = f"{found['seconds'] * 100_000 / count:14.2f}" if count else " " * 14
    print(f"  {what:32}{found['seconds']:10.1f}{each}{found['mebibytes']:10.0f}", flush=True)


def again() -> None:
    """A second run over 100,000 files that nobody has touched."""
    source, target, empty = make(PLACE / "first", 100_000), PLACE / "second", PLACE / "empty"
    empty.mkdir()
    module("copy", source, target)
    time.sleep(0.1)
    module("copy", source, target)  # keeps the proof, if the first run couldn't yet
    ratios = []
    for _round in range(ROUNDS):
        started = time.monotonic()
        subprocess.run(
            ["find", str(source), "-printf", "%p %s %m %U %G %T@\\n"], stdout=subprocess.DEVNULL, check=True
        )
        peer = time.monotonic() - started
        found = module("copy", source, target)
        if not found["parity"]:
            sys.exit("the second run isn't whole")
        ratios.append(found["seconds"] / peer)
        print(
            f"  second run {found['seconds']:.2f} s, find -printf {peer:.2f} s ({found['proof']})", flush=True
        )
    print(
        f"  ratio {statistics.median(ratios):.2f}, to be at most 3 ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory by the number of files")
    parser.add_argument("--most", type=int, default=1_000_000)
    most = parser.parse_args().most
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    try:
        grows(most)
        again()
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)


if __name__ == "__main__":
    main()
