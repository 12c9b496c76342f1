# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Every command of the documentation is run as it is written, or says why not; what it says of messages holds."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from livekit import ROOT, SOURCE, TARGET, helper_pods, in_pod, kubectl, kubectl_program
from snippets import blocks, commands

DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "roles/*/README.md", "extensions/*/README.md", "docs/docsite/rst/*.rst")
    for path in ROOT.glob(pattern)
)
SEED = 'mkdir -p "$1/a" && cd "$1" && echo ten >10 && echo eleven >a/11 && echo fifty-one >a/51'
# A folder of an ordinary user, as the guide for restricted clusters has it.
UPLOADS = 'mkdir -p "$1" && chown 1000:1000 "$1"'

# Documents of parts that have a suite of their own: what they say to type is what that suite does.
ELSEWHERE = {"roles/event_server/README.md": "the molecule scenario event_server runs the role in each mode"}


@pytest.fixture(scope="module")
def claims() -> None:
    """Both claims hold what the documents copy; nothing else in them is touched."""
    subprocess.run([ROOT / "tests" / "cluster" / "cluster", "check"], check=True, timeout=240)
    in_pod(SOURCE, SEED, "/mnt/pvc-0")
    in_pod(TARGET, SEED, "/mnt/pvc-0")
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, UPLOADS, "/mnt/pvc-0/uploads")
    in_pod(SOURCE, 'echo one >"$1/one" && chown 1000:1000 "$1/one"', "/mnt/pvc-0/uploads")
    yield
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, 'cd "$1" && rm -rf 10 a uploads', "/mnt/pvc-0")
        kubectl(
            "delete", "-n", namespace, "rolebinding/ferry", "rolebinding/ferry-migrator", "--ignore-not-found"
        )
    kubectl("delete", "-n", SOURCE, "serviceaccount/ferry", "--ignore-not-found")


def kubeconfig(folder: Path) -> Path:
    """The administrator's, with the contexts that the documents name; both lead to the one cluster of the tests."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    context = config["contexts"][0]["context"]
    config["contexts"] += [{"name": name, "context": context} for name in ("old", "new")]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def shell(tmp_path):
    """Runs a script as a reader does who sits in a directory of their own, and gives what it prints."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").symlink_to(kubectl_program())
    environment = os.environ | {
        "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections"),
        "ANSIBLE_HOME": str(ROOT / ".cache/ansible"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "KUBECONFIG": str(kubeconfig(tmp_path)),
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    return run


def is_suite(command: str) -> bool:
    """`make lint` and the like are run as suites of their own, and `make demo` below."""
    named = re.fullmatch(r"make ([a-z-]+)", command)
    suites = re.search(r"^suites := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return bool(named) and named[1] in {*suites[1].split(), "demo"}


def to_run(document: Path) -> list[str]:
    if str(document) in ELSEWHERE:
        return []
    console = [block for block in blocks(ROOT / document) if block.kind == "console" and not block.why]
    return [block.text for block in console if not all(map(is_suite, commands(block)))]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", [each for each in DOCUMENTS if to_run(each)], ids=str)
def test_commands_do_what_the_document_says(document, claims, shell, tmp_path):
    for block in blocks(ROOT / document):
        if block.name:
            (tmp_path / block.name).write_text(block.text)
    for script in to_run(document):
        output = shell(script)
        assert "Traceback" not in output
        if "kubeferry.pvc.copy" in script and "--check" not in script:
            report = json.loads((tmp_path / "pvc-files/report.json").read_text())
            assert {hop["parity"] for hop in report["hops"].values()} == {True}
    assert helper_pods() == []


@pytest.mark.timeout(300)
def test_the_demo_needs_no_cluster():
    done = subprocess.run(
        ["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 file sent again" in done.stdout
    report = json.loads((ROOT / "build/demo/report.json").read_text())
    assert {hop["parity"] for hop in report["hops"].values()} == {True}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_yaml_is_valid(document):
    for block in blocks(ROOT / document):
        if block.kind == "yaml":
            assert list(yaml.safe_load_all(block.text))


def test_tasks_do_not_stage_where_the_commands_do():
    """Else who tries the one after the other is told that the staging directory has files of something else."""
    document = blocks(ROOT / "README.md")
    staged = [
        place for block in document if block.kind == "yaml" for place in re.findall(r"\./[\w-]+", block.text)
    ]
    assert staged
    assert "./pvc-files" not in staged


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / document).read_text()):
        assert (ROOT / document.parent / target).exists(), target
    for target in re.findall(r"docsite\.(\w+)>", (ROOT / document).read_text()):
        assert (ROOT / "docs/docsite/rst" / f"{target}.rst").exists(), target


def test_the_roles_in_the_documents_are_those_that_the_tests_use():
    documented = [
        each
        for document in ("README.md", "docs/docsite/rst/rbac.rst")
        for block in blocks(ROOT / document)
        if "kind: Role\n" in block.text
        for each in yaml.safe_load_all(block.text)
        if each and each["kind"] == "Role"
    ]
    manifests = ROOT / "tests" / "cluster" / "manifests"
    copier, migrator = (
        yaml.safe_load((manifests / f"{name}-role.yaml").read_text()) for name in ("copier", "migrator")
    )
    assert documented == [copier, migrator] * 2


def said() -> list[str]:
    """Every text that the modules and playbooks may say, with `…` in place of what is filled in."""
    texts = []
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_messages_of_the_troubleshooting_guide_exist():
    guide = (ROOT / "docs/docsite/rst/troubleshooting.rst").read_text()
    messages = re.findall(r"^  \* - ``(.+)``$", guide, re.MULTILINE)
    assert len(messages) > 15
    texts = "\n".join(said())
    for message in messages:
        pattern = "[^\n]*".join(re.escape(part.strip()) for part in message.split("…"))
        assert re.search(pattern, texts), message
