# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What Galaxy makes of the archive, and the site that is built from its documentation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
PUBLISH = CACHE / "venv-publish" / "bin"
BUILD = ROOT / "build"

# What the pages refer to in the documentation of Ansible, which isn't fetched.
ANSIBLES = ("ansible_configuration_settings", "callback_plugins", "common_return_values")

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="session")
def archive() -> Path:
    (found,) = (CACHE / "archive").glob("*.tar.gz")
    return found


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """What a command of .cache/venv-publish prints, run where nothing else of this project is seen."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**kept, "PATH": f"{PUBLISH}:/usr/bin:/bin", "NO_COLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=350,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_archive_has_what_users_need_and_is_named_for_its_version(archive):
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    assert archive.name == f"kubeferry-pvc-{galaxy['version']}.tar.gz"
    assert re.fullmatch(r"0\.\d+\.\d+", galaxy["version"]), "1.0.0 is a promise that isn't made yet"
    with tarfile.open(archive) as opened:
        names = set(opened.getnames())
    for wanted in (
        "meta/execution-environment.yml",
        "docs/docsite/rst/awx.rst",
        "docs/docsite/extra-docs.yml",
    ):
        assert wanted in names
    for own in ("meta/ee-requirements.txt", "meta/ee-bindep.txt"):
        assert own in names
    assert not [
        name for name in names if name.startswith(("tests", "tools", "requirements", "extensions", "."))
    ]
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert len(linked) > 5
    assert [link for link in linked if link not in names] == []


def test_nothing_was_added_after_this_version():
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    sources = [path for kind in ("*.py", "*.yml") for path in (ROOT / "plugins").rglob(kind)]
    added = {each for path in sources for each in re.findall(r"version_added: ([\d.]+)", path.read_text())}
    numbers = {each: [int(part) for part in each.split(".")] for each in (*added, version)}
    assert {each for each in added if numbers[each] > numbers[version]} == set()
    server = (ROOT / "roles/event_server/files/kubeferry_events/__init__.py").read_text()
    assert f'__version__ = "{version}"' in server


def test_galaxy_imports_it_without_a_word_of_complaint(archive, tmp_path):
    """All that Galaxy itself does but ansible-lint, which the suite lint runs on the same files."""
    settings = tmp_path / "galaxy-importer.cfg"
    settings.write_text(
        "[galaxy-importer]\nCHECK_REQUIRED_TAGS = True\nRUN_ANSIBLE_LINT = False\nANSIBLE_LOCAL_TMP = /tmp\n"
    )
    said = run(
        PUBLISH / "python",
        "-m",
        "galaxy_importer.main",
        archive,
        GALAXY_IMPORTER_CONFIG=str(settings),
        cwd=tmp_path,
    )
    assert "Importer processing completed successfully" in said
    assert "Getting doc strings" in said
    assert not re.findall(r"^(?:ERROR|WARNING).*", said, re.MULTILINE), said


def test_the_site_is_built_from_the_documentation():
    """A page for each module, plugin, role and guide; the one warning of Sphinx is of pages that Ansible itself has."""
    site = BUILD / "docsite"
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(CACHE / "collections")}
    options = ["--use-current", "--squash-hierarchy", "--dest-dir", site]
    run(PUBLISH / "antsibull-docs", "sphinx-init", *options, "kubeferry.pvc", **collections)
    with (site / "conf.py").open("a") as settings:
        settings.write("intersphinx_mapping = {}  # nothing is fetched\n")
    script = site / "build.sh"
    script.write_text(script.read_text().replace(" -W --keep-going", ""))
    said = run("bash", script, **collections)
    warnings = re.findall(r"WARNING: (.*)", said)
    assert {re.sub(r" \[.*", "", each) for each in warnings} == {
        f"undefined label: '{each}'" for each in ANSIBLES
    }
    pages = {path.stem for path in (site / "build/html").rglob("*.html")}
    guides = {path.stem for path in (ROOT / "docs/docsite/rst").glob("*.rst")}
    assert guides
    modules = {f"{path.stem}_module" for path in (ROOT / "plugins/modules").glob("pvc_*.py")}
    roles = {f"{path.name}_role" for path in (ROOT / "roles").iterdir()}
    assert pages >= guides | modules | roles | {"events_callback", "index"}
