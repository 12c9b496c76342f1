# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Make the collection trees under .cache.

usage: tools/make_collections.py core|source|archive

core     .cache/collections/ansible_collections/kubernetes/core and …/awx/awx, taken out of the package that
         requirements/collections.txt names
source   core, and .cache/src/ansible_collections/kubeferry/pvc as a link to this work tree: what mypy and the unit
         tests import
archive  core, and .cache/collections/ansible_collections/kubeferry/pvc built and installed from this work tree: what
         playbooks and molecule run, so that a file missing from the archive is missed by a test

Each does nothing where its result is up to date. Run by the Python of a virtual environment that has ansible-core.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
COLLECTIONS = CACHE / "collections"
SOURCE = CACHE / "src" / "ansible_collections"
CORE = "ansible_collections/kubernetes/core/"
# The second one is what extensions/awx/setup.yml is written in.
CARRIED = (CORE, "ansible_collections/awx/awx/")
# What a user gets, at the top of the archive.
ARCHIVED = {
    "ARCHITECTURE.md",
    "CHANGELOG.rst",
    "CONTRIBUTING.md",
    "COPYING",
    "FILES.json",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}


def is_current(stamp: Path, key: str) -> bool:
    return stamp.exists() and stamp.read_text() == key


def run(*command: str | Path) -> None:
    """Run a command; show what it printed only when it failed."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.stderr.buffer.write(done.stdout)
        sys.exit(f"{command[0]}: exit status {done.returncode}")


def make_core() -> None:
    requirement = ROOT / "requirements" / "collections.txt"
    key = hashlib.sha256(requirement.read_bytes() + repr(CARRIED).encode()).hexdigest()
    stamp = COLLECTIONS / "kubernetes.key"
    if is_current(stamp, key):
        return
    download = CACHE / "download"
    shutil.rmtree(download, ignore_errors=True)
    for carried in CARRIED:
        shutil.rmtree(COLLECTIONS / carried, ignore_errors=True)
    print("taking the collections out of the package that carries them", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "download", "--no-deps", "--only-binary", ":all:", "--dest", download, "-r", requirement)
    (wheel,) = download.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(COLLECTIONS, [name for name in archive.namelist() if name.startswith(CARRIED)])
    shutil.rmtree(download)
    stamp.write_text(key)


def make_source() -> None:
    for link, target in (
        (SOURCE / "kubeferry" / "pvc", ROOT),
        (SOURCE / "kubernetes" / "core", COLLECTIONS / CORE),
    ):
        link.parent.mkdir(parents=True, exist_ok=True)
        wanted = os.path.relpath(target, link.parent)
        if not link.is_symlink() or str(link.readlink()) != wanted:
            link.unlink(missing_ok=True)
            link.symlink_to(wanted)


def project_files() -> list[Path]:
    """Return every file that is tracked or new and not ignored, as it is in the work tree now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    files = {ROOT / name.decode() for name in names.split(b"\0") if name}
    return sorted(path for path in files if path.is_symlink() or path.is_file())


def tree_key(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{path.lstat().st_mode:o}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def make_archive() -> None:
    key = tree_key(project_files())
    installed = COLLECTIONS / "ansible_collections" / "kubeferry" / "pvc"
    stamp = COLLECTIONS / "kubeferry.key"
    if is_current(stamp, key):
        return
    shutil.rmtree(installed, ignore_errors=True)
    output = CACHE / "archive"
    shutil.rmtree(output, ignore_errors=True)
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    run(galaxy, "collection", "build", "--output-path", output, ROOT)
    (archive,) = output.glob("*.tar.gz")
    run(galaxy, "collection", "install", "--offline", "--no-deps", "--force", "-p", COLLECTIONS, archive)
    if strange := {path.name for path in installed.iterdir()} - ARCHIVED:
        sys.exit(
            f"in the archive and not meant for users: {', '.join(sorted(strange))}; see build_ignore in galaxy.yml"
        )
    stamp.write_text(key)


def main() -> None:
    steps = {
        "core": [make_core],
        "source": [make_core, make_source],
        "archive": [make_core, make_archive],
    }.get(" ".join(sys.argv[1:]))
    if steps is None:
        sys.exit(__doc__)
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "collections.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for step in steps:
            step()


if __name__ == "__main__":
    main()
