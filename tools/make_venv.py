# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Make a virtual environment from requirements/.

usage: tools/make_venv.py dev|run|publish|lock

dev      .cache/venv, with everything the checks need
run      .cache/venv-run, with what a playbook and the event server need
publish  .cache/venv-publish, with what an archive is published with
lock     write the newest versions that go together to requirements/*constraints.txt

Does nothing where the environment was already made from the same requirements by the same Python. Needs nothing but
the standard library, because it runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
REQUIREMENTS = ROOT / "requirements"
# The name of each environment's directory, and the file of its exact versions.
ENVIRONMENTS = {
    "dev": ("venv", "constraints.txt"),
    "run": ("venv-run", "constraints.txt"),
    "publish": ("venv-publish", "publish-constraints.txt"),
}
LOCKED = ("dev", "publish")
INSTALL = ("install", "--quiet", "--disable-pip-version-check")
LOCK_HEADER = """\
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
#
# The one place of exact versions for what {name}.txt names. `make lock` writes it.
"""


def make(target: Path, *arguments: str | Path) -> Path:
    """Make an environment with what the arguments of `pip install` name, and return the command that is its pip."""
    print(f"making {target.relative_to(ROOT)}", file=sys.stderr, flush=True)
    venv.create(target, clear=True, with_pip=True)
    pip = target / "bin" / "pip"
    command = [pip, *INSTALL, *arguments]
    if status := subprocess.run(command, check=False).returncode:
        sys.exit(status)
    return pip


def make_current(name: str) -> None:
    directory, constraints = ENVIRONMENTS[name]
    target = CACHE / directory
    # Scripts in an environment hold absolute paths, so the place it was made in counts as well.
    digest = hashlib.sha256(f"{sys.version}\0{sys.base_prefix}\0{ROOT}\0".encode())
    for path in sorted({REQUIREMENTS / "run.txt", REQUIREMENTS / f"{name}.txt", REQUIREMENTS / constraints}):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    stamp = target / ".key"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    make(target, "-r", REQUIREMENTS / f"{name}.txt", "-c", REQUIREMENTS / constraints)
    stamp.write_text(digest.hexdigest())


def lock_versions() -> None:
    for name in LOCKED:
        pip = make(CACHE / "venv-lock", "--upgrade", "-r", REQUIREMENTS / f"{name}.txt")
        frozen = subprocess.run([pip, "freeze"], stdout=subprocess.PIPE, text=True, check=True).stdout
        (REQUIREMENTS / ENVIRONMENTS[name][1]).write_text(LOCK_HEADER.format(name=name) + frozen)
        shutil.rmtree(CACHE / "venv-lock")


def main() -> None:
    action = " ".join(sys.argv[1:])
    if action not in {*ENVIRONMENTS, "lock"}:
        sys.exit(__doc__)
    if sys.version_info < (3, 11):
        sys.exit(
            f"{sys.executable} is Python {sys.version.split()[0]}; 3.11 or later is needed: make PYTHON=..."
        )
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once would fill the same directory
        if action == "lock":
            lock_versions()
        else:
            make_current(action)


if __name__ == "__main__":
    main()
