# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What may stand in a header of ours: a value with a line break in it would bring a header of its own.

The messages name where a value came from and never the value: Ansible knows a secret only in one piece.
"""

from __future__ import annotations

import base64
import re

from ._errors import UsageError

_TEXT = re.compile(r"[!-~]([ -~]*[!-~])?")
_PROOF = re.compile(r"[!-~]+")


def basic(user: str, password: str) -> str:
    """The value of a header that gives a user and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def text(value: object, named: str) -> str:
    """`value` as it may be sent. `named` says where it came from."""
    if _TEXT.fullmatch(str(value)):
        return str(value)
    raise UsageError(
        f"{named} can't be sent in a header, which takes printable ASCII alone: check it for line breaks, blanks "
        "around it and other letters."
    )


def authorization(value: object, named: str) -> str:
    """`value`, a scheme and a token, as it may be sent. A file's line break at its end is no part of the token."""
    scheme, _blank, token = str(value).strip().partition(" ")
    token = token.strip()
    if not token:
        raise UsageError(f"{named} is empty: give the token.")
    if not _PROOF.fullmatch(token):
        raise UsageError(
            f"{named} has a blank, a line break or another character inside that no token has: copy it anew, in one "
            "piece and by itself."
        )
    return f"{scheme} {token}"
