# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the endpoint and authentication options, made of the description of their arguments."""

from __future__ import annotations

import json

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import auth_documentation
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import (
    claim_documentation,
    endpoint_documentation,
)


def _fragment(name: str, text: str, *, required: bool = True) -> str:
    # JSON is YAML, and no option of ours can be misread on the way.
    return json.dumps({"options": endpoint_documentation(name, text, required=required)})


class ModuleDocFragment:
    """Fragments C(kubeferry.pvc.endpoint.NAME), one for each endpoint option, and C(kubeferry.pvc.endpoint.auth)."""

    # Annotated, since ansible-test's yamllint takes every plain assignment here for a literal.
    AUTH: str = json.dumps({"options": auth_documentation()})
    SOURCE: str = _fragment("source", "Where the files come from.")
    OPTIONAL_SOURCE: str = _fragment("source", "Where the files come from.", required=False)
    TARGET: str = _fragment("target", "Where the files go.")
    CHAINED: str = _fragment(
        "chained",
        "A claim that is copied from as well and has the target's names. If it is the target, the plan says so, since "
        "it would depend on the order what is copied.",
        required=False,
    )
    CLAIM: str = json.dumps({"options": claim_documentation()})
