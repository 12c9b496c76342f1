#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_lease
short_description: Have a claim to oneself while it is worked on
description:
  - Takes a Lease (C(coordination.k8s.io/v1)) for a PersistentVolumeClaim in the claim's namespace, so that two jobs on
    one claim exclude each other, wherever they run. The task fails when another run has it.
  - The lease is renewed in the background as long as C(ansible-playbook) lives, and released by O(state=absent) or when
    C(ansible-playbook) ends in whatever way. What nobody renews, as after a machine went down, is taken over by
    who has watched it for O(duration), whatever the clocks of the two machines say.
  - Only tasks of this module look at the lease. Pods that use the claim are not kept from it.
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
  state:
    description:
      - V(present) takes the lease, or keeps it if O(run_id) has it already.
      - V(held) fails unless O(run_id) has had it since it took it. Ask when the work is done, before it counts as
        such.
      - V(absent) releases it if O(run_id) has it.
    type: str
    choices: [present, held, absent]
    default: present
  run_id:
    description: Who has the lease. Each run has one of its own.
    type: str
    required: true
  must_exist:
    description:
      - Whether V(present) fails if the claim doesn't exist. Without it, a lease can be taken for a claim that is still
        to be made, or that may have been deleted. Who may not read claims isn't told.
    type: bool
    default: true
  duration:
    description:
      - The seconds for which the lease is valid unless it is renewed, which happens three times as often, and every 20
        seconds at least.
    type: int
    default: 30
  wait_timeout:
    description:
      - The seconds to wait for a run that has the lease and renews it. One that doesn't is waited for in any case.
    type: int
    default: 0
  lifetime:
    description:
      - The seconds for which the lease is valid where nothing can renew it, since the end of C(ansible-playbook)
        can't be watched; see M(kubeferry.pvc.pvc_mount). When they are over, and 10 minutes more by the clock of who
        wants it, it is taken over by who has watched it for a minute.
    type: int
    default: 14400
seealso:
  - module: kubeferry.pvc.pvc_mount
"""

EXAMPLES = r"""
- name: Work on a claim
  block:
    - name: Have it for this run alone
      kubeferry.pvc.pvc_lease:
        claim: {namespace: source-namespace, pvc: pvc-0}
        run_id: nightly-17

    - name: Copy
      ansible.builtin.include_role:
        name: kubeferry.pvc.copy

    - name: See that it was ours all the time
      kubeferry.pvc.pvc_lease:
        state: held
        claim: {namespace: source-namespace, pvc: pvc-0}
        run_id: nightly-17
  always:
    - name: Let others have it
      kubeferry.pvc.pvc_lease:
        state: absent
        claim: {namespace: source-namespace, pvc: pvc-0}
        run_id: nightly-17
"""

RETURN = r"""
namespace:
  description: The namespace.
  returned: success
  type: str
  sample: source-namespace
lease:
  description: The name of the Lease.
  returned: success
  type: str
  sample: kubeferry-pvc-0
run_id:
  description: Who has it, or had it.
  returned: success
  type: str
  sample: nightly-17
taken_from:
  description: The run that had let it expire; empty if there was none.
  returned: O(state=present)
  type: str
  sample: nightly-16
removed:
  description: The helper pods of that run in the claim's namespace, which nobody else would have removed.
  returned: O(state=present)
  type: list
  elements: str
  sample: [kubeferry-data-5078edf838]
guarded:
  description: Whether it is renewed, and released at the end of C(ansible-playbook).
  returned: O(state=present)
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import claim_spec
from ansible_collections.kubeferry.pvc.plugins.module_utils._lease_task import run
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "state": {"type": "str", "choices": ["present", "held", "absent"], "default": "present"},
        "claim": claim_spec(),
        "run_id": {"type": "str", "required": True},
        "must_exist": {"type": "bool", "default": True},
        "duration": {"type": "int", "default": 30},
        "wait_timeout": {"type": "int", "default": 0},
        "lifetime": {"type": "int", "default": 4 * 3600},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    conclude(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
