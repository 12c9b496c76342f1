#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_quiesce
short_description: Stop the workloads that use a claim, and bring them back
description:
  - Finds the workloads whose pods mount a PersistentVolumeClaim, by owner and by what their pod templates mount, also
    those that have no pod now, and stops them in a safe order; CronJobs and Jobs are suspended, Deployments,
    DeploymentConfigs, ReplicaSets and ReplicationControllers scaled to 0, DaemonSets given a node selector that no node
    has, StatefulSets scaled to 0 last. Then it waits until no pod uses the claim.
  - What each was is recorded in the annotation C(kubeferry.io/quiesced) by the change that stops it, with the claims
    for which it is. The last of these claims to be restored brings the workload back, in the reverse order. What
    somebody started by hand in between stays as it is; where it is stopped again, that is what it comes back to.
  - Stopping a DaemonSet puts a ControllerRevision with that node selector into its history, and C(kubectl rollout undo)
    without C(--to-revision) would go back to it, which switches the DaemonSet off. O(state=restored) removes it where
    it may list and delete C(controllerrevisions). Else, and where the end of C(ansible-playbook) brought the DaemonSet
    back, it stays; name the revision that is meant, by C(kubectl rollout history).
  - A Deployment's controller copies the annotation to its ReplicaSet, and C(kubectl rollout undo) would bring it back
    from there. O(state=restored) removes the copies in the claim's namespace, or warns of one that it may not remove.
  - When C(ansible-playbook) ends in whatever way, what is stopped is brought back a moment later, unless
    O(state=kept) was said. What a run left that was killed with its machine, O(state=restored) brings back.
  - With O(state=restored), it is waited up to 20 seconds for a ready pod of each workload that is brought back. What
    has none then, has one that no node takes, or lacks pods that come all at once, is a warning and no failure.
  - A pod without such an owner, and a workload that belongs to something else, as an operator's, are refused before
    anything is changed; and so is one that has pods of a former template, as in the middle of a rollout, or where that
    is stuck, paused or has a partition, and with the update strategy C(OnDelete), as they wouldn't come back. A
    StatefulSet that would delete its claims when it is scaled down is kept from that.
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
      - V(quiesced) stops what uses the claim, and fails if that doesn't exist, as far as it may be read. For the
        others, it may have been deleted meanwhile.
      - V(held) fails if something uses the claim again, or has been started and is about to. Ask when the work is done,
        before it counts as such. What was started and stopped again in between isn't noticed, but where another run
        has stopped it for another claim.
      - V(restored) brings back what was stopped for the claim, or for any claim of the namespace if O(claim.pvc) is
        left out; with O(run_id), only what that run has stopped.
      - V(kept) leaves stopped what O(run_id) has stopped for the claim, also when C(ansible-playbook) ends. It is
        brought back by V(restored) without a O(run_id), and by nothing else.
    type: str
    choices: [quiesced, held, restored, kept]
    default: quiesced
  run_id:
    description:
      - Who stops the workloads, as in M(kubeferry.pvc.pvc_lease). It is recorded with each, so that runs don't start
        what another one needs stopped. What another one has stopped for the claim is refused with V(quiesced).
      - If it has the claim's lease, what was stopped by those that had it before counts as stopped by it.
      - Without it, V(quiesced) takes what is stopped for the claim as its own, and V(restored) brings all of it back.
    type: str
  taken_from:
    description:
      - A run that is dead, as M(kubeferry.pvc.pvc_lease) returns it. What it has stopped counts as stopped by
        O(run_id).
    type: str
  stopped:
    description:
      - What O(run_id) has stopped for the claim, as RV(workloads) of V(quiesced) tells it. What of it is still stopped
        and has lost its annotation, as to a tool that applies manifests, gets it again with V(restored) and V(kept), so
        that it can be brought back.
    type: list
    elements: dict
    suboptions:
      kind:
        description: The kind.
        type: str
        choices:
          - CronJob
          - Job
          - Deployment
          - DeploymentConfig
          - ReplicaSet
          - ReplicationController
          - DaemonSet
          - StatefulSet
        required: true
      name:
        description: The name.
        type: str
        required: true
      was:
        description: What it was before it was stopped.
        type: dict
        required: true
  wait_timeout:
    description: The seconds to wait until no pod uses the claim.
    type: int
    default: 300
