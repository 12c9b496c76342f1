#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_plan
short_description: Say what would come of copying one claim to another
description:
  - Finds out what keeps a claim from being copied to its counterpart, before anything is touched. The API servers are
    asked to check, and not to make, the helper pods, a new claim, and a pod of each workload that is to be stopped
    (quota, limits, Pod Security); phases, access modes, storage class, sizes and users of the claims are looked at.
  - A workload whose pods may not be made any more is in the way, as it would not come back. Where a webhook refuses
    such a pod, which may be for who asks, that is a note.
  - Nothing is changed. With O(measure), a helper pod counts files and bytes in the source, and is removed.
  - The filter P(kubeferry.pvc.plan_summary#filter) makes a list for people of the results for many claims.
version_added: 0.2.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
extends_documentation_fragment:
  - kubeferry.pvc.endpoint.auth
  - kubeferry.pvc.endpoint.source
  - kubeferry.pvc.endpoint.target
  - kubeferry.pvc.endpoint.chained
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
    description: Whether the counterpart is to be made where it isn't there. It takes O(size) and O(access_modes).
    type: bool
    default: false
  storage_class:
    description: The storage class. Without it, the cluster's default one.
    type: str
  access_modes:
    description: The access modes.
    type: list
    elements: str
    choices: [ReadWriteOnce, ReadOnlyMany, ReadWriteMany, ReadWriteOncePod]
  size:
    description: The size, as in V(10Gi).
    type: str
  quiesce:
    description: Whether the workloads that use the source are to be stopped for the copy.
    type: bool
    default: true
  into_used:
    description:
      - Whether pods may have the counterpart mounted, those of its new users for example. What they have written is
        replaced by what the source has of the same name. Without it, that is in the way.
    type: bool
    default: false
  route:
    description:
      - The way that the files are to take, as in the role C(kubeferry.pvc.copy). What keeps them from it is a problem,
        as far as that shows before there are helper pods. So is a quota of pods that leaves room for one helper pod
        where it takes two.
    type: str
    choices: [staging, stream, direct, mount, auto]
    default: stream
  measure:
    description:
      - Whether to count files and bytes in the source, which takes a helper pod. A counterpart that is smaller than
        that is in the way.
    type: bool
    default: false
seealso:
  - module: kubeferry.pvc.pvc_copy
  - module: kubeferry.pvc.pvc_quiesce
  - plugin: kubeferry.pvc.plan_summary
    plugin_type: filter
"""

EXAMPLES = r"""
- name: See what would come of it
  kubeferry.pvc.pvc_plan:
    source: {namespace: source-namespace, pvc: pvc-0}
    target: {namespace: destination-namespace, pvc: pvc-0}
    create: true
    size: 20Gi
    access_modes: [ReadWriteOnce]
  register: planned
  failed_when: not planned.possible
"""

RETURN = r"""
source:
  description: The claim to copy from.
  returned: success
  type: str
  sample: source-namespace/pvc-0
target:
  description: The claim to copy to.
  returned: success
  type: str
  sample: destination-namespace/pvc-0
possible:
  description: Whether nothing is known to be in the way.
  returned: success
  type: bool
msg:
  description: The same as a sentence with all problems. No failure, unless C(failed_when) makes one of it.
  returned: when RV(possible) is false
  type: str
  sample: >-
    Claim source-namespace/pvc-0 can't be copied to destination-namespace/pvc-0: Claim destination-namespace/pvc-0
    doesn't exist: make it, or set create.
problems:
  description: What is in the way.
  returned: success
  type: list
  elements: str
notes:
  description: What is good to know.
  returned: success
  type: list
  elements: str
workloads:
  description: What would be stopped for the copy, in order.
  returned: success
  type: list
  elements: dict
  sample: [{kind: Deployment, name: shop}]
capacity:
  description: The bytes that the source's volume can hold.
  returned: success
  type: int
origin:
  description: The claim to copy from, in words that no other claim has, for O(kubeferry.pvc.pvc_claim#module:origin).
  returned: success
  type: str
  sample: source-namespace/pvc-0, uid 5f1b3a0c-0c7e-4c2f-9d0c-1f6a7f3d2b11
files:
  description: The files that the source holds. One with several names is one.
  returned: with O(measure), where the source can be mounted
  type: int
bytes:
  description: The bytes that they hold.
  returned: with O(measure), where the source can be mounted
  type: int
creates:
  description: What the counterpart takes of its namespace's quota; empty if it isn't to be made.
  returned: success
  type: dict
quotas:
  description: What the quotas of that namespace leave.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._claim_map import ACCESS_MODES
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import endpoint_spec
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude
from ansible_collections.kubeferry.pvc.plugins.module_utils._pair_plan_task import run
from ansible_collections.kubeferry.pvc.plugins.module_utils._route_plan import ROUTES


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "source": endpoint_spec(),
        "target": endpoint_spec(),
        "chained": endpoint_spec(required=False),
        "create": {"type": "bool", "default": False},
        "storage_class": {"type": "str"},
        "access_modes": {"type": "list", "elements": "str", "choices": list(ACCESS_MODES)},
        "size": {"type": "str"},
        "quiesce": {"type": "bool", "default": True},
        "into_used": {"type": "bool", "default": False},
        "route": {"type": "str", "choices": list(ROUTES), "default": "stream"},
        "measure": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    conclude(module, lambda: run(module.params), msg_fails=False)


if __name__ == "__main__":
    main()
