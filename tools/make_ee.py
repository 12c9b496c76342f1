# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Make what an execution environment of extensions/awx is made of, without an image.

usage: tools/make_ee.py

build/ee/collections       the collections that the definition brings, as links
build/ee/context           the build context that ansible-builder makes of the definition
build/ee/requirements.txt  the Python packages that ansible-builder finds the collections to need, and bindep.txt the
                           system's
.cache/venv-ee             an environment with these packages and those that the definition names, and nothing else

Needs .cache/venv-publish and .cache/collections. Does nothing where the environment is up to date.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from make_collections import COLLECTIONS
from make_venv import CACHE, REQUIREMENTS, ROOT, make

BUILDER = CACHE / "venv-publish" / "bin" / "ansible-builder"
DEFINITION = ROOT / "extensions" / "awx" / "execution-environment.yml"
OUTPUT = ROOT / "build" / "ee"
TARGET = CACHE / "venv-ee"
# .cache/collections has more than an execution environment gets.
NAMES = ("kubeferry/pvc", "kubernetes/core")


def build() -> None:
    """Let ansible-builder make the context, and find what the collections need."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    for name in NAMES:
        link = OUTPUT / "collections" / "ansible_collections" / name
        link.parent.mkdir(parents=True)
        link.symlink_to(COLLECTIONS / "ansible_collections" / name)
    context: list[str | Path] = ["create", "--file", DEFINITION, "--context", OUTPUT / "context"]
    # Its name would follow from the container engine that this machine happens to have.
    context += ["--output-filename", "Containerfile"]
    # The build does the same inside the image, with the names to leave out from the same definition.
    excluded = OUTPUT / "context" / "_build" / "exclude-bindep.txt"
    found: list[str | Path] = ["introspect", OUTPUT / "collections", "--exclude-bindep-reqs", excluded]
    written: list[str | Path] = [
        "--write-pip",
        OUTPUT / "requirements.txt",
        "--write-bindep",
        OUTPUT / "bindep.txt",
    ]
    for arguments in (context, [*found, *written]):
        done = subprocess.run([BUILDER, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"ansible-builder {arguments[0]}: {done.stdout}{done.stderr}")


def install() -> None:
    named = yaml.safe_load(DEFINITION.read_text())["dependencies"]
    packages = [named[key]["package_pip"] for key in ("ansible_core", "ansible_runner")]
    found = OUTPUT / "requirements.txt"
    constraints = REQUIREMENTS / "constraints.txt"
    key = f"{sys.version}\0{ROOT}\0{packages}\0{found.read_text()}\0{constraints.read_text()}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    stamp = TARGET / ".key"
    if stamp.exists() and stamp.read_text() == digest:
        return
    make(TARGET, "-r", found, *packages, "-c", constraints)
    stamp.write_text(digest)


def main() -> None:
    if sys.argv[1:]:
        sys.exit(__doc__)
    with (CACHE / "ee.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build()
        install()


if __name__ == "__main__":
    main()
