# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Make an environment for each version of ansible-core that the collection supports.

usage: tools/make_cores.py

.cache/cores/core-<version> for each version whose Python is found here: 2.19 is in .cache/venv, 2.20 and 2.21 need 3.12
or 3.13, as `python3.12` on PATH or below pyenv's versions. Prints one line for each version: its number, and its
ansible-playbook or the reason why there is none. Does nothing where an environment is up to date.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from make_venv import CACHE, INSTALL, REQUIREMENTS, ROOT

CONSTRAINTS = REQUIREMENTS / "constraints.txt"
# Versions of ansible-core and of the Pythons that run them, the first choice first. The one that constraints.txt names
# is in .cache/venv already.
CORES: dict[str, Sequence[str]] = {"2.20": ("3.12", "3.13"), "2.21": ("3.13", "3.12")}
CURRENT = "2.19"


class NotHere(Exception):
    """An environment can't be made; the message says why."""


def pythons(version: str) -> Iterator[Path]:
    """Yield the interpreters of a Python version that run here."""
    found = [Path(path) for path in [shutil.which(f"python{version}")] if path]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)
    for path in found:
        # pyenv puts a command of that name on PATH even where it then refuses to run.
        asked = subprocess.run([path, "-c", ""], stderr=subprocess.DEVNULL, check=False)
        if not asked.returncode:
            yield path


def make(version: str) -> Path:
    """Return ansible-playbook of a version of ansible-core. Raises NotHere."""
    if version == CURRENT:
        return Path(sys.executable).parent / "ansible-playbook"
    python = next((path for wanted in CORES[version] for path in pythons(wanted)), None)
    if python is None:
        raise NotHere(f"ansible-core {version} needs Python {' or '.join(CORES[version])}, and none is here")
    target = CACHE / "cores" / f"core-{version}"
    pinned = re.search(r"^websocket-client==.*$", CONSTRAINTS.read_text(), re.MULTILINE)
    wanted = [f"ansible-core~={version}.0", pinned[0] if pinned else "websocket-client"]
    key = hashlib.sha256(f"{python}\0{ROOT}\0{wanted}".encode()).hexdigest()
    stamp = target / ".key"
    if not (stamp.exists() and stamp.read_text() == key):
        print(f"making {target.relative_to(ROOT)}", file=sys.stderr, flush=True)
        pip: list[str | Path] = [target / "bin" / "pip", *INSTALL]
        steps: list[list[str | Path]] = [[python, "-m", "venv", "--clear", target], [*pip, *wanted]]
        for command in steps:
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                raise NotHere(f"ansible-core {version} could not be installed")
        stamp.write_text(key)
    return target / "bin" / "ansible-playbook"


def main() -> None:
    if sys.argv[1:]:
        sys.exit(__doc__)
    (CACHE / "cores").mkdir(parents=True, exist_ok=True)
    with (CACHE / "cores" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for version in (CURRENT, *CORES):
            try:
                print(version, make(version))
            except NotHere as reason:
                print(version, reason)


if __name__ == "__main__":
    main()
