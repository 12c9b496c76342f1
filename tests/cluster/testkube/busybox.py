# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The BusyBox that goes into the images: of the release that the well-known image has, not the older one of Debian 12.

Releases from 1.36 on take digests with the CPU's own instructions, some five times as fast as those before, and what a
copy costs depends on it. Where the machine's own is older, a newer Debian's package is unpacked into the cache, from
the mirror that this machine's apt uses anyway. It is not installed.
"""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

from .build import cache_directory
from .errors import ClusterError
from .proc import run

WANTED = (1, 36)
SUITE = "trixie"
PACKAGE = "busybox-static"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def release(program: Path) -> tuple[int, int]:
    """The release of a BusyBox, as (1, 37); (0, 0) of what is none."""
    if not program.exists():
        return (0, 0)
    found = re.match(r"BusyBox v(\d+)\.(\d+)", run([program], check=False).stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


@functools.cache
def program() -> Path:
    """A static BusyBox: the machine's, or a newer one from the cache; the older one where none can be had."""
    own = Path("/bin/busybox").resolve()
    if release(own) >= WANTED:
        return own
    kept = cache_directory() / f"busybox-{SUITE}" / "busybox"
    if release(kept) >= WANTED:
        return kept
    try:
        _fetch(kept)
    except ClusterError as exc:
        version = ".".join(map(str, release(own)))
        print(f"The images have BusyBox {version}, since a newer one can't be had here: {exc}", flush=True)
        return own
    return kept


def _fetch(place: Path) -> None:
    """Unpack the newer package's program at ``place``. Raises ClusterError where that can't be done."""
    draft = place.parent.with_name(place.parent.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    for directory in ("lists/partial", "archives/partial"):
        (draft / directory).mkdir(parents=True)
    (draft / "status").touch()  # as if nothing were installed, so nothing can be in the way
    (draft / "sources").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    apt = [
        "apt-get",
        f"-oDir::Etc::SourceList={draft}/sources",
        "-oDir::Etc::SourceParts=-",
        f"-oDir::State::Lists={draft}/lists",
        f"-oDir::State::Status={draft}/status",
        f"-oDir::Cache::Archives={draft}/archives",
        "-oDir::Cache::pkgcache=",
        "-oDir::Cache::srcpkgcache=",
        "-oAcquire::Languages=none",
        "-oAPT::Sandbox::User=root",
    ]
    print(f"Fetching {PACKAGE} of Debian's {SUITE} for the images ...", flush=True)
    run([*apt, "update"], timeout=300)
    run([*apt, "install", "--download-only", "-y", "--no-install-recommends", PACKAGE], timeout=300)
    packages = list((draft / "archives").glob(f"{PACKAGE}_*.deb"))
    if not packages:
        raise ClusterError(f"apt-get brought no {PACKAGE}.")
    run(["dpkg-deb", "--extract", packages[0], draft / "root"])
    found = next((path for path in (draft / "root").rglob("bin/busybox") if release(path) >= WANTED), None)
    if found is None:
        raise ClusterError(f"what {packages[0].name} holds isn't BusyBox {WANTED[0]}.{WANTED[1]} or newer.")
    place.parent.mkdir(parents=True, exist_ok=True)
    found.replace(place)
    shutil.rmtree(draft)


def _mirror() -> str:
    """Where this machine's apt has Debian from."""
    listed = run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    ).stdout
    for line in listed.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return address
    raise ClusterError("this machine's apt has no mirror of Debian.")
