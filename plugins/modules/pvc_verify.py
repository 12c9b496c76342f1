#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_verify
short_description: Prove that two trees are equal, and change nothing
description:
  - Compares a directory in a pod or on this machine with another one, or with a manifest file.
  - Names, types, link targets, owners, modes, modification times and the digests of all files are compared. The
    digests are taken
    where the files lie.
  - The task fails when the target differs, and names what differs.
version_added: 0.1.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
requirements:
  - python >= 3.11
  - kubernetes >= 24.2.0 and websocket-client >= 1.6.0, for endpoints in a cluster
extends_documentation_fragment:
  - kubeferry.pvc.endpoint.auth
  - kubeferry.pvc.endpoint.optional_source
  - kubeferry.pvc.endpoint.target
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - Does the same as without, but leaves the file in O(report) alone.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
    details:
      - There is nothing to change. What differs is in the result.
options:
  manifest:
    description:
      - A manifest file, in place of O(source). What changed while its files were staged isn't in it, is named in
        RV(changed_at_source), and counts for nothing.
    type: path
  manifest_digest:
    description: The digest of that file, as M(kubeferry.pvc.pvc_copy) returned it. Another file is refused.
    type: str
    version_added: 0.2.0
  files:
    description:
      - Paths below the source's directory, each with everything below it. Without it, the whole tree is taken.
      - Names are taken as they are; V(*) and V(?) mean nothing here.
    type: list
    elements: str
  include:
    description:
      - Take only what matches one of these shell patterns, and what lies below it.
      - V(*) and V(?) stay within one name, V(**) crosses directories. A pattern without a slash matches a name at any
        depth.
    type: list
    elements: str
  exclude:
    description: Leave out what matches one of these patterns, and what lies below it. Goes before O(include).
    type: list
    elements: str
  checksum:
    description:
      - The digest by which contents are compared. The endpoint's container needs the tool, such as C(sha256sum), or
        C(openssl).
      - V(md5) and V(sha1) find accidents but can be deceived.
      - Without it, the one of O(manifest) or V(sha256).
    type: str
    choices: [sha256, sha512, sha1, md5]
  metadata:
    description:
      - What a difference in owner, mode, modification time or extended attributes (ACLs and capabilities among them)
        means.
      - V(strict) makes it a failure, V(report) lists it, V(ignore) doesn't compare it.
      - Times are compared in the unit that both ends can tell, as file systems and tools go; with BusyBox's tools these
        are whole seconds. Extended attributes are compared where both ends' tools show them, else RV(not_compared)
        names them; those that the source shows and the target can't are listed.
      - A socket that is missing counts as such a difference, as does a device where the target's user can make none.
    type: str
    choices: [strict, report, ignore]
    default: strict
  extra:
    description: Whether paths that only the target has make the task fail.
    type: str
    choices: [fail, report]
    default: fail
  label:
    description:
      - What this comparison is called in the report and in its progress. In the report it is V(verify) without it.
      - Give each task that writes to one report a label of its own, and each round of a loop, such as
        V({{ item }}). Of those with the same label, the last one stays.
    type: str
  report:
    description:
      - A JSON file to put the full result into, under O(label). Other labels that the file holds are kept.
      - A task that fails before it has a result puts C(parity) false and the reason in C(msg) there, if the report
        exists. A task that Ansible refuses for its options, or that is killed, leaves it as it is; C(finished) tells
        how old a part is.
    type: path
seealso:
  - module: kubeferry.pvc.pvc_copy
  - module: kubeferry.pvc.pvc_manifest
"""

EXAMPLES = r"""
- name: Compare the destination claim with the source claim
  kubeferry.pvc.pvc_verify:
    source:
      namespace: source-namespace
      pod: busybox-sleep
      path: /mnt/pvc-0
    target:
      namespace: destination-namespace
      pod: busybox-sleep
      path: /mnt/pvc-0

- name: Compare a claim with what it held last month
  kubeferry.pvc.pvc_verify:
    manifest: ./october.jsonl
    target:
      namespace: source-namespace
      pvc: pvc-0
"""

RETURN = r"""
parity:
  description: Whether the target matches the source in every respect that counts.
  returned: always, unless the task could not be carried out
  type: bool
  sample: true
matched:
  description: How many paths match.
  returned: always, unless the task could not be carried out
  type: int
  sample: 3
missing:
  description: Paths that the target lacks, at most 100.
  returned: always, unless the task could not be carried out
  type: list
  elements: str
  sample: []
