# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""A key for one TLS connection, in the form that OpenSSL reads from a file.

What openssl's options `-psk` take stands in the list of processes. `-psk_session` takes a session from a file, which
may be a pipe; a session of TLS 1.3 has a secret, and both sides that have it know each other by it (RFC 8446, 2.2).
"""

from __future__ import annotations

import base64
import secrets

_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30
_CIPHER = b"\x13\x01"  # TLS_AES_128_GCM_SHA256: its hash is 32 bytes long, and so is the secret
_VERSION, _TLS_1_3 = b"\x01", b"\x03\x04"


def session_key() -> str:
    """A new key: an SSL_SESSION (OpenSSL's ssl/ssl_asn1.c) in base64, without the lines of PEM around it."""
    fields = (
        (_INTEGER, _VERSION),
        (_INTEGER, _TLS_1_3),
        (_OCTETS, _CIPHER),
        (_OCTETS, b""),  # the session's id
        (_OCTETS, secrets.token_bytes(32)),
    )
    body = b"".join(_field(tag, value) for tag, value in fields)
    return base64.b64encode(_field(_SEQUENCE, body)).decode("ascii")


def _field(tag: int, value: bytes) -> bytes:
    """One field in DER, of less than 128 bytes."""
    return bytes((tag, len(value))) + value
