# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of `pvc_copy` as Ansible hands them to the module, defaults filled in, whatever options there are."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import endpoint_spec
from ansible_collections.kubeferry.pvc.plugins.modules.pvc_copy import argument_spec


def endpoint(**given: Any) -> dict[str, Any]:
    """An end of the copy."""
    return {**{name: spec.get("default") for name, spec in endpoint_spec()["options"].items()}, **given}


def options(source: dict[str, Any], target: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The task's own options around its two ends."""
    defaults = {name: spec.get("default") for name, spec in argument_spec().items()}
    return {**defaults, "source": source, "target": target, **given}
