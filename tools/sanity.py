# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Run every `ansible-test sanity` test that applies, for the Python that runs this, without containers.

usage: tools/sanity.py [ansible-test sanity options]

ansible-test looks at a collection only below a directory named ansible_collections, finds other collections only beside
it, and keeps its own files in the home directory. So this works on a copy of the work tree in build/sanity, with
kubernetes.core linked beside it and .cache/sanity-home as home. The copy is without the tests, which nobody installs
and the suite `lint` reads: pylint would take longer for them than for all the rest.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ansible_test
from make_collections import CACHE, COLLECTIONS, CORE, ROOT, project_files

HOME = CACHE / "sanity-home"
COPY = ROOT / "build" / "sanity" / "ansible_collections"

# ansible-test fetches a pip installer for its environments from a server of its own; it takes this in its place.
GET_PIP = """\
import ensurepip

ensurepip.bootstrap()
"""


def make_copy() -> Path:
    shutil.rmtree(COPY, ignore_errors=True)
    target = COPY / "kubeferry" / "pvc"
    for source in project_files():
        name = source.relative_to(ROOT)
        if name.parts[0] != "tests":
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, path, follow_symlinks=False)
    # Below this project's own repository the copy would be one of its ignored folders, and ansible-test skips those.
    subprocess.run(["git", "init", "--quiet", target], check=True)
    (COPY / "kubernetes").mkdir()
    (COPY / "kubernetes" / "core").symlink_to(COLLECTIONS / CORE)
    return target


def make_home() -> None:
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    requirements = Path(ansible_test.__path__[0], "_internal", "python_requirements.py").read_text()
    for version in re.findall(r"pip='([\d.]+)'", requirements):
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    # ansible-test clears the environment, so pip's settings must be in a file; and the user's downloads serve here too.
    pip = HOME / ".config" / "pip"
    pip.mkdir(parents=True, exist_ok=True)
    settings = {
        key[4:].lower().replace("_", "-"): value
        for key, value in os.environ.items()
        if key.startswith("PIP_")
    }
    settings.setdefault("cache-dir", pip_cache())
    lines = [f"{key} = {value.replace('%', '%%')}" for key, value in sorted(settings.items())]
    (pip / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))


def pip_cache() -> str:
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> None:
    with (CACHE / "sanity.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the copy is one place for all
        status = run()
    sys.exit(status)


def run() -> int:
    copy = make_copy()
    make_home()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    environment = os.environ | {"HOME": str(HOME)}
    ansible_test_command = str(Path(sys.executable).parent / "ansible-test")
    command = [ansible_test_command, "sanity", "--color", "no", "--python", version, *sys.argv[1:]]
    status = subprocess.run(command, cwd=copy, env=environment, check=False).returncode
    print(f"Python {version} only: the compile and import tests were not run for other versions", flush=True)
    return status


if __name__ == "__main__":
    main()
