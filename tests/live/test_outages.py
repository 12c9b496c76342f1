# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What becomes of a copy when the cluster or a volume gives way under it: a whole copy, or a failure that says so.

The module's own work is run in a thread, so that the test can strike in the middle of it. Both sides are read by
kubectl and system calls afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from copyoptions import endpoint, options
from livekit import COPIER, MADE, ROOT, SLEEPER, SOURCE, TARGET, digests, eventually, in_pod, kubectl
from testkube.cluster import Cluster
from testkube.layout import Layout

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy_task
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import KubeferryError

pytestmark = pytest.mark.timeout(450)

HERE = "/mnt/pvc-0/outages"
LARGE = 80 << 20
ROOM = 24 << 20
VICTIM, TIGHT = "victim", "tight"

SEED = f"""
rm -rf "$1" && mkdir -p "$1/many" "$1/few/small" && cd "$1/many" || exit
number=0
while [ "$number" -lt 40 ]; do
  number=$((number + 1))
  echo "number $number" >"$number"
done
head -c {LARGE} /dev/urandom >large
head -c {ROOM // 2} large >../few/large
cp 1 2 3 ../few/small
"""
# Waits until a megabyte has arrived in the work directory.
ARRIVING = """
count=0
while [ "$count" -lt 2000 ]; do
  count=$((count + 1))
  size=$(du -sk "$1/.kubeferry" 2>/dev/null)
  if [ "${size%%[!0-9]*}" -gt 1000 ] 2>/dev/null; then echo arriving; exit; fi
  usleep 10000
done
echo never
"""
FILL = {
    "bytes": f'head -c {2 * ROOM} /dev/zero >"$1/filler" 2>/dev/null; true',
    "inodes": 'mkdir "$1/fillers"; for n in $(seq 200); do touch "$1/fillers/$n" 2>/dev/null || break; done; true',
}


@pytest.fixture(scope="module")
def files(cluster) -> dict[str, str]:
    """The files of the source and their digests."""
    in_pod(SOURCE, SEED, HERE, seconds=60)
    yield digests(SOURCE, HERE)
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, 'rm -rf "$1"', HERE)


@pytest.fixture
def own_cluster() -> Cluster:
    """The cluster of this checkout, which may be damaged."""
    if Path(COPIER).parent != MADE:
        pytest.skip("would damage a cluster that isn't the tests' own")
    return Cluster(Layout(ROOT))


