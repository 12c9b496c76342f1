# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Run the suites of checks and say at the end what became of each.

usage: tests/run.py [suite ...]          (all of them without an argument; `make test` and `make <suite>` call this)

KUBECONFIG            an existing cluster for the suites that need one; without it they start their own
KUBEFERRY_NO_SKIP=1   a suite that could not run, or a test that was skipped, is a failure
KUBEFERRY_MATRIX=all  every supported combination of versions in the suite matrix, not just the oldest
SCENARIO              molecule scenarios in place of all, with commas between them
UNITS                 folders of tests/unit in place of all, with commas between them
LIVE                  subjects of tests/live in place of all, with commas between them

Run by the Python of .cache/venv.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from board import Board, Job

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
BIN = Path(sys.executable).parent
OUTAGES = "tests/live/test_outages.py"
# The namespaces of the documentation, and those of suites that run beside the ones that use them.
STANDARD, OWN = "source-namespace destination-namespace", "live-source live-destination"
# These of tests/live wait for dead runs much of their time, so they run beside the others, in namespaces of their own.
PATIENT, ITS_OWN = ("interruption", "local"), "killed-source killed-destination"
NO_SKIP = os.environ.get("KUBEFERRY_NO_SKIP", "") not in ("", "0")


class NotRun(Exception):
    """A suite can't run here; the message says why."""


@dataclass(frozen=True)
class Step:
    """One command of a suite."""

    argv: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    # A line that means failure whatever the exit status is.
    forbidden: str | None = None

    @property
    def name(self) -> str:
        """The command's first words, without Python where it only starts another."""
        words = [str(word) for word in self.argv[:4] if word not in (sys.executable, "-m")]
        return " ".join([Path(words[0]).name, *words[1:]])


@dataclass(frozen=True)
class Suite:
    name: str
    about: str
    steps: Callable[[], list[Step]]


@dataclass(frozen=True)
class Outcome:
    suite: str
    state: str
    seconds: float = 0.0
    # Of the CPU, by all that it started and waited for.
    work: float = 0.0
    why: str = ""


def python(*arguments: str) -> Step:
    return Step([sys.executable, *arguments])


def shell_scripts() -> list[str]:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    return [
        name
        for name in names
        if (ROOT / name).is_file() and re.match(rb"#!.*\b(ba)?sh\b", (ROOT / name).open("rb").readline())
    ]


def lint() -> list[Step]:
    return [
        Step(["ruff", "check"]),
        Step(["ruff", "format", "--check"]),
        Step(["mypy"]),
        Step(["shellcheck", *shell_scripts()]),
        python("tools/check_headers.py"),
        Step(["antsibull-changelog", "lint"]),
        Step(["antsibull-changelog", "lint-changelog-yaml", "changelogs/changelog.yaml"]),
        python("tools/make_collections.py", "archive"),  # ansible-lint looks up what playbooks call
        Step(["ansible-lint", "--offline"]),
    ]


def sanity() -> list[Step]:
    # ansible-test says no more than this of a test that it leaves out.
    skipped = r"All targets skipped|Skipping|Required program .* not found"
    return [
        Step([sys.executable, "tools/sanity.py"], forbidden=skipped if NO_SKIP else r"All targets skipped")
    ]


def tests_in(folder: str) -> Callable[[], list[Step]]:
    return lambda: [python("-m", "pytest", folder)]


def units() -> list[str]:
    return sorted(path.name for path in (ROOT / "tests" / "unit").iterdir() if list(path.rglob("test_*.py")))


def unit() -> list[Step]:
    return [python("-m", "pytest", *(f"tests/unit/{name}" for name in chosen("UNITS", units)))]


def chosen(variable: str, everything: Callable[[], list[str]]) -> list[str]:
    """What an environment variable names, with commas between; all there is if it names nothing."""
    return os.environ[variable].split(",") if os.environ.get(variable) else everything()


def with_cluster(folder: str) -> Callable[[], list[Step]]:
    """A suite of pytest that uses a cluster where there can be one, and says which of its tests it skipped."""

    def steps() -> list[Step]:
        try:
            environment = cluster()
        except NotRun as reason:
            print(f"without a cluster: {reason}", flush=True)
            environment = {}
        return [Step([sys.executable, "-m", "pytest", folder], environment)]

    return steps


def on_archive(*arguments: str, namespaces: str = STANDARD) -> Callable[[], list[Step]]:
    """A suite of pytest that runs the installed archive's playbooks on a cluster, between two namespaces."""

    def steps() -> list[Step]:
        if sys.platform != "linux":
            raise NotRun("looks for left processes in /proc, which only Linux has")
        environment = {"KUBEFERRY_NAMESPACES": namespaces, **cluster()}
        command = Step([sys.executable, "-m", "pytest", *arguments], environment)
        return [python("tools/make_collections.py", "archive"), command]

    return steps


def subjects() -> list[str]:
    names = (path.stem.removeprefix("test_") for path in (ROOT / "tests" / "live").glob("test_*.py"))
    return sorted(name for name in names if name != "outages")


