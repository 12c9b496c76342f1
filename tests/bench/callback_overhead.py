# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What watching a run costs it: this collection's callback beside ARA's, in the same minute on the same machine.

usage: tests/bench/callback_overhead.py [--rounds N] [--modules]

A playbook with 25 hosts runs bare, with our callback (server healthy, absent, frozen), and with ARA's (its default: a
local database). It has 550 results of `debug`, which runs nothing, so that a result takes as little as it can; or, with
--modules, 150 of a module, as nearly all results of a real playbook are. Prints one JSON object: the seconds of each
and the CPU seconds of all its processes, each also as a ratio to the bare run; and the CPU milliseconds of our hooks in
the playbook's own process, for each event: what they take in the run, where after each fork the kernel copies every
page that is written to, and what they take again and again at its end, where nothing forks. Run by the Python of
.cache/venv; makes .cache/bench/ara with ARA in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
ARA = CACHE / "bench" / "ara"
HOSTS = 25
DEBUG, MODULES = 22, 6
"""Tasks of the playbook of each kind."""


def playbook(tasks: int, *, modules: bool) -> str:
    """The playbook; all its results are `ok`."""
    action = (
        "ansible.builtin.stat: {{path: /}}" if modules else "ansible.builtin.debug: {{msg: 'result {0}'}}"
    )
    each = "".join(f"    - name: Task {n}\n      {action.format(n)}\n" for n in range(tasks))
    return f"- hosts: all\n  gather_facts: false\n  tasks:\n{each}"


# Times the hooks from inside the playbook's process: the real callback, wrapped.
TIMED = """
from __future__ import annotations

DOCUMENTATION = 'name: timed\\ntype: aggregate\\nshort_description: timed\\ndescription: timed'

import json
import os
import threading
import time

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import callback_loader

spent = []
last = {}
AGAIN = 500


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'aggregate'
    CALLBACK_NAME = 'timed'
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.inner = callback_loader.get('kubeferry.pvc.events')
        self.inner.set_options()
        for name in dir(self.inner):
            if name.startswith('v2_') and name in type(self.inner).__dict__:
                setattr(type(self), name, timed(name))


def timed(name):
    def hook(self, *args, **kwargs):
        method = getattr(self.inner, name)
        alone = []
        if name == 'v2_playbook_on_stats':
            for known, given in last.items():
                again = getattr(self.inner, known)
                began = time.thread_time()
                for _number in range(AGAIN):
                    again(*given)
                alone.append((time.thread_time() - began) / AGAIN)
        if name in ('v2_playbook_on_start', 'v2_playbook_on_stats'):
            method(*args, **kwargs)
        else:
            began = time.thread_time()
            method(*args, **kwargs)
            spent.append(time.thread_time() - began)
            if name in ('v2_runner_on_start', 'v2_runner_on_ok'):
                last[name] = args
        if name == 'v2_playbook_on_stats':
            with open(os.environ['TIMED_OUT'], 'w') as out:
                json.dump({'in_the_run': spent, 'alone': alone}, out)
    return hook
"""


def make_ara() -> Path:
    """Return the folder of ARA's callback, installing it first where it isn't. Raises CalledProcessError."""
    python = ARA / "bin" / "python"
    if not python.exists():
        print("installing ARA", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", ARA], check=True)
        # The same ansible-core as ours, so that only the callback differs.
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "ara[server]",
             "-c", ROOT / "requirements" / "constraints.txt", "ansible-core"],
            check=True,
        )  # fmt: skip
    found = subprocess.run(
        [python, "-m", "ara.setup.callback_plugins"], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(found.stdout.strip())


@contextmanager
def real_server(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "roles/event_server/files"),
        "KUBEFERRY_PORT": str(port),
        "KUBEFERRY_HISTORY": str(folder / "history.db"),
        "KUBEFERRY_PUBLISH_TOKEN": "publish-token-of-a-bench",
        "KUBEFERRY_VIEW_TOKEN": "view-token-of-a-bench",
    }
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "kubeferry_events"], env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{port}/ws"
    finally:
        server.kill()
        server.wait()


