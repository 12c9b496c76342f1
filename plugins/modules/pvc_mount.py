#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_mount
short_description: Mount a claim in a helper pod, or remove helper pods
description:
  - Makes a pod that mounts a PersistentVolumeClaim and waits, so that commands can be run and files be copied where no
    other pod has the claim mounted; or removes the helper pods of a run.
  - When the pod doesn't become ready, it is removed and the task fails with the reason, such as an image that can't be
    pulled, a claim without a volume, or a rule of Pod Security.
  - A helper pod ends by itself after O(lifetime). When C(ansible-playbook) ends in whatever way, what is left of its
    helper pods is removed a moment later, unless O(keep) is set.
  - Where C(ansible-playbook) can't be watched, they end after O(lifetime), and the next task of this module in the
    namespace removes them. That is so when the task runs on another host, with C(become), with C(async) or not on
    Linux, and when everything is killed at once, as AWX does with a job's pod.
version_added: 0.1.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
extends_documentation_fragment:
  - kubeferry.pvc.endpoint.auth
requirements:
  - python >= 3.11
  - kubernetes >= 24.2.0
  - websocket-client >= 1.6.0
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - The API server is asked to check the new pod without making it.
  diff_mode:
    description: >-
      Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
    details:
      - Shows the names of the helper pods before and after.
options:
  state:
    description:
      - V(present) makes the helper pod, or finds the one of the same O(run_id) and O(pvc) again.
      - V(absent) removes all helper pods of O(run_id) in O(namespace).
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description: The namespace of the claim and of the pod.
    type: str
    required: true
  pvc:
    description: The claim to mount. Required with O(state=present).
    type: str
  run_id:
    description:
      - What the helper pods of one run have in common. Up to 63 small letters, digits and dashes.
      - Without it, O(state=present) makes a new one, and so a new pod each time. Required with O(state=absent).
      - Don't use the same one in two playbooks that run at the same time, unless O(keep) is set in both.
    type: str
  path:
    description:
      - Where the pod mounts the claim. V(/mnt/) and the claim's name, if it is left out.
      - Not where it would hide what the pod needs to run, such as V(/usr) or V(/etc).
    type: str
  read_only:
    description: Whether the pod mounts the claim without the right to write.
    type: bool
    default: false
  also:
    description:
      - Further claims of the namespace to mount in the same pod, so that files can be copied between them without
        leaving it. It takes a node that can have all of the volumes.
    type: list
    elements: dict
    version_added: 0.2.0
    suboptions:
      pvc:
        description: The claim.
        type: str
        required: true
      path:
        description: Where the pod mounts it. V(/mnt/) and the claim's name, if it is left out.
        type: str
      read_only:
        description: Whether the pod mounts it without the right to write.
        type: bool
        default: false
  image:
    description:
      - The pod's image. It needs V(sh) and the tools of BusyBox or GNU.
      - With V(rsync) in it, copies of large files of which a part has changed are faster.
    type: str
    default: busybox:1.37
  image_pull_secrets:
    description: The names of secrets for pulling the image.
    type: list
    elements: str
  node_selector:
    description:
      - The labels of the nodes that may run the pod.
      - Where the claim is in use and can be attached to one node only, the pod goes to that node in any case.
        It gets the tolerations of the pod that uses the claim there, and the node may be cordoned.
    type: dict
  tolerations:
    description:
      - The taints that the pod tolerates, as in a pod's C(spec.tolerations).
      - That a node is cordoned is tolerated where the claim's volume can be had on no other, or all others have taints.
        It is read from the volume and the nodes where that is allowed, and else from what the scheduler says.
    type: list
    elements: dict
  service_account:
    description: The service account of the pod. Its token isn't mounted.
    type: str
  resources:
    description: Requests and limits, as in a container's C(resources). A key that it doesn't have is refused.
    type: dict
  priority_class:
    description: The priority class of the pod. A low one lets it give way to the cluster's own work.
    type: str
  pod_security:
    description:
      - V(baseline) runs as root with no more than the capabilities for reading any file and for giving one its
        owner, mode and type, which the Pod Security level C(baseline) allows.
      - V(restricted) runs as an ordinary user with no capability, for namespaces that enforce the level
        C(restricted) and for OpenShift's default rules. Then only what that user may read is copied, and owners
        can't be set.
    type: str
    choices: [baseline, restricted]
    default: baseline
  run_as_user:
    description:
      - The user id of the pod's processes.
      - With O(pod_security=restricted) it is by default the first that OpenShift's annotation
        C(openshift.io/sa.scc.uid-range) sets aside for the namespace, where it has one.
    type: int
  run_as_group:
    description: The group id of the pod's processes.
    type: int
  supplemental_groups:
    description:
      - Further groups of the pod's processes, for files that belong to a group. Nothing changes owners on a volume,
        as an C(fsGroup) would.
      - With O(pod_security=restricted) it is by default the first of OpenShift's annotation
        C(openshift.io/sa.scc.supplemental-groups), where the namespace has one.
    type: list
    elements: int
  lifetime:
    description: The seconds after which the pod ends by itself, whatever happens.
    type: int
    default: 14400
  wait_timeout:
    description:
      - The seconds to wait until the pod is ready, or gone. Where helper pods of other runs use up a quota of pods, it
        is also waited for one of them to go.
    type: int
    default: 120
  keep:
    description: Whether the pod stays when C(ansible-playbook) ends, for a later playbook to use or remove.
    type: bool
    default: false