def pod(name: str, claim: str, node: str = "") -> None:
    """Start a sleeping pod with a claim of the target's namespace, on a node or on any, and wait for it."""
    book = json.loads(kubectl("get", "pod", SLEEPER, "-n", TARGET, "-o", "json"))
    spec = book["spec"]["containers"][0]
    container = {key: spec[key] for key in ("name", "image", "command")}
    mounts = [{"name": "data", "mountPath": "/mnt/pvc-0"}]
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": TARGET},
        "spec": {
            "containers": [{**container, "volumeMounts": mounts}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(made))
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", TARGET, "--timeout=60s", seconds=70)


def remove(name: str) -> None:
    kubectl("delete", "pod", name, "-n", TARGET, "--now", "--ignore-not-found", seconds=60)


@pytest.fixture
def victim(files) -> str:
    """A pod that may be killed, with the target's claim."""
    pod(VICTIM, "pvc-0")
    yield VICTIM
    remove(VICTIM)


@pytest.fixture(scope="module")
def tight(files) -> Iterator[None]:
    """A claim with little room and few inodes, and the pod that has it."""
    if Path(COPIER).parent != MADE:
        pytest.skip("can't make a small volume on a cluster that isn't the tests' own")
    program = [ROOT / "tests" / "cluster" / "cluster", "claim", TARGET, TIGHT]
    subprocess.run(program, check=True, capture_output=True, timeout=60)
    cluster = Cluster(Layout(ROOT))
    node = cluster.nodes(cluster.instance())[0]
    place = f"/run/kubeferry/volumes/{TARGET}/{TIGHT}"
    node.group.enter("mount", "-t", "tmpfs", "-o", f"size={ROOM},nr_inodes=100", "tight", place)
    try:
        pod(TIGHT, TIGHT, node.name)  # another node has the host's own directory there
        room = in_target(TIGHT, 'echo "$(($(stat -f -c "%b * %S" "$1")))"', "/mnt/pvc-0")
        assert int(room) == ROOM, "the pod doesn't see the small volume"
        yield
    finally:
        remove(TIGHT)
        node.group.enter("busybox", "umount", "-l", place)  # the other one wants a /proc of its own
        subprocess.run([*program, "--delete"], check=True, capture_output=True, timeout=60)


def in_target(name: str, script: str, *arguments: str, seconds: float = 40) -> str:
    return kubectl("exec", "-n", TARGET, name, "--", "sh", "-c", script, "sh", *arguments, seconds=seconds)


def in_pods(name: str, namespace: str, path: str) -> dict[str, Any]:
    return endpoint(namespace=namespace, pod=name, path=path)


@dataclass(frozen=True)
class Ending:
    """What the module came to: its result, or the sentence that it failed with."""

    result: dict[str, Any] | None
    said: str

    @property
    def whole(self) -> bool:
        return bool(self.result and self.result["parity"])

    def judge(self, files: dict[str, str], found: dict[str, str]) -> None:
        """`found` is what is really there: all of it if the module says so, else whole files and a reason."""
        assert found.items() <= files.items(), "something half-written has a final name"
        if self.whole:
            assert found == files, "a wrong success"
        elif self.result is None:
            assert "pod" in self.said or "machine" in self.said, self.said
            assert "Traceback" not in self.said
        else:
            lists = (self.result["missing"], self.result["mismatched"])
            named = {item if isinstance(item, str) else item["path"] for items in lists for item in items}
            assert {path.removeprefix("./") for path in files.keys() - found.keys()} <= named, self.result


def copy(source: dict[str, Any], target: dict[str, Any], **given: Any) -> Ending:
    try:
        result = _copy_task.run(options(source, target, kubeconfig=COPIER, **given), check_mode=False)
    except KubeferryError as exc:
        return Ending(None, str(exc))
    return Ending(result, result.get("msg", ""))


@contextlib.contextmanager
def under_way(source: dict[str, Any], target: dict[str, Any], **given: Any) -> Iterator[Future[Ending]]:
    """A copy that goes on in the background while the block is executed."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(copy, source, target, **given)
        yield future
        future.result(100)


def local_digests(folder: Path) -> dict[str, str]:
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".kubeferry"]
        for name in names:
            path = Path(place, name)
            found[f"./{path.relative_to(folder)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def arrived_here(folder: Path) -> Callable[[], bool]:
    """Whether a megabyte has arrived in the work directory on this machine."""

    def check() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return sum(p.stat().st_blocks * 512 for p in folder.glob(".kubeferry/**/*")) > 1 << 20
        return False

    return check


def answering(namespace: str) -> Callable[[], bool]:
    """Whether kubectl can run a command in the namespace's pod, so that the node's kubelet and runtime are back."""
    words = ("exec", "-n", namespace, SLEEPER, "--", "true")

    def check() -> bool:
        try:
            kubectl(*words)
        except AssertionError:
            return False
        return True

    return check


def below(files: dict[str, str], part: str) -> dict[str, str]:
    """The files of a folder, as named from there on."""
    start = f"./{part}/"
    return {
        f"./{path.removeprefix(start)}": digest for path, digest in files.items() if path.startswith(start)
    }


def clear(name: str) -> None:
    in_target(name, 'rm -rf "$1" && mkdir "$1"', HERE)


def test_a_target_pod_that_is_deleted(files, victim, tmp_path):
    clear(SLEEPER)
    source, target = in_pods(SLEEPER, SOURCE, f"{HERE}/many"), in_pods(victim, TARGET, HERE)
    with under_way(source, target) as future:
        assert in_target(victim, ARRIVING, HERE).strip() == "arriving"
        remove(victim)
    ending = future.result()
    assert not ending.whole
    ending.judge(below(files, "many"), digests(TARGET, HERE))
    assert f"{TARGET}/{victim}" in ending.said
    pod(victim, "pvc-0")
    again = copy(source, target)
    assert again.whole, again
    again.judge(below(files, "many"), digests(TARGET, HERE))


def test_a_source_pod_that_is_deleted(files, victim, tmp_path):
    clear(SLEEPER)
    in_target(SLEEPER, 'head -c 100000000 /dev/urandom >"$1/large"', HERE)
    want = digests(TARGET, HERE)
    source, target = in_pods(victim, TARGET, HERE), endpoint(path=str(tmp_path / "staged"))
    with under_way(source, target) as future:
        eventually("a part of it", arrived_here(tmp_path / "staged"), 30, 0.01)
        remove(victim)
    ending = future.result()
    assert not ending.whole
    ending.judge(want, local_digests(tmp_path / "staged"))
    assert f"{TARGET}/{victim}" in ending.said


@pytest.mark.parametrize("what", ["restart-apiserver", "restart-containerd"])
@pytest.mark.parametrize("way", ["pull", "push"])
def test_an_outage_of_the_cluster(own_cluster, files, tmp_path, what, way):
    """All streams are cut, and for some seconds nobody answers."""
    folder = tmp_path / "staged"
    far = in_pods(SLEEPER, SOURCE, f"{HERE}/many")
    if way == "push":
        assert copy(far, endpoint(path=str(folder))).whole
        clear(SLEEPER)
        source, target = endpoint(path=str(folder)), in_pods(SLEEPER, TARGET, HERE)
    else:
        source, target = far, endpoint(path=str(folder))
    with under_way(source, target, retries=6) as future:
        if way == "push":
            assert in_target(SLEEPER, ARRIVING, HERE).strip() == "arriving"
        else:
            eventually("a part of it", arrived_here(folder), 30, 0.01)
        restart = [ROOT / "tests" / "cluster" / "cluster", what]
        subprocess.run(restart, check=True, capture_output=True, timeout=90)
        for namespace in (SOURCE, TARGET):
            eventually(f"a command in {namespace}", answering(namespace), 60, 1)
    found = digests(TARGET, HERE) if way == "push" else local_digests(folder)
    future.result().judge(below(files, "many"), found)
    # The API server that is just up knows no rights yet and forbids everything, which no attempt mends.
    if not future.result().whole:
        assert "forbidden" in future.result().said
        again = copy(source, target)
        assert again.whole
        again.judge(below(files, "many"), digests(TARGET, HERE) if way == "push" else local_digests(folder))


@pytest.mark.parametrize("what", FILL)
def test_a_destination_that_fills_up(tight, files, what):
    """There was room at first; somebody else takes it while the copy is under way."""
    part = "few" if what == "bytes" else "many"
    names = {"include": ["[0-9]*"]} if what == "inodes" else {}
    in_target(TIGHT, 'rm -rf "$1" && mkdir -p "$1"', HERE)
    source, target = in_pods(SLEEPER, SOURCE, f"{HERE}/{part}"), in_pods(TIGHT, TARGET, HERE)
    wait = f'until ls "$1"/.kubeferry/run-* >/dev/null 2>&1; do usleep 5000; done; {FILL[what]}'
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(in_target, TIGHT, wait, HERE)
        with under_way(source, target, retries=1, **names) as future:
            filling.result(60)
    ending = future.result()
    want = {path: digest for path, digest in below(files, part).items() if not names or path != "./large"}
    lines = in_target(
        TIGHT, 'cd "$1" && find . -path ./.kubeferry -prune -o -type f -exec sha256sum {} +', HERE
    )
    found = {path: digest for digest, path in (line.split("  ", 1) for line in lines.splitlines())}
    found = {path: digest for path, digest in found.items() if "filler" not in path}
    ending.judge(want, found)
    assert not ending.whole, ending
    in_target(TIGHT, 'rm -rf "$1"/filler*', HERE)
    assert copy(source, target, **names).whole


def test_a_destination_that_is_too_small_is_left_alone(tight, files):
    in_target(TIGHT, 'rm -rf "$1" && mkdir -p "$1"', HERE)
    ending = copy(in_pods(SLEEPER, SOURCE, f"{HERE}/many"), in_pods(TIGHT, TARGET, HERE))
    assert "nothing was copied" in ending.said
    assert "bytes free" in ending.said
    assert in_target(TIGHT, 'ls -A "$1"', HERE) == ""


def test_a_staging_that_fills_up(own_cluster, files, tmp_path):
    folder = tmp_path / "staged"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "staged", folder], check=True, timeout=20)
    try:
        source, target = in_pods(SLEEPER, SOURCE, f"{HERE}/few"), endpoint(path=str(folder / "tree"))
        with under_way(source, target, retries=1) as future:
            eventually("the work directory", (folder / "tree" / ".kubeferry").exists, 30, 0.002)
            with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as stream:
                while stream.write(bytes(1 << 20)):
                    pass
        ending = future.result()
        ending.judge(below(files, "few"), local_digests(folder / "tree"))
        assert not ending.whole
        assert "full" in ending.said
        (folder / "filler").unlink()
        again = copy(source, target)
        again.judge(below(files, "few"), local_digests(folder / "tree"))
        assert again.whole
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=20)
