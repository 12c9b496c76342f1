# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A real OpenID Connect provider (npm's oidc-provider) on loopback, with TLS from an authority of its own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "server" / "oidc"
INSTALLED = ROOT / ".cache" / "oidc"
FILES = ("package.json", "package-lock.json", "provider.mjs")


@dataclass(frozen=True)
class Issuer:
    """A provider that runs."""

    url: str
    authority: Path


def install() -> None:
    """Put the provider's packages below .cache, unless they are there."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm: apt-get install nodejs npm")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    stamp = INSTALLED / "installed.json"
    lock = (SOURCE / "package-lock.json").read_text()
    for name in FILES:
        shutil.copy(SOURCE / name, INSTALLED / name)
    if not stamp.exists() or stamp.read_text() != lock:
        subprocess.run(
            ["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=INSTALLED, check=True, timeout=120
        )
        stamp.write_text(lock)


def make_certificate(directory: Path) -> None:
    """ca.pem, and cert.pem with key.pem for 127.0.0.1."""
    now = dt.datetime.now(dt.UTC)

    def issue(
        name: str,
        signer: ec.EllipticCurvePrivateKey,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        *,
        ca: bool,
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(f"CN={name}"))
            .issuer_name(x509.Name.from_rfc4514_string(f"CN={issuer}"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (directory / "ca.pem").write_bytes(
        issue("test authority", authority, authority, "test authority", ca=True)
    )
    (directory / "cert.pem").write_bytes(issue("127.0.0.1", authority, key, "test authority", ca=False))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(private)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def issuer(directory: Path, redirect_uri: str) -> Iterator[Issuer]:
    """Run the provider for one client, `kubeferry`, that is sent back to `redirect_uri`."""
    install()
    make_certificate(directory)
    port = free_port()
    command = [
        "node",
        "provider.mjs",
        str(port),
        str(directory / "cert.pem"),
        str(directory / "key.pem"),
        redirect_uri,
    ]
    with (
        (directory / "issuer.log").open("wb") as log,
        subprocess.Popen(command, cwd=INSTALLED, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None
            assert b"ready" in process.stdout.readline(), (directory / "issuer.log").read_text()
            yield Issuer(f"https://127.0.0.1:{port}", directory / "ca.pem")
        finally:
            process.kill()
