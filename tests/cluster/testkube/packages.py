# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The Debian packages that the cluster needs, installed when they are missing and that is possible."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .errors import ClusterError
from .nodeconfig import CNI_PLUGINS
from .proc import run

# program -> package
PROGRAMS = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "busybox": "busybox-static",
    "rsync": "rsync",
    "getfattr": "attr",
    "getfacl": "acl",
    "openssl": "openssl",
    "nsenter": "util-linux",
    "mount": "mount",
}
POLICY = Path("/usr/sbin/policy-rc.d")
DAEMONS = {"etcd-server": "etcd", "containerd": "containerd"}


def _missing() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}
    if not any((Path(directory) / "ptp").exists() for directory in CNI_PLUGINS):
        missing.add("containernetworking-plugins")
    return sorted(missing)


def require_root() -> None:
    """Raise ClusterError unless this is root on Linux."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        raise ClusterError("A test cluster needs root on Linux; or use one you have, by KUBECONFIG=...")


def ensure() -> None:
    """Install what is missing, or say in one sentence why that cannot be done here."""
    missing = _missing()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"Please install {', '.join(missing)} (there is no apt-get here to do it).")
    print(f"Installing {', '.join(missing)} ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], timeout=300, env=environment)
    # The packages of daemons start them, and at every boot again; the cluster runs its own.
    guarded = not POLICY.exists()
    if guarded:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        run(["apt-get", "install", "-y", "--no-install-recommends", *missing], timeout=900, env=environment)
    finally:
        if guarded:
            POLICY.unlink()
    for package, unit in DAEMONS.items():
        if package in missing and shutil.which("systemctl"):
            run(["systemctl", "disable", unit], check=False)
    if still := _missing():
        raise ClusterError(f"Installing packages did not bring {', '.join(still)}.")
