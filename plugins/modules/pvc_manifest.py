#!/usr/bin/python
# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pvc_manifest
short_description: Write down what a tree holds, with the digest of every file
description:
  - Reads a directory in a pod or on this machine and writes a manifest, a file of JSON lines with the type, size,
    owner, mode, modification
    time, link target and digest of every path, and beside it the digests in the format that C(sha256sum -c) reads.
  - M(kubeferry.pvc.pvc_verify) compares a directory with it later.
version_added: 0.1.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
requirements:
  - python >= 3.11
  - kubernetes >= 24.2.0 and websocket-client >= 1.6.0, for endpoints in a cluster
extends_documentation_fragment:
  - kubeferry.pvc.endpoint.auth
  - kubeferry.pvc.endpoint.source
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
options:
  dest:
    description:
      - The manifest file to write. The digests go to a file beside it, C(NAME.sha256sums) for C(NAME.jsonl).
      - A file that is there and isn't a manifest is refused, and so are the name of the digests, a file of that name
        that no manifest is beside, and a path among what is selected of O(source).
      - Without it, nothing is written, and the result is all there is.
    type: path
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
    type: str
    choices: [sha256, sha512, sha1, md5]
    default: sha256
  label:
    description: What this is called in its progress.
    type: str
seealso:
  - module: kubeferry.pvc.pvc_verify
"""

EXAMPLES = r"""
- name: Write down what the claim holds
  kubeferry.pvc.pvc_manifest:
    source:
      namespace: source-namespace
      pod: busybox-sleep
      path: /mnt/pvc-0
    dest: ./november.jsonl
"""

RETURN = r"""
source:
  description: The directory in words.
  returned: success
  type: str
  sample: /mnt/pvc-0 in pod source-namespace/busybox-sleep
checksum:
  description: The digest that was used.
  returned: success
  type: str
  sample: sha256
files:
  description: The number of regular files.
  returned: success
  type: int
  sample: 3
bytes:
  description: Their size in bytes.
  returned: success
  type: int
  sample: 12288
count:
  description: The number of paths of any type.
  returned: success
  type: int
  sample: 5
entries:
  description: The first 100 paths.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The path. What isn't printable is shown as C(\xNN), C(\n) or C(\\).
      type: str
    type:
      description: C(file), C(dir), C(symlink), C(fifo), C(socket), C(char) or C(block).
      type: str
    size:
      description: The size in bytes.
      type: int
    mode:
      description: The permission bits in octal.
      type: str
    uid:
      description: The owner.
      type: int
    gid:
      description: The group.
      type: int
    mtime:
      description: The modification time in seconds since 1970.
      type: float
    digest:
      description: The digest in hex; empty for what isn't a regular file.
      type: str
  sample: []
truncated:
  description: Whether there are more paths than RV(entries) shows.
  returned: success
  type: bool
  sample: false
manifest:
  description: The manifest file. Null where none was asked for.
  returned: success
  type: str
  sample: ./november.jsonl
sums:
  description: The file with the digests alone. Null without a manifest file.
  returned: success
  type: str
  sample: ./november.sha256sums
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import endpoint_spec
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest_task import run
from ansible_collections.kubeferry.pvc.plugins.module_utils._module import conclude


def argument_spec() -> dict[str, object]:
    return {
        **AUTH_ARG_SPEC,
        "source": endpoint_spec(),
        "dest": {"type": "path"},
        "files": {"type": "list", "elements": "str"},
        "include": {"type": "list", "elements": "str"},
        "exclude": {"type": "list", "elements": "str"},
        "checksum": {"type": "str", "choices": ["sha256", "sha512", "sha1", "md5"], "default": "sha256"},
        "label": {"type": "str"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    conclude(
        module,
        lambda: run(module.params, check_mode=module.check_mode, hidden=module.no_log),
        clustered=bool(module.params["source"]["namespace"]),
    )


if __name__ == "__main__":
    main()
