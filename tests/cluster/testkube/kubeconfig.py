# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Writing kubeconfig files."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from .pki import Pki
from .proc import write_if_changed


def write(path: Path, server: str, pki: Pki, user: str, certificate: str, namespace: str = "default") -> None:
    """Write a kubeconfig for ``user``, who holds ``certificate``, that needs no other file.

    JSON is YAML, so no YAML library is needed to write one.
    """

    def embedded(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "kubeferry",
                "cluster": {"server": server, "certificate-authority-data": embedded(pki.certificate("ca"))},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": embedded(pki.certificate(certificate)),
                    "client-key-data": embedded(pki.key(certificate)),
                },
            }
        ],
        "contexts": [
            {"name": user, "context": {"cluster": "kubeferry", "user": user, "namespace": namespace}},
        ],
        "current-context": user,
    }
    write_if_changed(path, json.dumps(config, indent=1) + "\n")
