# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Files for TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PASSPHRASE = b"passphrase"


def self_signed(
    key: ec.EllipticCurvePrivateKey, *extensions: tuple[x509.ExtensionType, bool]
) -> x509.Certificate:
    """A certificate for 127.0.0.1 with further `extensions`, each with whether it is critical."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubeferry test")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    for extension, critical in ((address, False), *extensions):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())


def make_keys(directory: Path) -> Path:
    """Write cert.pem, for 127.0.0.1 and signed by itself, its key as key.pem, and as locked.pem with a passphrase."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = self_signed(key)
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    for file, lock in (
        ("key.pem", serialization.NoEncryption()),
        ("locked.pem", serialization.BestAvailableEncryption(PASSPHRASE)),
    ):
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        (directory / file).write_bytes(text)
    return directory
