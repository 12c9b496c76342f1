# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The server's certificate and its key, refused with a sentence that says which of them is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from .errors import SettingsError


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """The TLS context of a server; without `key` it is in the file of the certificate. Raises SettingsError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    named = f"KUBEFERRY_TLS_KEY={key}" if key else f"KUBEFERRY_TLS_CERT={cert}"
    _check_readable(f"KUBEFERRY_TLS_CERT={cert}", cert)
    _check_readable(named, key or cert)

    def refuse() -> NoReturn:
        # OpenSSL would ask at the terminal, and wait there for somebody who isn't there.
        raise SettingsError(
            f"{named} has a key with a passphrase, which nobody is asked for: keep the key without one, as "
            "`openssl pkey -in KEY -out NEW` writes it, readable for the server alone."
        )

    try:
        ssl.create_default_context(cafile=cert)
    except ssl.SSLError:
        raise SettingsError(f"KUBEFERRY_TLS_CERT={cert} has no certificate in PEM.") from None
    try:
        context.load_cert_chain(cert, key or None, password=refuse)
    except ssl.SSLError as error:
        raise SettingsError(_why(error, cert, key)) from None
    return context


def _check_readable(named: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{named} can't be read: {error.strerror}.") from None


def _why(error: ssl.SSLError, cert: str, key: str) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"KUBEFERRY_TLS_KEY={key} isn't the key of the certificate in KUBEFERRY_TLS_CERT={cert}."
    if error.reason:
        return f"The TLS certificate {cert} can't be used: {error}"
    if key:
        return f"KUBEFERRY_TLS_KEY={key} has no private key in PEM."
    return f"KUBEFERRY_TLS_CERT={cert} has no private key: name the file that has it in KUBEFERRY_TLS_KEY."
