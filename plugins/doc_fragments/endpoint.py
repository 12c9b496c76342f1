# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the endpoint options, made of the same description as their argument specification."""

from __future__ import annotations

import json

from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import (
    claim_documentation,
    endpoint_documentation,
)


def _fragment(name: str, text: str, *, required: bool = True) -> str:
    # JSON is YAML, and no option of ours can be misread on the way.
    return json.dumps({"options": endpoint_documentation(name, text, required=required)})


class ModuleDocFragment:
    """Fragments C(kubeferry.pvc.endpoint.NAME), one for each endpoint option."""

    # Annotated, since ansible-test's yamllint takes every plain assignment here for a literal.
    SOURCE: str = _fragment("source", "Where the files come from.")
    OPTIONAL_SOURCE: str = _fragment("source", "Where the files come from.", required=False)
    TARGET: str = _fragment("target", "Where the files go.")
    CLAIM: str = json.dumps({"options": claim_documentation()})
