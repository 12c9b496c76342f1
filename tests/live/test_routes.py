# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Routes from pod to pod on a cluster of two nodes: what arrives, what is left, what becomes of one that is closed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from copyoptions import endpoint, options
from livekit import (
    COPIER,
    ROOT,
    SLEEPER,
    SOURCE,
    TARGET,
    eventually,
    helper_pods,
    in_pod,
    kubectl,
    make_claim,
    run_app,
)
from testkube.cluster import Cluster
from testkube.layout import Layout

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy_task, _tls_link

pytestmark = pytest.mark.timeout(450)

OPENSSL = "kubeferry/busybox-openssl:1"
GNU = "kubeferry/debian-tools:1"
"""It has openssl, too, and flock: without that, nobody knows for half a minute that a holder is dead."""
HERE, THERE = "/mnt/pvc-0/routes", "/data"
LARGE = 250 << 20
SEED = """
rm -rf "$1" && mkdir -p "$1/dir/empty" && cd "$1" || exit
number=0
while [ "$number" -lt 40 ]; do number=$((number + 1)); echo "number $number" >"dir/$number"; done
head -c 36000000 /dev/urandom >large
chown 1234:4321 dir/1; chmod 4751 dir/2; touch -d @1000000000 dir/3 dir/empty large
ln -s dir/4 link; ln dir/5 twin; mkfifo pipe; touch 'a name with
a new line'
chmod 2750 dir
"""
# Type, mode, owner and time of every path, the number of links but for directories, and the digest of every file.
LOOK = """
cd "$1" || exit
find . -path ./.kubeferry -prune -o ! -type d -exec stat -c '%n %F %a %u %g %Y %h' {} + | sort
find . -path ./.kubeferry -prune -o -type d -exec stat -c '%n %F %a %u %g %Y' {} + | sort
find . -type f -exec md5sum {} + | sort
"""
# Waits until part of the large file has arrived in the work directory.
ARRIVING = """
count=0
while [ "$count" -lt 2000 ]; do
  count=$((count + 1))
  size=$(stat -c %s "$1"/.kubeferry/run-*/tree/large 2>/dev/null)
  if [ "${size:-0}" -gt 30000000 ]; then echo arriving; exit; fi
  usleep 20000
done
echo never
"""


@pytest.fixture(scope="module")
def far_node(second_node) -> str:
    """The node on which the source's claim is not in use."""
    here = kubectl("get", "pod", SLEEPER, "-n", SOURCE, "-o", "jsonpath={.spec.nodeName}")
    return "node1" if here == second_node else second_node


@pytest.fixture(scope="module", autouse=True)
def apps(far_node, second_node) -> None:
    """A claim beside the source's, and one on the other node, each with a pod to look into it."""
    in_pod(SOURCE, SEED, HERE)
    near_node = "node1" if far_node == second_node else second_node
    for namespace, name, node in ((SOURCE, "beside", near_node), (TARGET, "far", far_node)):
        make_claim(name, node=node, namespace=namespace)
        run_app(name, node=node, namespace=namespace)
    yield
    for namespace in (SOURCE, TARGET):
        kubectl("delete", "pods,pvc", "-n", namespace, "-l", "live-test", "--timeout=60s", seconds=70)
    kubectl("delete", "pv", "-l", "live-test")
    in_pod(SOURCE, 'rm -rf "$1"', HERE)


@pytest.fixture(autouse=True)
def empty(apps):
    for namespace, pod in ((SOURCE, "app-beside"), (TARGET, "app-far")):
        in_pod(namespace, 'rm -rf "$1/copy" && mkdir "$1/copy"', THERE, pod=pod)


def look(namespace: str, pod: str) -> str:
    return in_pod(namespace, LOOK, f"{THERE}/copy", pod=pod)


def variables(folder, namespace: str, claim: str, **more) -> dict[str, object]:
    return {
        "source_namespace": SOURCE,
        "source_pvc": "pvc-0",
        "source_path": "routes",
        "target_namespace": namespace,
        "target_pvc": claim,
        "target_path": "copy",
        "staging": str(folder / "pvc-files"),
        **more,
    }


def reported(folder) -> dict:
    report = json.loads((folder / "pvc-files/report.json").read_text())
    assert report["parity"]
    return report["hops"]["source to destination"]


