#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_copy
short_description: Copy files between pods and directories, and prove that every byte arrived
description:
  - Copies a directory tree, or some files of it, from a pod to this machine, from this machine to a pod, from pod to
    pod or from
    directory to directory, with paths, owners, modes, modification times, links and special files.
  - Every file's digest is taken where the file lies, at the source and again at the target after the copy. A file
    gets
    its final name only when the two are equal; what isn't is sent again, up to O(retries) times. The task succeeds
    only
    if all that was asked for matches.
  - Only what differs is sent, so running it again costs little and changes nothing.
  - A source and a target of which one lies in the other are refused.
  - In a pod, the shell's tools follow a directory that becomes a link in the middle of a copy. So nobody who isn't
    trusted may be able to write to the directories of source and target meanwhile. On this machine no link is
    followed.
  - Needs no C(kubectl) or C(oc). A container needs a shell, C(find), C(xargs), C(stat), C(tar) and a digest tool, all
    of which BusyBox has.
version_added: 0.1.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
requirements:
  - python >= 3.11
  - kubernetes >= 24.2.0 and websocket-client >= 1.6.0, for endpoints in a cluster
extends_documentation_fragment:
  - kubeferry.pvc.endpoint.auth
  - kubeferry.pvc.endpoint.source
  - kubeferry.pvc.endpoint.target
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
    details:
      - Names the paths and what differs, never contents.