def live() -> list[Step]:
    ours = chosen("LIVE", subjects)
    files = [f"tests/live/test_{name}.py" for name in ours]
    return on_archive(*files, namespaces=ITS_OWN if set(ours) <= set(PATIENT) else OWN)()


def publishing() -> list[Step]:
    return [
        python("tools/make_collections.py", "archive"),
        python("tools/make_venv.py", "publish"),
        python("tools/make_ee.py"),
    ]


def package() -> list[Step]:
    return [*publishing(), python("-m", "pytest", "tests/package")]


def awx() -> list[Step]:
    return [*publishing(), *on_archive("tests/awx")()[1:]]


def scenarios() -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "extensions" / "molecule").glob("*/converge.yml"))


def molecule() -> list[Step]:
    ours = chosen("SCENARIO", scenarios)
    # Molecule keeps what it has prepared in there, for all scenarios at once.
    home = CACHE / "molecule" / "-".join(ours)
    # What is left of a run that was interrupted would count as prepared.
    shutil.rmtree(home, ignore_errors=True)
    environment = {
        "MOLECULE_COMMAND_BORDERS": "0",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_HOME": str(home),
    }
    names = [word for name in ours for word in ("--scenario-name", name)]
    command = Step(
        ["molecule", "test", *names],
        environment | cluster(),
        # A scenario lists the steps that it has. Without this a misnamed verify.yml would pass.
        forbidden=r"Executed: Missing playbook",
    )
    return [python("tools/make_collections.py", "archive"), command]


SUITES = (
    Suite("lint", "ruff, mypy, shellcheck, licence headers, changelog, ansible-lint", lint),
    Suite("sanity", "ansible-test sanity", sanity),
    Suite("unit", "pytest tests/unit", unit),
    Suite(
        "outages", "copies on a real cluster that gives way under them", on_archive(OUTAGES, namespaces=OWN)
    ),
    Suite(
        "live",
        "playbooks on a real cluster that are killed, or asked for what can't be",
        live,
    ),
    Suite("molecule", "the scenarios of extensions/molecule on a real cluster", molecule),
    Suite("awx", "the sample project of extensions/awx under ansible-runner, and its set-up", awx),
    Suite("matrix", "supported versions on a real cluster", on_archive("tests/matrix")),
    Suite("docs", "every command of the documentation", on_archive("tests/docs")),
    Suite("package", "Galaxy's importer, the documentation site, the execution environment", package),
    Suite("server", "a real event server, redis-server and cluster", with_cluster("tests/server")),
    Suite("browser", "the event page in a real Chromium, and signing in", with_cluster("tests/browser")),
    Suite(
        "callback", "real playbooks with the events callback, each ansible-core", tests_in("tests/callback")
    ),
)

# The scenarios that make namespaces of their own; the others work on the standard claims.
APART = ("event_server", "migrate")
# So many suites run at a time when all do: each spends a part of its time waiting.
AT_ONCE = 5


def cluster() -> dict[str, str]:
    """Return the environment of a suite that needs a cluster, after starting one where the user named none."""
    if named := os.environ.get("KUBECONFIG"):
        paths = [str(Path(part).expanduser().absolute()) for part in named.split(os.pathsep)]
        joined = os.pathsep.join(paths)
        return {"KUBECONFIG": joined, "KUBEFERRY_ADMIN_KUBECONFIG": joined}
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotRun("needs root on Linux to start a cluster, or KUBECONFIG=... of an existing one")
    if status := run(Step([ROOT / "tests" / "cluster" / "cluster", "up"])):
        raise subprocess.CalledProcessError(status, "tests/cluster/cluster up")
    made = CACHE / "cluster"
    return {
        "KUBECONFIG": str(made / "kubeconfig-copier"),
        "KUBEFERRY_ADMIN_KUBECONFIG": str(made / "kubeconfig"),
    }