seealso:
  - module: kubeferry.pvc.pvc_copy
"""

EXAMPLES = r"""
- name: Mount a claim
  kubeferry.pvc.pvc_mount:
    namespace: source-namespace
    pvc: pvc-0
    run_id: nightly
    read_only: true
  register: mounted

- name: Fetch the files
  kubeferry.pvc.pvc_copy:
    source:
      namespace: "{{ mounted.namespace }}"
      pod: "{{ mounted.pod }}"
      container: "{{ mounted.container }}"
      path: "{{ mounted.path }}"
    target:
      path: ./pvc-files

- name: Remove the helper pod
  kubeferry.pvc.pvc_mount:
    state: absent
    namespace: source-namespace
    run_id: nightly
"""

RETURN = r"""
namespace:
  description: The namespace.
  returned: success
  type: str
  sample: source-namespace
run_id:
  description: What the helper pods of this run have in common.
  returned: success
  type: str
  sample: nightly
pod:
  description: The name of the helper pod.
  returned: O(state=present)
  type: str
  sample: kubeferry-pvc-0-nightly
container:
  description: The name of its container.
  returned: O(state=present)
  type: str
  sample: helper
path:
  description: Where the claim is mounted in it.
  returned: O(state=present)
  type: str
  sample: /mnt/pvc-0
also:
  description: The further claims in it, each with the C(path) where it is mounted.
  returned: O(state=present)
  type: list
  elements: dict
  sample: []
node:
  description: The node it runs on. Empty in check mode if the pod isn't there yet.
  returned: O(state=present)
  type: str
  sample: node-1
volume:
  description: The volume behind the claim.
  returned: O(state=present)
  type: dict
  contains:
    name:
      description: The name of the PersistentVolume; empty if the claim wasn't bound before.
      type: str
    access_modes:
      description: The access modes that the claim asks for.
      type: list
      elements: str
    storage_class:
      description: The storage class.
      type: str
    capacity:
      description: The capacity, as Kubernetes writes it.
      type: str
  sample:
    name: pv-0017
    access_modes: [ReadWriteOnce]
    storage_class: standard
    capacity: 10Gi
guarded:
  description: Whether the end of C(ansible-playbook) removes the pod.
  returned: O(state=present)
  type: bool
removed:
  description: The names of the helper pods of this run that were removed.
  returned: success
  type: list
  elements: str
  sample: [kubeferry-pvc-0-nightly]
reaped:
  description: The names of helper pods, of any run, that had ended or whose time was over, and that were removed.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import (
    DEFAULT_IMAGE,
    DEFAULT_LIFETIME,
    DEFAULT_WAIT,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude
from ansible_collections.kubeferry.pvc.plugins.module_utils._mount import run


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "namespace": {"type": "str", "required": True},
        "pvc": {"type": "str"},
        "run_id": {"type": "str"},
        "path": {"type": "str"},
        "read_only": {"type": "bool", "default": False},
        "also": {
            "type": "list",
            "elements": "dict",
            "options": {
                "pvc": {"type": "str", "required": True},
                "path": {"type": "str"},
                "read_only": {"type": "bool", "default": False},
            },
        },
        "image": {"type": "str", "default": DEFAULT_IMAGE},
        "image_pull_secrets": {"type": "list", "elements": "str", "no_log": False},
        "node_selector": {"type": "dict"},
        "tolerations": {"type": "list", "elements": "dict"},
        "service_account": {"type": "str"},
        "resources": {"type": "dict"},
        "priority_class": {"type": "str"},
        "pod_security": {"type": "str", "choices": ["baseline", "restricted"], "default": "baseline"},
        "run_as_user": {"type": "int"},
        "run_as_group": {"type": "int"},
        "supplemental_groups": {"type": "list", "elements": "int"},
        "lifetime": {"type": "int", "default": DEFAULT_LIFETIME},
        "wait_timeout": {"type": "int", "default": DEFAULT_WAIT},
        "keep": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "present", ["pvc"]), ("state", "absent", ["run_id"])],
        supports_check_mode=True,
    )
    conclude(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
