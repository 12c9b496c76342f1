#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_claim
short_description: Have a claim to copy to
description:
  - Makes a PersistentVolumeClaim if it isn't there, and fails with the reason if one that is there isn't as wanted,
    since its storage class and access modes can't be changed.
  - A claim that is larger than wanted, or allows more, will do.
  - With O(origin), the claim is marked with whose files it gets, and one that was marked with another is refused, so
    that the files of two claims aren't mixed by mistake.
version_added: 0.2.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
extends_documentation_fragment:
  - kubeferry.pvc.endpoint.auth
  - kubeferry.pvc.endpoint.claim
requirements:
  - python >= 3.11
  - kubernetes >= 24.2.0
  - websocket-client >= 1.6.0
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: >-
      Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
options:
  create:
    description: Whether to make the claim if it isn't there. It takes O(size) and O(access_modes).
    type: bool
    default: true
  origin:
    description:
      - The claim to copy from, as RV(kubeferry.pvc.pvc_plan#module:origin) tells it. It becomes the annotation
        C(kubeferry.io/source), which stays when all is copied.
      - To mark a claim that is there takes the right to C(patch) it. For who hasn't that right, the claim isn't marked,
        and nothing is refused for it later.
    type: str
  storage_class:
    description: The storage class. Without it, the cluster's default one.
    type: str
  access_modes:
    description: The access modes. V(ReadOnlyMany) alone is refused, as nothing could be copied to the claim.
    type: list
    elements: str
    choices: [ReadWriteOnce, ReadOnlyMany, ReadWriteMany, ReadWriteOncePod]
  size:
    description: The size, as in V(10Gi).
    type: str
  wait_timeout:
    description:
      - The seconds to wait until the claim is bound to a volume. With V(0) it isn't waited for, nor where the storage
        class binds claims with their first pod (C(WaitForFirstConsumer)), or for who may not list storage classes.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Have a claim on the new storage
  kubeferry.pvc.pvc_claim:
    claim: {namespace: destination-namespace, pvc: pvc-0, context: new-cluster}
    storage_class: fast
    access_modes: [ReadWriteOnce]
    size: 20Gi
"""

RETURN = r""" # """

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._claim_map import ACCESS_MODES
from ansible_collections.kubeferry.pvc.plugins.module_utils._claim_task import run
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import claim_spec
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "claim": claim_spec(),
        "create": {"type": "bool", "default": True},
        "origin": {"type": "str"},
        "storage_class": {"type": "str"},
        "access_modes": {"type": "list", "elements": "str", "choices": list(ACCESS_MODES)},
        "size": {"type": "str"},
        "wait_timeout": {"type": "int", "default": 0},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("create", True, ("access_modes", "size"))],
    )
    conclude(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