mismatched:
  description: Paths that differ, at most 100.
  returned: always, unless the task could not be carried out
  type: list
  elements: dict
  contains:
    path:
      description: The path. What isn't printable is shown as C(\xNN), C(\n) or C(\\).
      type: str
    differs:
      description:
        - In what it differs, of C(type), C(size), C(content), C(link), C(hardlink) and C(device), and of the attributes
          C(mode), C(uid), C(gid), C(mtime) and C(xattrs).
      type: list
      elements: str
  sample: []
metadata_differences:
  description: Paths whose attributes differ, at most 100.
  returned: always, unless the task could not be carried out
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    differs:
      description:
        - For each of C(mode), C(uid), C(gid), C(mtime) and C(xattrs) that differs, the source's value and the target's.
        - For a socket or a device that the target's user can't make, C(socket) or C(device) with C(there) and
          C(missing).
      type: dict
  sample: []
extra:
  description: Paths that only the target has, at most 100.
  returned: always, unless the task could not be carried out
  type: list
  elements: str
  sample: []
unreadable:
  description: Paths of the target that could not be read, at most 100.
  returned: always, unless the task could not be carried out
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    reason:
      description: Why.
      type: str
  sample: []
changed_at_source:
  description: Paths that changed at the source while they were staged, at most 100.
  returned: always, unless the task could not be carried out
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    what:
      description: What became of it, C(changed).
      type: str
  sample: []
counts:
  description: The true length of each of these lists, also where the list was cut.
  returned: always, unless the task could not be carried out
  type: dict
  sample:
    changed_at_source: 0
    extra: 0
    matched: 3
    metadata_differences: 0
    mismatched: 0
    missing: 0
    unreadable: 0
truncated:
  description: Whether a list was cut. The file in O(report) holds up to 100,000 names of each.
  returned: always, unless the task could not be carried out
  type: bool
  sample: false
files:
  description: The number of regular files that were compared.
  returned: always, unless the task could not be carried out
  type: int
  sample: 3
bytes:
  description: Their size in bytes.
  returned: always, unless the task could not be carried out
  type: int
  sample: 12288
seconds:
  description: How long it took.
  returned: always, unless the task could not be carried out
  type: float
  sample: 1.4
checksum:
  description: The digest that was used.
  returned: always, unless the task could not be carried out
  type: str
  sample: sha256
source:
  description: The source in words.
  returned: always, unless the task could not be carried out
  type: str
  sample: /mnt/pvc-0 in pod source-namespace/busybox-sleep
target:
  description: The target in words.
  returned: always, unless the task could not be carried out
  type: str
  sample: ./pvc-files on this machine
pod_gone:
  description: Whether a helper pod was removed, or has ended, meanwhile, so that another one in its place may do.
  returned: when the task could not be carried out
  type: bool
  sample: false
  version_added: 0.2.0
metadata:
  description: How differences in attributes were treated.
  returned: always, unless the task could not be carried out
  type: str
  sample: strict
not_compared:
  description:
    - V(xattrs) where an end has no tools that tell extended attributes. At the target, any may be left then, or come
      from a default ACL.
    - The names of those that some of its files have and that are no part of a copy, as most mean something on
      their own file system alone. These are all but C(user.*), ACLs, capabilities and the labels of SELinux.
    - V(.kubeferry) where the source has something of this name, or in a directory of it, that no copy has put there. It
      is never copied, and a warning says so.
  returned: always, unless the task could not be carried out
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import endpoint_spec
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import HelperPodGone
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude
from ansible_collections.kubeferry.pvc.plugins.module_utils._verify_task import HOP, run


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "source": endpoint_spec(required=False),
        "manifest": {"type": "path"},
        "manifest_digest": {"type": "str"},
        "target": endpoint_spec(),
        "files": {"type": "list", "elements": "str"},
        "include": {"type": "list", "elements": "str"},
        "exclude": {"type": "list", "elements": "str"},
        "checksum": {"type": "str", "choices": ["sha256", "sha512", "sha1", "md5"]},
        "metadata": {"type": "str", "choices": ["strict", "report", "ignore"], "default": "strict"},
        "extra": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
        "label": {"type": "str"},
        "report": {"type": "path"},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("source", "manifest")],
        required_one_of=[("source", "manifest")],
        required_by={"manifest_digest": "manifest"},
        supports_check_mode=True,
    )
    ends = [module.params[option] for option in ("source", "target") if module.params[option]]
    conclude(
        module,
        lambda: run(module.params, check_mode=module.check_mode, hidden=module.no_log),
        clustered=any(end["namespace"] for end in ends),
        about=lambda exc: {"pod_gone": isinstance(exc, HelperPodGone)},
        hop=HOP,
    )


if __name__ == "__main__":
    main()