options:
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
  delete:
    description:
      - Remove what the target has and the source hasn't, of what is selected. This is done last, when everything else
        has been verified.
      - A directory with O(target.manifest) that holds files of another source is refused without it.
      - From a staging directory to which some O(files) were copied, give the same O(files), O(include) and O(exclude)
        again. Without O(files) and O(include) it is refused there, as all else of the target would be removed.
      - The work directory C(.kubeferry) of a copy to somewhere further below is not removed; the task fails.
      - What is mounted below the target is not emptied, and nothing is copied into it either, with or without
        O(delete). The task fails before anything is changed, unless it is excluded.
    type: bool
    default: false
  baseline:
    description:
      - A file in which the copy notes what the target has of the source in the end, a manifest as of
        M(kubeferry.pvc.pvc_manifest). A file that is there and isn't one is refused, and so is one among what is
        selected of O(source) or O(target), or that is O(report) or a manifest as well.
      - If it is there already, from an earlier copy, what it names and the source hasn't any more is removed from the
        target, unless that was changed there since. What else only the target has stays, other than with O(delete). So
        what vanishes between two copies vanishes from the target as well, and what others have put there doesn't.
    type: path
    version_added: 0.2.0
  checksum:
    description:
      - The digest by which contents are compared. The endpoint's container needs the tool, such as C(sha256sum), or
        C(openssl).
      - V(md5) and V(sha1) find accidents but can be deceived.
    type: str
    choices: [sha256, sha512, sha1, md5]
    default: sha256
  transport:
    description:
      - V(tar) sends whole files. V(rsync) sends differences; it needs rsync in the container and on this machine,
        which must be one
        of the two ends.
      - V(auto) uses rsync for large files that have changed, where it is available, and tar for all others.
    type: str
    choices: [auto, tar, rsync]
    default: auto
  route:
    description:
      - The way that contents take from pod to pod.
      - With V(stream) they pass through the machine that runs the task. That is the way for an end that is a directory
        there, whatever is said here.
      - With V(mount) they stay in the one pod that has both trees. Where two claims of one namespace are named, it is
        made for them as the keys of O(target) say, with the source mounted read-only. It takes a node that can have
        both.
      - With V(direct) they go from one helper pod to another one over the cluster's network, by TLS 1.3 with a key that
        is made for it and that both pods are given. Both images need C(openssl). Any NetworkPolicy must let the
        target's pod be reached; its port is open only as long as it is used.
      - V(auto) takes the first of these that is possible, in the order V(mount), V(direct), V(stream), and goes on with
        the next where one fails. RV(route) and RV(passed_over) tell which was taken, and why others weren't.
    type: str
    choices: [stream, direct, mount, auto]
    default: stream
    version_added: 0.2.0
  closed_routes:
    description:
      - Routes that O(route=auto) isn't to take, of V(mount), V(direct) and V(stream), each with the reason. It is
        reported with any O(route). So is an attempt that is named in several words, and closes no route.
    type: dict
    version_added: 0.2.0
  retries:
    description:
      - How often to try again what did not arrive whole, or after a lost connection, or while a container is restarted
        whose pod is running.
    type: int
    default: 3
  on_change:
    description:
      - What it means when a file of the source changes, grows, shrinks or vanishes while it is copied, and still
        does so after all O(retries). Such files are named in RV(changed_at_source) in any case.
      - V(fail) makes it a failure. With V(report) the task succeeds with RV(parity) false if everything else is whole.
      - A file that has vanished can't be sent again, so it counts at once. With V(fail) nothing is deleted then.
      - This goes for what changed when it was brought to a staging directory too (O(source.manifest)). What the target
        has under the same name is left as it is.
    type: str
    choices: [fail, report]
    default: fail
    version_added: 0.2.0
  metadata:
    description:
      - What a difference in owner, mode, modification time or extended attributes (ACLs and capabilities among them)
        means.
      - V(strict) makes it a failure, V(report) lists it, V(ignore) doesn't compare it.
      - Times are compared in the unit that the target's tools can set and its file system keeps; with BusyBox's tools
        these are whole seconds. Extended attributes are compared where both ends' tools show them, else
        RV(not_compared) names them; those that the source shows and the target can't are listed. Without them
        the group of a file with an ACL gets the rights of the ACL's mask, as its mode shows them.
      - A socket is listed among RV(metadata_differences) too, since only the program that listens there can make it. So
        is a device where the target's user can make none, for which it takes root with the capability C(MKNOD). What a
        user may not read of his own, he can't prove, so a file or directory whose mode forbids that gets another one,
        which differs. Root without the capability C(DAC_OVERRIDE) is such a user, and stays the owner of what it could
        not get back to.
    type: str
    choices: [strict, report, ignore]
    default: strict
  reread:
    description:
      - Read everything again, even where an earlier run has proven both sides to be equal and nothing was touched
        since.
      - Otherwise a run over two trees in which every inode is what it was then, times of change included, reads no
        contents. What was proven is remembered in C($XDG_CACHE_HOME/kubeferry/proofs), or in C(~/.cache).
      - Nothing is remembered where a file system doesn't show every change, and everything is read each time. That is
        any other than ext2 to ext4, XFS, Btrfs, ZFS, F2FS and CephFS, such as NFS, SMB, tmpfs and overlays, and a tree
        in which another file system is mounted.
    type: bool
    default: false
    version_added: 0.2.0
  label:
    description:
      - What this copy is called in the report and in its progress. In the report it is V(copy) without it.
      - Give each task that writes to one report a label of its own, and each round of a loop, such as
        V({{ item }}). Of those with the same label, the last one stays.
    type: str
  report:
    description:
      - A JSON file to put the full result into, under O(label). Other labels that the file holds are kept.
      - A task that fails before it has a result puts C(parity) false and the reason in C(msg) there, if the report
        exists. A task that Ansible refuses for its options, or that is killed, leaves it as it is; C(finished) tells
        how old a part is.
      - It can't be among what is selected of O(source) or O(target).
    type: path
seealso:
  - module: kubeferry.pvc.pvc_verify
  - module: kubeferry.pvc.pvc_mount
"""

EXAMPLES = r"""
- name: Bring three files from the source claim to staging
  kubeferry.pvc.pvc_copy:
    source:
      namespace: source-namespace
      pod: busybox-sleep
      path: /mnt/pvc-0
    target:
      path: ./pvc-0
      manifest: ./pvc-0.manifest.jsonl
    files: ["10", a/11, a/51]
  register: pulled

- name: Take them on to the destination claim, with the owners and modes of the source
  kubeferry.pvc.pvc_copy:
    source:
      path: ./pvc-0
      manifest: ./pvc-0.manifest.jsonl
      manifest_digest: "{{ pulled.manifest_digest }}"
    target:
      namespace: destination-namespace
      pod: busybox-sleep
      path: /mnt/pvc-0

