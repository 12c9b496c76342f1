# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Make a virtual environment from requirements/.

usage: tools/make_venv.py dev|run|lock

dev   .cache/venv, with everything the checks need
run   .cache/venv-run, with what a playbook and the event server need
lock  write the newest versions that go together to requirements/constraints.txt

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
CONSTRAINTS = REQUIREMENTS / "constraints.txt"
LOCK_HEADER = """\
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
#
# The one place of exact versions. `make lock` writes it.
"""


def make(target: Path, *arguments: str | Path) -> Path:
    """Make an environment with what the arguments of `pip install` name, and return the command that is its pip."""
    print(f"making {target.relative_to(ROOT)}", file=sys.stderr, flush=True)
    venv.create(target, clear=True, with_pip=True)
    pip = target / "bin" / "pip"
    command = [pip, "install", "--quiet", "--disable-pip-version-check", *arguments]
    if status := subprocess.run(command, check=False).returncode:
        sys.exit(status)
    return pip


def make_current(target: Path, requirements: Path) -> None:
    # Scripts in an environment hold absolute paths, so the place it was made in counts as well.
    digest = hashlib.sha256(f"{sys.version}\0{sys.base_prefix}\0{ROOT}\0".encode())
    for path in sorted(REQUIREMENTS.glob("*.txt")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    stamp = target / ".key"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    make(target, "-r", requirements, "-c", CONSTRAINTS)
    stamp.write_text(digest.hexdigest())


def lock_versions() -> None:
    pip = make(CACHE / "venv-lock", "--upgrade", "-r", REQUIREMENTS / "dev.txt")
    frozen = subprocess.run([pip, "freeze"], stdout=subprocess.PIPE, text=True, check=True).stdout
    CONSTRAINTS.write_text(LOCK_HEADER + frozen)
    shutil.rmtree(CACHE / "venv-lock")


def main() -> None:
    action = {
        "dev": lambda: make_current(CACHE / "venv", REQUIREMENTS / "dev.txt"),
        "run": lambda: make_current(CACHE / "venv-run", REQUIREMENTS / "run.txt"),
        "lock": lock_versions,
    }.get(" ".join(sys.argv[1:]))
    if action is None:
        sys.exit(__doc__)
    if sys.version_info < (3, 11):
        sys.exit(
            f"{sys.executable} is Python {sys.version.split()[0]}; 3.11 or later is needed: make PYTHON=..."
        )
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once would fill the same directory
        action()


if __name__ == "__main__":
    main()
