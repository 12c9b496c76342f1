# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Digests of what is at hand on this machine."""

from __future__ import annotations

import hashlib


def hasher(checksum: str, data: bytes = b"") -> hashlib._Hash:
    """A digest of `data`, to which more can be added. `checksum` is the algorithm's name in hashlib."""
    # MD5 and SHA-1 serve here against accidents only, so they are allowed in FIPS mode too.
    digest: hashlib._Hash = getattr(hashlib, checksum)(data, usedforsecurity=False)
    return digest
