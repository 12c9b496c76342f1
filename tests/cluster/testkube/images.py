# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The few images that pods run, made from programs of this machine: nothing can be, or need be, pulled.

An image is a tar with a manifest, a configuration and one layer. The same programs always give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import busybox
from .build import cache_directory
from .errors import ClusterError
from .node import Node
from .nodeconfig import PAUSE_IMAGE
from .proc import run

BUSYBOX = "docker.io/library/busybox:1.37"
BUSYBOX_RSYNC = "docker.io/kubeferry/busybox-rsync:1"
BUSYBOX_OPENSSL = "docker.io/kubeferry/busybox-openssl:1"
DEBIAN_TOOLS = "docker.io/kubeferry/debian-tools:1"
DEBIAN_PACKAGES = (
    "bash", "coreutils", "findutils", "tar", "gzip", "grep", "sed", "rsync", "attr", "acl", "openssl", "util-linux",
)  # fmt: skip
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"
EPOCH = 1_700_000_000  # every file of an image has this time, so that the image's digest is stable


@dataclass
class Layer:
    """The content of an image, by path without the leading slash."""

    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    directories: dict[str, int] = field(default_factory=dict)
    symlinks: dict[str, str] = field(default_factory=dict)
    hardlinks: dict[str, str] = field(default_factory=dict)

    def tar(self) -> bytes:
        """The layer as an uncompressed tar, in a fixed order."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:

            def add(name: str, kind: bytes, mode: int, link: str = "", data: bytes = b"") -> None:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode, entry.linkname = kind, mode, link
                entry.size, entry.mtime = len(data), EPOCH
                tar.addfile(entry, io.BytesIO(data))

            for name, mode in sorted(self.directories.items()):
                add(name, tarfile.DIRTYPE, mode)
            for name, link in sorted(self.symlinks.items()):
                add(name, tarfile.SYMTYPE, 0o777, link)
            for name, (mode, data) in sorted(self.files.items()):
                add(name, tarfile.REGTYPE, mode, data=data)
            for name, link in sorted(self.hardlinks.items()):
                add(name, tarfile.LNKTYPE, 0o755, link)
        return buffer.getvalue()

    def common(self) -> None:
        """The directories and account files that every image has."""
        self.directories |= dict.fromkeys(("bin", "etc", "home", "mnt", "usr", "usr/bin", "var"), 0o755)
        self.directories |= {"root": 0o700, "tmp": 0o1777}
        self.files |= {"etc/passwd": (0o644, PASSWD.encode()), "etc/group": (0o644, GROUP.encode())}

    def busybox(self) -> None:
        """BusyBox, under the name of each of its applets, as in the well-known image.

        Debian's is built without `split`, which that image has; it gets coreutils' one.
        """
        program = busybox.program()
        self.files["bin/busybox"] = (0o755, program.read_bytes())
        for applet in run([program, "--list"]).stdout.split():
            if applet != "busybox":
                self.hardlinks[f"bin/{applet}"] = "bin/busybox"
        if "bin/split" not in self.hardlinks:
            self.program(Path("/usr/bin/split"), "bin/split")
        self.symlinks["usr/bin/env"] = "../../bin/env"

    def program(self, path: Path, target: str) -> None:
        """The program ``path`` as ``target``, with the shared libraries that it needs."""
        self.files[target] = (0o755, path.read_bytes())
        for library in libraries(path):
            name = str(library).lstrip("/")
            self.files[name] = (0o755, library.read_bytes())
            for parent in Path(name).parents:
                if parent != Path("."):
                    self.directories.setdefault(str(parent), 0o755)


def libraries(program: Path) -> list[Path]:
    """The shared libraries of ``program``, its loader included; none if it is static or a script."""
    found = []
    for line in run(["ldd", program], check=False).stdout.splitlines():
        words = line.split()
        found += [Path(word) for word in words if word.startswith("/")][:1]
    return found


def _busybox() -> Layer:
    layer = Layer()
    layer.common()
    layer.busybox()
    return layer


def _busybox_rsync() -> Layer:
    layer = _busybox()
    layer.program(Path("/usr/bin/rsync"), "bin/rsync")
    return layer


def _busybox_openssl() -> Layer:
    layer = _busybox()
    layer.program(Path("/usr/bin/openssl"), "bin/openssl")
    return layer


def _debian_tools() -> Layer:
    """The GNU tools that a Debian pod has, each with its libraries; no package manager, no dpkg."""
    layer = Layer()
    layer.common()
    for package in DEBIAN_PACKAGES:
        for line in run(["dpkg", "-L", package]).stdout.splitlines():
            path = Path(line)
            if path.parent.name not in ("bin", "sbin") or not path.exists() or path.is_dir():
                continue
            target = f"bin/{path.name}"
            if path.is_symlink():
                layer.symlinks[target] = path.resolve().name
            else:
                layer.program(path, target)
    layer.symlinks["bin/sh"] = "bash"
    layer.symlinks["usr/bin/env"] = "../../bin/env"
    # a link to a program of another package would dangle
    layer.symlinks = {n: t for n, t in layer.symlinks.items() if "/" in t or f"bin/{t}" in layer.files}
    return layer


IMAGES: dict[str, tuple[Callable[[], Layer], list[str]]] = {
    PAUSE_IMAGE: (_busybox, ["/bin/sleep", "infinity"]),
    BUSYBOX: (_busybox, ["/bin/sh"]),
    BUSYBOX_RSYNC: (_busybox_rsync, ["/bin/sh"]),
    BUSYBOX_OPENSSL: (_busybox_openssl, ["/bin/sh"]),
    DEBIAN_TOOLS: (_debian_tools, ["/bin/bash"]),
}


def archive(name: str, layer: bytes, command: list[str]) -> bytes:
    """An image archive as ``ctr images import`` reads it."""
    machine = os.uname().machine
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {
        "config.json": json.dumps(config, sort_keys=True).encode(),
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for part, data in parts.items():
            entry = tarfile.TarInfo(part)
            entry.size, entry.mtime, entry.mode = len(data), EPOCH, 0o644
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _inputs_digest() -> str:
    """Changes whenever an image would: with this file and with the programs that go in."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in (
        str(busybox.program()),
        "/usr/bin/rsync",
        "/usr/bin/openssl",
        "/bin/tar",
        "/lib64/ld-linux-x86-64.so.2",
    ):
        if Path(name).exists():
            state = Path(name).stat()
            digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def build() -> dict[str, Path]:
    """Make the images that are not in the cache; return the archive of each by name."""
    directory = cache_directory() / f"images-{_inputs_digest()}"
    directory.mkdir(parents=True, exist_ok=True)
    archives = {}
    for name, (make, command) in IMAGES.items():
        path = directory / (name.rsplit("/", 1)[1].replace(":", "-") + ".tar")
        if not path.exists():
            if name == DEBIAN_TOOLS and not Path("/var/lib/dpkg/status").exists():
                continue  # another distribution: the cluster works without this image
            draft = path.with_suffix(".new")
            draft.write_bytes(archive(name, make().tar(), command))
            draft.replace(path)
        archives[name] = path
    return archives


def load(node: Node, archives: dict[str, Path]) -> None:
    """Import the images that ``node`` does not have yet."""
    marker = node.directory / "images.json"
    wanted = {name: str(path) for name, path in archives.items()}
    known = json.loads(marker.read_text()) if marker.exists() else {}
    present = set(node.ctr("images", "ls", "-q").split())
    missing = [path for name, path in wanted.items() if name not in present or known.get(name) != path]
    for path in missing:
        node.ctr("images", "import", path, timeout=120)
    marker.write_text(json.dumps(wanted))
    lost = set(wanted) - set(node.ctr("images", "ls", "-q").split())
    if lost:
        raise ClusterError(f"containerd did not keep the image {min(lost)}.")