@contextmanager
def frozen_server() -> Iterator[str]:
    """Listen, take connections and say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = []

        def take() -> None:
            while True:
                taken.append(listening.accept())

        threading.Thread(target=take, daemon=True).start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"


def run(folder: Path, python: Path, results: int, **extra: str) -> tuple[float, float]:
    """Return the seconds that a run with so many results took, and the CPU seconds of all its processes."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {
        "ANSIBLE_COLLECTIONS_PATH": str(CACHE / "src"),
        "ANSIBLE_HOME": str(folder / "home"),
        "KUBEFERRY_EVENTS_SPOOL": str(folder / "spool"),
        "KUBEFERRY_EVENTS_TOKEN": "publish-token-of-a-bench",
        "KUBEFERRY_PROGRESS": "never",
        **extra,
    }
    program, hosts, playbook = python.parent / "ansible-playbook", folder / "hosts", folder / "playbook.yml"
    command = [str(program), "-i", str(hosts), str(playbook)]
    began, used = time.monotonic(), os.times()
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or len(re.findall(r"^ok: ", done.stdout, re.MULTILINE)) != results:
        sys.exit(f"the playbook did not run as it should:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    after = os.times()
    cpu = after.children_user + after.children_system - used.children_user - used.children_system
    return time.monotonic() - began, cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modules", action="store_true")
    given = parser.parse_args()
    tasks = MODULES if given.modules else DEBUG
    results = HOSTS * tasks
    ours = Path(sys.executable)
    with tempfile.TemporaryDirectory() as made, frozen_server() as frozen:
        folder = Path(made)
        local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
        (folder / "hosts").write_text("".join(f"h{n:02} {local}\n" for n in range(HOSTS)))
        (folder / "playbook.yml").write_text(playbook(tasks, modules=given.modules))
        (folder / "timed").mkdir()
        (folder / "timed" / "timed.py").write_text(TIMED)
        enabled = {"ANSIBLE_CALLBACKS_ENABLED": "kubeferry.pvc.events"}
        with real_server(folder) as healthy:
            cases = {
                "bare": (ours, {}),
                "ours": (ours, {**enabled, "KUBEFERRY_EVENTS_URL": healthy}),
                "ours, server absent": (ours, {**enabled, "KUBEFERRY_EVENTS_URL": "ws://127.0.0.1:9/ws"}),
                "ours, server frozen": (ours, {**enabled, "KUBEFERRY_EVENTS_URL": frozen}),
                "ara": (
                    ARA / "bin" / "python",
                    {
                        "ANSIBLE_CALLBACK_PLUGINS": str(make_ara()),
                        "ARA_BASE_DIR": str(folder / "ara"),
                        "ARA_API_CLIENT": "offline",
                    },
                ),
            }
            seconds: dict[str, list[float]] = {name: [] for name in cases}
            cpu: dict[str, list[float]] = {name: [] for name in cases}
            run(folder, ours, results)  # warms the disk's cache
            for _round in range(given.rounds):
                for name, (python, extra) in cases.items():
                    shutil.rmtree(folder / "spool", ignore_errors=True)
                    took, used = run(folder, python, results, **extra)
                    seconds[name].append(took)
                    cpu[name].append(used)
                    print(f"{name}: {took:.2f} s, {used:.2f} s of CPU", file=sys.stderr, flush=True)
            run(
                folder, ours, results, ANSIBLE_CALLBACKS_ENABLED="timed",
                ANSIBLE_CALLBACK_PLUGINS=str(folder / "timed"), KUBEFERRY_EVENTS_URL=healthy,
                TIMED_OUT=str(folder / "hooks.json"),
            )  # fmt: skip
        hooks = json.loads((folder / "hooks.json").read_text())
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    # The least disturbed of each: other programs only ever add to it.
    best = {name: min(values) for name, values in seconds.items()}
    best_cpu = {name: min(values) for name, values in cpu.items()}
    report = {
        "hosts": HOSTS,
        "results": results,
        "seconds": {name: round(value, 2) for name, value in best.items()},
        "ratio_to_bare": {name: round(value / best["bare"], 3) for name, value in best.items()},
        "median_ratio_to_bare": {name: round(value / middle["bare"], 3) for name, value in middle.items()},
        "cpu_seconds": {name: round(value, 2) for name, value in best_cpu.items()},
        "cpu_ratio_to_bare": {name: round(value / best_cpu["bare"], 3) for name, value in best_cpu.items()},
        "milliseconds_added_for_each_result": {
            name: round(1000 * (value - best["bare"]) / results, 2) for name, value in best.items()
        },
        "hook_cpu_milliseconds_per_event": {
            "alone": round(1000 * statistics.mean(hooks["alone"]), 4),
            "in_the_run_mean": round(1000 * statistics.mean(hooks["in_the_run"]), 4),
            "in_the_run_median": round(1000 * statistics.median(hooks["in_the_run"]), 4),
        },
        "hook_events": len(hooks["in_the_run"]),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