def copied(namespace: str, claim: str, image: str = OPENSSL) -> dict:
    """The result of one task from the source to another claim, by the first route that is open."""
    ends = [
        endpoint(namespace=each, pvc=pvc, path=path, image=image)
        for each, pvc, path in ((SOURCE, "pvc-0", "routes"), (namespace, claim, "copy"))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K8S_AUTH_KUBECONFIG", COPIER)
        return _copy_task.run(options(*ends, route="auto"), check_mode=False)


@pytest.mark.parametrize(
    ("namespace", "claim", "taken"), [(SOURCE, "beside", "mount"), (TARGET, "far", "direct")]
)
def test_everything_arrives_and_a_second_run_changes_nothing(played, tmp_path, namespace, claim, taken):
    wanted = in_pod(SOURCE, LOOK, HERE)
    ended = played(variables(tmp_path, namespace, claim, route="auto", image=OPENSSL))
    assert ended.status == 0, ended.output
    assert f"by the route {taken}" in ended.output
    assert reported(tmp_path)["route"] == taken
    assert look(namespace, f"app-{claim}") == wanted
    assert helper_pods() == []
    second = copied(namespace, claim)
    assert (second["route"], second["changed"], second["bytes_moved"]) == (taken, False, 0)


def test_without_openssl_in_the_image_the_files_are_streamed():
    result = copied(TARGET, "far", image="busybox:1.37")
    assert (result["route"], result["parity"]) == ("stream", True)
    assert "give an image that has it" in result["passed_over"][-1]
    assert look(TARGET, "app-far") == in_pod(SOURCE, LOOK, HERE)


def test_where_the_network_is_closed_the_files_are_streamed(far_node, monkeypatch):
    """What a NetworkPolicy makes of packets to the port, in the words of the node's firewall."""
    monkeypatch.setattr(_tls_link, "CONNECT_SECONDS", 3)
    cluster = Cluster(Layout(ROOT))
    group = next(node.group for node in cluster.nodes(cluster.instance()) if node.name == far_node)
    rule = ["FORWARD", "-p", "tcp", "--dport", "20000:31999", "-j", "DROP"]
    group.enter("iptables", "-I", *rule)
    try:
        result = copied(TARGET, "far")
    finally:
        group.enter("iptables", "-D", *rule)
    assert (result["route"], result["parity"]) == ("stream", True)
    assert "doesn't get through to" in result["passed_over"][-1]
    assert result["seconds"] < 30
    assert look(TARGET, "app-far") == in_pod(SOURCE, LOOK, HERE)


@pytest.mark.parametrize("route_failed", [True, False])
def test_over_staging_goes_what_no_connection_could_carry_but_no_copy_that_is_not_whole(
    played, tmp_path, route_failed
):
    """A copy of the collection whose module finds no way. The ends are directories of this machine."""
    installed = Path("ansible_collections/kubeferry/pvc")
    shutil.copytree(ROOT / ".cache" / "collections" / installed, tmp_path / installed)
    module = tmp_path / installed / "plugins/modules/pvc_copy.py"
    answer = f'module.fail_json("No way", route_failed={route_failed}, passed_over=["direct: no: net"])'
    closed = f'    if module.params["route"] == "auto":\n        {answer}\n'
    module.write_text(module.read_text().replace("    conclude(", f"{closed}    conclude(", 1))
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("content")
    variables = {"source_path": str(tmp_path / "source"), "target_path": str(tmp_path / "target")}
    paths = f"{tmp_path}:{ROOT / '.cache' / 'collections'}"
    ended = played({**variables, "route": "auto"}, environment={"ANSIBLE_COLLECTIONS_PATH": paths})
    if route_failed:
        assert ended.status == 0, ended.output
        assert "by the route staging; not mount: source and destination aren't both claims" in ended.output
        assert "; not direct: no: net; not stream: No way" in ended.output
        assert (tmp_path / "target" / "file").read_text() == "content"
    else:
        assert ended.status != 0
        assert ended.failures[-1] == "No way"
        assert not list((tmp_path / "target").iterdir())


def test_a_run_that_is_killed_leaves_no_pod_and_the_next_one_goes_on(started, tmp_path):
    in_pod(SOURCE, 'head -c "$2" /dev/urandom >"$1/large"', HERE, str(LARGE))
    asked = variables(tmp_path, TARGET, "far", route="direct", image=GNU)
    playbook = started(asked)
    arriving = in_pod(TARGET, ARRIVING, f"{THERE}/copy", seconds=90, pod="app-far")
    os.kill(playbook.process.pid, signal.SIGKILL)
    assert arriving.strip() == "arriving", playbook.output
    playbook.process.wait(20)
    eventually("the end of all processes", lambda: not playbook.processes(), 40)
    eventually("the end of the helper pods", lambda: not helper_pods(), 20)
    assert in_pod(TARGET, 'ls "$1"', f"{THERE}/copy", pod="app-far").split() == []
    result = copied(TARGET, "far", image=GNU)
    assert look(TARGET, "app-far") == in_pod(SOURCE, LOOK, HERE)
    assert (result["route"], result["parity"]) == ("direct", True)
    assert result["bytes_moved"] < LARGE
    assert helper_pods() == []