def base_environment() -> dict[str, str]:
    """Return the environment of every step: the project's own tools, and no cluster but what a suite asks for."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key != "KUBECONFIG" and not key.startswith(("ANSIBLE_", "K8S_AUTH_", "MOLECULE_"))
    }
    if not sys.stdout.isatty():
        inherited["NO_COLOR"] = "1"
    return inherited | {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_COLLECTIONS_PATH": str(CACHE / "collections"),
        "ANSIBLE_HOME": str(CACHE / "ansible"),
        "ANSIBLE_CONFIG": str(ROOT / "tests" / "ansible.cfg"),
        "PYTHONUNBUFFERED": "1",
    }


def shown(word: str | Path) -> str:
    if isinstance(word, Path):
        return os.path.relpath(word, ROOT)
    return "python" if word == sys.executable else word


def run(step: Step) -> int:
    """Run a step in the project's root with its output shown, and return its exit status."""
    print(f"$ {' '.join(map(shown, step.argv))}", flush=True)
    environment = base_environment() | dict(step.environment)
    if step.forbidden is None:
        return subprocess.run(
            step.argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False
        ).returncode
    found = []
    with subprocess.Popen(
        step.argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout or ():
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            if re.search(step.forbidden.encode(), line):
                found.append(line.decode(errors="replace").strip())
    if found and not process.returncode:
        print("not accepted:", *found, sep="\n  ", flush=True)
        return 1
    return process.returncode


def run_suite(suite: Suite) -> Outcome:
    print(f"\n=== {suite.name}: {suite.about}", flush=True)
    started, worked = time.monotonic(), work_of_children()
    try:
        steps = suite.steps()
        why = "; ".join(f"{step.name} ended with {status}" for step in steps if (status := run(step)))
    except NotRun as reason:
        return Outcome(suite.name, "not run", why=str(reason))
    except (OSError, subprocess.CalledProcessError) as error:
        why = str(error)
    state = "failed" if why else "passed"
    return Outcome(suite.name, state, time.monotonic() - started, work_of_children() - worked, why)


def work_of_children() -> float:
    """Return the seconds of CPU of everything that was started from here and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(outcomes: Sequence[Outcome]) -> None:
    print("\n=== summary")
    for outcome in outcomes:
        took = f"{outcome.seconds:6.0f} s, {outcome.work:5.0f} s of CPU" if outcome.state != "not run" else ""
        print(f"{outcome.suite:<10} {outcome.state:<8} {took:<24}  {outcome.why}".rstrip())
    states = [outcome.state for outcome in outcomes]
    counts = f"{states.count('passed')} passed, {states.count('failed')} failed"
    if "not run" in states:
        counts += f", {states.count('not run')} skipped"
    print(f"suites: {counts}", flush=True)


def everything() -> list[Outcome]:
    """Run all suites, some at a time: those first that others have to wait for."""
    run(python("tools/make_collections.py", "archive"))  # once, and not while another suite uses it
    # What changes the cluster for everyone comes first, and alone on it. Suites with the same claims follow each other;
    # the others have namespaces of their own, or no cluster.
    on_cluster = {"after": "outages"}
    on_claims = {**on_cluster, "alone": "the standard claims"}
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        jobs = [
            job(place, "outages"),
            job(place, "molecule", **on_claims, SCENARIO=[name for name in scenarios() if name not in APART]),
            job(place, "docs", **on_claims),
            job(place, "awx", **on_claims),
            job(place, "matrix", **on_claims),
            job(
                place, "live others", **on_cluster, LIVE=[name for name in subjects() if name not in PATIENT]
            ),
            job(place, "live patient", **on_cluster, LIVE=PATIENT),
            job(place, "molecule apart", **on_cluster, SCENARIO=APART),
            job(place, "unit plugins", UNITS=["plugins"]),
            job(place, "unit others", UNITS=[name for name in units() if name != "plugins"]),
            job(place, "sanity"),
            job(place, "callback"),
            job(place, "server", **on_cluster),
            job(place, "browser", **on_cluster),
            job(place, "lint"),
            job(place, "package"),
        ]
        assert {suite.name for suite in SUITES} == {each.argv[-1] for each in jobs}, "a suite is left out"
        outcomes = {each.name: [Outcome(each.name, "failed", why="it was never run")] for each in jobs}

        def ended(job: Job, status: int, output: Path) -> None:
            sys.stdout.buffer.write(output.read_bytes())
            sys.stdout.flush()
            told = Path(job.environment["KUBEFERRY_OUTCOMES"])
            known = [Outcome(**each) for each in json.loads(told.read_text())] if told.exists() else []
            outcomes[job.name] = known or [Outcome(job.name, "failed", why=f"ended with {status}")]

        print(f"{AT_ONCE} suites at a time, each shown when it has ended", flush=True)
        Board(jobs, Path(place), ended, AT_ONCE).work()
    return [outcome for each in outcomes.values() for outcome in each]


def job(place: str, name: str, after: str = "", alone: str = "", **parts: Sequence[str]) -> Job:
    """A suite as a job, or `parts` of it: the first word of its name is the suite's."""
    environment = {variable: ",".join(names) for variable, names in parts.items()}
    environment["KUBEFERRY_OUTCOMES"] = f"{place}/{name}.json"
    return Job(name, [sys.executable, __file__, name.partition(" ")[0]], environment, after, alone)


def main() -> None:
    by_name = {suite.name: suite for suite in SUITES}
    if unknown := set(sys.argv[1:]) - set(by_name):
        sys.exit(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(by_name)}")
    outcomes = [run_suite(by_name[name]) for name in sys.argv[1:]] or everything()
    report(outcomes)
    if place := os.environ.get("KUBEFERRY_OUTCOMES"):
        Path(place).write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    # A suite that was asked for by name and could not run is no success either.
    bad = {"failed", "not run"} if NO_SKIP or sys.argv[1:] else {"failed"}
    sys.exit(any(outcome.state in bad for outcome in outcomes))


if __name__ == "__main__":
    main()
