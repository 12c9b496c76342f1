# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The names that objects in a cluster can have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._errors import UsageError

# What the API server takes as a name (RFC 1123). Anything else would end up in an URL that means something else.
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_OBJECTS = {"namespace": "namespace", "pod": "pod", "container": "container", "pvc": "claim"}
_LONGEST = {"namespace": 63, "pod": 253, "container": 63, "pvc": 253}


ENDPOINTS = ("source", "target", "claim", "chained")
"""The options that hold the options of an endpoint or a claim."""


def check_objects(options: Mapping[str, Any], prefix: str = "") -> None:
    """Raises UsageError if a namespace, pod, container or claim in `options` has a name that none can have.

    An empty one would be left out of an URL, which means all namespaces then.
    """
    for key, what in _OBJECTS.items():
        name = options.get(key)
        if name == "":
            raise UsageError(
                f"{prefix}{key} is empty: give the name of a {what}, or leave it out where it isn't needed."
            )
        if name is not None and len(name) > _LONGEST[key]:
            raise UsageError(
                f"{prefix}{key}: a {what} has a name of up to {_LONGEST[key]} characters: correct it."
            )
        if name is not None and not _OBJECT.fullmatch(name):
            raise UsageError(
                f"{prefix}{key}: {name!r} can't be the name of a {what}: it has small letters, digits, dashes and dots."
            )
    for key in (*ENDPOINTS, "also"):
        inner = options.get(key)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, Mapping):
                check_objects(each, f"{prefix}{key}.")
