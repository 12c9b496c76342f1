# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint out of the flat variables of a playbook."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

FILES = ("kubeconfig", "ca_cert")
"""Keys whose values are files. A module runs in the collection's directory, and would look there."""


def endpoint(values: Sequence[object], keys: Sequence[str]) -> dict[str, object]:
    """The values by their keys, without those that are empty. Files are where `ansible-playbook` was started."""
    made = {key: value for key, value in zip(keys, values, strict=True) if value is not None and value != ""}
    for key in FILES:
        if isinstance(made.get(key), str):
            made[key] = os.path.abspath(os.path.expanduser(str(made[key])))
    return made


class FilterModule:
    """Registers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"endpoint": endpoint}