- name: Copy a whole claim to another cluster, through helper pods
  kubeferry.pvc.pvc_copy:
    source:
      namespace: source-namespace
      pvc: pvc-0
    target:
      namespace: destination-namespace
      pvc: pvc-0
      context: other-cluster
    exclude: [lost+found, "*.tmp"]
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
  description: Paths that could not be read, or that changed whenever they were brought to staging, at most 100.
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
  description: Paths that didn't stay as they were at the source during the copy, at most 100.
  returned: always, unless the task could not be carried out
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    what:
      description: What became of it, C(changed) or C(vanished).
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
planned:
  description:
    - How many paths were to be made, replaced, given other attributes, and deleted.
    - What came to the target during the copy, and was deleted for that, is among the deleted.
    - C(extra) is how many the target had that the source hadn't, whether they were to be deleted or not.
  returned: always, unless the task could not be carried out
  type: dict
  sample: {create: 4, delete: 0, extra: 0, metadata: 0, replace: 0}
bytes_planned:
  description: The bytes of the files that were to be sent.
  returned: always, unless the task could not be carried out
  type: int
  sample: 12288
bytes_moved:
  description: The bytes that were sent to do so, without those of attempts that broke off.
  returned: always, unless the task could not be carried out
  type: int
  sample: 12288
transport:
  description: The transport that was used.
  returned: always, unless the task could not be carried out
  type: str
  sample: tar
route:
  description: The way that contents took, or would have taken.
  returned: always, unless the task could not be carried out
  type: str
  sample: stream
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
  sample: [security.NTACL]
passed_over:
  description: Why routes that come before it were not taken.
  returned: always; empty where the task could not be carried out for another reason than a connection
  type: list
  elements: str
  sample: ["mount: the claims aren't in one namespace of one cluster"]
route_failed:
  description: Whether it was a connection between the ends that failed, so that another way may be open.
  returned: when the task could not be carried out
  type: bool
  sample: false
pod_gone:
  description: Whether a helper pod was removed, or has ended, meanwhile, so that another one in its place may do.
  returned: when the task could not be carried out
  type: bool
  sample: false
  version_added: 0.2.0
retries:
  description: How often something was tried again.
  returned: always, unless the task could not be carried out
  type: int
  sample: 0
proof:
  description:
    - V(read) where the contents were read at both sides, else since when nothing has been changed at either side.
  returned: always, unless the task could not be carried out
  type: str
  sample: read
trouble:
  description: Why something was tried again.
  returned: always, unless the task could not be carried out
  type: list
  elements: str
  sample: []
metadata:
  description: How differences in attributes were treated.
  returned: always, unless the task could not be carried out
  type: str
  sample: strict
manifest:
  description: The manifest file of a target on this machine. Null where none was asked for.
  returned: always, unless the task could not be carried out
  type: str
  sample: ./pvc-0.manifest.jsonl
manifest_digest:
  description: The digest of that file, for O(source.manifest_digest) of the task that takes the files on from there.
    Null without a manifest.
  returned: always, unless the task could not be carried out
  type: str
  sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
  version_added: 0.2.0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._copy_task import HOP, run
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import endpoint_spec
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ExecError,
    HelperPodGone,
    KubeferryError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "source": endpoint_spec(),
        "target": endpoint_spec(),
        "files": {"type": "list", "elements": "str"},
        "include": {"type": "list", "elements": "str"},
        "exclude": {"type": "list", "elements": "str"},
        "delete": {"type": "bool", "default": False},
        "baseline": {"type": "path"},
        "checksum": {"type": "str", "choices": ["sha256", "sha512", "sha1", "md5"], "default": "sha256"},
        "transport": {"type": "str", "choices": ["auto", "tar", "rsync"], "default": "auto"},
        "route": {"type": "str", "choices": ["stream", "direct", "mount", "auto"], "default": "stream"},
        "closed_routes": {"type": "dict"},
        "retries": {"type": "int", "default": 3},
        "metadata": {"type": "str", "choices": ["strict", "report", "ignore"], "default": "strict"},
        "on_change": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
        "reread": {"type": "bool", "default": False},
        "label": {"type": "str"},
        "report": {"type": "path"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    ends = (module.params[option] for option in ("source", "target"))
    conclude(
        module,
        lambda: run(module.params, check_mode=module.check_mode, hidden=module.no_log),
        clustered=any(end["namespace"] for end in ends),
        about=_about_routes,
        hop=HOP,
    )


def _about_routes(exc: KubeferryError) -> dict[str, object]:
    """What a failed task tells about the routes."""
    passed_over = list(exc.passed_over) if isinstance(exc, ExecError) else []
    return {
        "route_failed": isinstance(exc, ExecError),
        "pod_gone": isinstance(exc, HelperPodGone),
        "passed_over": passed_over,
    }


if __name__ == "__main__":
    main()
