# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""TLS to the event server, and what to do where it fails."""

from __future__ import annotations

import ssl

# OpenSSL's numbers of what is wrong with a certificate, as `openssl verify` has them.
_REMEDIES = {
    9: "compare the two machines' clocks",
    10: "renew it at the server",
    **dict.fromkeys((18, 19, 20, 21), "name the file of its authority in ca_cert (KUBEFERRY_EVENTS_CA_CERT)"),
    **dict.fromkeys((62, 64), "write a name into the URL that it is for"),
}


class Unusable(Exception):
    """The file of authorities can't be used; the message says why."""


def context(ca: str | None, verify: bool) -> ssl.SSLContext:
    """Return a TLS context; without `verify` it accepts any certificate. Raises Unusable."""
    try:
        made = ssl.create_default_context(cafile=ca if verify else None)
    except ssl.SSLError:
        raise Unusable(f"ca_cert {ca} has no certificate in PEM") from None
    except OSError as error:
        raise Unusable(f"ca_cert {ca} can't be read ({error.strerror})") from None
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def why(error: ssl.SSLError) -> str:
    """Return why there is no connection, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"the server's certificate is refused: {error.verify_message.rstrip('.')}"
        remedy = _REMEDIES.get(error.verify_code)
        return f"{said}; {remedy}" if remedy else said
    if error.reason == "WRONG_VERSION_NUMBER":
        return "the server answers without TLS there: try ws:// in the URL, or another port"
    return str(error.strerror or error)