seealso:
  - module: kubeferry.pvc.pvc_copy
"""

EXAMPLES = r"""
- name: Copy a claim that is in use
  block:
    - name: Stop what uses it
      kubeferry.pvc.pvc_quiesce:
        claim: {namespace: source-namespace, pvc: pvc-0}

    - name: Copy
      kubeferry.pvc.pvc_copy:
        source: {namespace: source-namespace, pvc: pvc-0}
        target: {namespace: destination-namespace, pvc: pvc-0}

    - name: See that nothing has used it since
      kubeferry.pvc.pvc_quiesce:
        state: held
        claim: {namespace: source-namespace, pvc: pvc-0}
  always:
    - name: Bring it back
      kubeferry.pvc.pvc_quiesce:
        state: restored
        claim: {namespace: source-namespace, pvc: pvc-0}
"""

RETURN = r"""
workloads:
  description: What this task has stopped for the claim, brought back or left stopped, or would in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind.
      type: str
    name:
      description: The name.
      type: str
    was:
      description: What it was before it was stopped.
      type: dict
  sample: [{kind: Deployment, name: shop, was: {replicas: 3}}]
not_running:
  description: A sentence for each workload that was brought back and doesn't run again, with the reason.
  returned: O(state=restored), not in check mode
  type: list
  elements: str
  sample: ["Deployment shop/web isn't running again: 1 node(s) were unschedulable."]
left:
  description:
    - What stays stopped, as it was stopped for other claims, too, which are still to be restored.
    - With O(run_id), only workloads whose pods mount the claim; without, all of the namespace.
  returned: O(state=restored), not in check mode
  type: list
  elements: dict
  contains:
    claim:
      description: The namespace and the name of the other claim.
      type: str
    msg:
      description: A sentence that names the workload, the run that has stopped it for that claim, and what to do.
      type: str
  sample:
    - claim: shop/logs
      msg: >-
        Deployment shop/web stays stopped for claim logs by run run-a1b2c3d4e5, which may be at work on it: wait for its
        end, or, if it has died, run the playbook kubeferry.pvc.restore for that claim, or kubeferry.pvc.pvc_quiesce
        with state restored where no inventory has it.
tolerations:
  description:
    - What the pods of all workloads that are stopped for the claim tolerate. With it, a helper pod gets to the claim's
      volume on a node that is tainted for them.
  returned: O(state=quiesced)
  type: list
  elements: dict
  sample: [{key: dedicated, operator: Equal, value: db, effect: NoSchedule}]
guarded:
  description: Whether the end of C(ansible-playbook) brings the workloads back.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import claim_spec
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude
from ansible_collections.kubeferry.pvc.plugins.module_utils._quiesce_task import run
from ansible_collections.kubeferry.pvc.plugins.module_utils._workload_kinds import KINDS


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "state": {"type": "str", "choices": ["quiesced", "held", "restored", "kept"], "default": "quiesced"},
        "claim": claim_spec(),
        "wait_timeout": {"type": "int", "default": 300},
        "run_id": {"type": "str"},
        "taken_from": {"type": "str"},
        "stopped": {
            "type": "list",
            "elements": "dict",
            "options": {
                "kind": {"type": "str", "choices": [kind.name for kind in KINDS], "required": True},
                "name": {"type": "str", "required": True},
                "was": {"type": "dict", "required": True},
            },
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "kept", ["run_id"])],
        required_by={"taken_from": "run_id"},
    )
    conclude(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
