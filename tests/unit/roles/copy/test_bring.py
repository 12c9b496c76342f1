# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role does when a helper pod goes away in the middle: its modules only say what they would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PVC = Path("ansible_collections/kubeferry/pvc")

# An action of the same name runs in place of a module, and within Ansible's own process.
ACTION = """
import json
from pathlib import Path
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        given = self._task.args
        name = Path(__file__).stem
        log = Path(%(log)r)
        said = [json.loads(line) for line in log.read_text().splitlines()]
        told = [name, given.get("state", ""), given.get("pvc", ""), given.get("label", "")]
        count = said.count(told)
        with log.open("a") as more:
            more.write(json.dumps(told) + "\\n")
        for fail in json.loads(Path(%(fails)r).read_text()):
            if fail["what"] == (name if name == "pvc_verify" else told[3] or told[2]) and count in fail["times"]:
                return {"failed": True, "msg": fail["msg"], **fail["more"]}
        if name == "pvc_mount":
            pod = {"pod": "p", "container": "helper", "path": given.get("path"), "also": given.get("also") or []}
            return {"changed": True, **pod}
        return {
            "changed": True, "files": 1, "bytes": 1, "bytes_moved": 1, "matched": 1, "source": "s", "target": "t",
            "counts": {"metadata_differences": 0}, "parity": True, "route": "stream", "manifest_digest": "",
            "passed_over": [": ".join(each) for each in (given.get("closed_routes") or {}).items()],
        }
"""


@pytest.fixture
def play(tmp_path):
    """Runs the role between two claims with these failures; gives its status, its output and what was asked for."""
    for part in ("meta", "playbooks", "plugins", "roles"):
        shutil.copytree(ROOT / part, tmp_path / PVC / part)
    log = tmp_path / "log"
    actions = tmp_path / PVC / "plugins" / "action"
    actions.mkdir()
    for name in ("pvc_copy", "pvc_mount", "pvc_verify"):
        text = ACTION % {"log": str(log), "fails": str(tmp_path / "fails")}
        (actions / f"{name}.py").write_text(text)

    def run(route, *fails):
        log.write_text("")
        (tmp_path / "fails").write_text(json.dumps(fails))
        claims = {"source_namespace": "ns", "source_pvc": "a", "target_namespace": "ns", "target_pvc": "b"}
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                "kubeferry.pvc.copy",
                "-e",
                json.dumps({**claims, "route": route}),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path}:{ROOT / '.cache' / 'src'}",
                "ANSIBLE_HOME": str(tmp_path / "ansible"),
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        asked = [json.loads(line) for line in log.read_text().splitlines()]
        return done.returncode, done.stdout + done.stderr, [tuple(filter(None, each)) for each in asked]

    return run


def gone(what, *times):
    more = {"pod_gone": True, "route_failed": True, "passed_over": []}
    return {"what": what, "times": times, "msg": "Helper pod ns/p was removed.", "more": more}


COPY = ("pvc_copy", "source to destination")
VERIFY = ("pvc_verify", "source to destination")
HOPS = [("pvc_copy", "source to staging"), ("pvc_copy", "staging to destination")]
ABSENT = [("pvc_mount", "absent")] * 2
EACH = [("pvc_mount", "a"), ("pvc_mount", "b")]


@pytest.mark.timeout(120)
def test_helper_pods_are_made_anew_once(play):
    status, said, asked = play("auto", gone(COPY[1], 0))
    assert status == 0, said
    assert [each for each in asked if "absent" not in each] == [("pvc_mount", "b"), COPY] * 2
    assert asked[-1] == ABSENT[0]
    assert "not with the first helper pod: Helper pod ns/p was removed" in said


@pytest.mark.timeout(120)
@pytest.mark.parametrize("lost", [1, 2], ids=["at the second hop", "at the comparison"])
def test_each_step_over_staging_goes_on_with_new_helper_pods(play, lost):
    steps = [*HOPS, VERIFY]
    status, said, asked = play("staging", gone([*HOPS, ("", "pvc_verify")][lost][1], 0))
    assert status == 0, said
    assert [*EACH, *steps[: lost + 1], *EACH, *steps, *ABSENT] == asked


@pytest.mark.timeout(120)
def test_over_staging_goes_what_no_route_from_pod_to_pod_brings(play):
    more = {"pod_gone": False, "route_failed": True, "passed_over": ["direct: no: net"]}
    status, said, asked = play("auto", {"what": COPY[1], "times": [0], "msg": "No way", "more": more})
    assert status == 0, said
    assert [each for each in asked if each[0] == "pvc_copy"] == [COPY, *HOPS]
    assert "by the route staging; not direct: no: net; not stream: No way" in said


@pytest.mark.timeout(120)
def test_what_goes_away_twice_is_a_failure(play):
    status, said, asked = play("auto", gone(COPY[1], 0, 1))
    assert status == 2, said
    assert [each for each in asked if each[0] == "pvc_copy"] == [COPY, COPY]
    assert asked[-1] == ABSENT[0]


@pytest.mark.timeout(120)
def test_a_helper_pod_that_can_not_be_made_anew(play):
    status, said, asked = play("stream", gone(COPY[1], 0), {**gone("b", 1), "msg": "No node is left."})
    assert status == 2, said
    assert asked == [*EACH, COPY, *EACH, ABSENT[0]]
    assert "Helper pod ns/p was removed. And another one can't be had: No node is left." in said


@pytest.mark.timeout(120)
def test_what_no_new_helper_pod_would_change_is_not_tried_again(play):
    status, said, asked = play("stream", {**gone(COPY[1], 0), "more": {"pod_gone": False}})
    assert status == 2, said
    assert asked == [*EACH, COPY, *ABSENT]
    assert said.count("fatal: ") == 1
    assert "rescued=0" in said
