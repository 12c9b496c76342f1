# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""An image with this machine's Python and what the event server needs, out of .cache/venv.

It is made when a scenario asks for it and not with the others: it takes some seconds, and few tests need it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .build import cache_directory
from .errors import ClusterError
from .images import Layer, archive, libraries
from .node import Node
from .proc import run

NAME = "docker.io/kubeferry/events-python:1"
# Of the standard library: what no server imports, and what only compilers need.
LEFT_OUT = (
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "site-packages",
    "__pycache__",
    "config-",
)
# Run by that Python: where its parts are, and the files of the packages that a requirements file names, with all that
# those need in turn.
LIST = r"""
import json, re, sys, sysconfig
from importlib.metadata import distribution
from packaging.requirements import Requirement
wanted = [line.strip() for line in open(sys.argv[1]) if line.strip() and not line.startswith("#")]
files, seen = {}, set()
while wanted:
    requirement = Requirement(wanted.pop())
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
        continue
    seen.add(name)
    package = distribution(name)
    wanted += package.requires or []
    for file in package.files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            files[str(file)] = str(package.locate_file(file))
base = {"installed_base": sys.base_prefix, "base": sys.base_prefix}
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "program": sys._base_executable,
                  "library": sysconfig.get_path("stdlib", vars=base), "packages": files}))
"""


def layer(python: Path, requirements: Path) -> Layer:
    """The image's content."""
    parts = json.loads(run([python, "-c", LIST, requirements]).stdout)
    made = Layer()
    made.common()
    made.busybox()
    library = f"usr/local/lib/python{parts['version']}"
    _add(made, Path(parts["program"]).resolve(), "usr/local/bin/python3", 0o755)
    base = Path(parts["library"])
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base)
        if path.is_file() and not any(part.startswith(LEFT_OUT) for part in name.parts):
            _add(made, path, f"{library}/{name}")
    for name, path in sorted(parts["packages"].items()):
        if Path(path).is_file():
            _add(made, Path(path), f"{library}/site-packages/{name}")
    return made


def _add(made: Layer, path: Path, target: str, mode: int = 0o644) -> None:
    made.files[target] = (mode, path.read_bytes())
    for parent in Path(target).parents:
        if parent != Path("."):
            made.directories.setdefault(str(parent), 0o755)
    if path.suffix == ".so" or mode == 0o755:
        for needed in libraries(path):
            # One that lies beside that Python (it may be below a home) goes where the loader looks anyway.
            system = str(needed).startswith(("/lib", "/usr/lib"))
            name = str(needed).lstrip("/") if system else f"usr/lib/{needed.name}"
            if name not in made.files:
                made.files[name] = (0o755, needed.read_bytes())
                for parent in Path(name).parents:
                    if parent != Path("."):
                        made.directories.setdefault(str(parent), 0o755)


def load(nodes: list[Node], checkout: Path) -> str:
    """Make the image unless the cache has it, give it to every node, and return its name."""
    python = checkout / ".cache" / "venv" / "bin" / "python"
    if not python.exists():
        raise ClusterError("There is no .cache/venv to make the image of; `make venv` makes it.")
    requirements = checkout / "roles" / "event_server" / "files" / "requirements.txt"
    digest = hashlib.sha256(Path(__file__).read_bytes() + requirements.read_bytes())
    digest.update(
        (checkout / "requirements" / "constraints.txt").read_bytes() + str(python.stat().st_mtime).encode()
    )
    path = cache_directory() / f"events-python-{digest.hexdigest()[:12]}.tar"
    if not path.exists():
        draft = path.with_suffix(".new")
        draft.write_bytes(archive(NAME, layer(python, requirements).tar(), ["/usr/local/bin/python3"]))
        draft.replace(path)
    for node in nodes:
        node.ctr("images", "import", path, timeout=180)
    return NAME
