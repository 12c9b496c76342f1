# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A module that takes its time and tells how far it is, as the collection's own modules do."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubeferry.pvc.plugins.module_utils._progress import Progress


def main() -> None:
    module = AnsibleModule({"label": {"type": "str"}, "seconds": {"type": "float", "default": 2.0}})
    progress = Progress("" if module.no_log else module.params["label"])
    steps = int(module.params["seconds"] / 0.01)
    progress.phase("copying", steps * 1_000_000, steps)
    for _step in range(steps):
        time.sleep(0.01)
        progress.advance(1_000_000, 1)
    # Says nothing by itself: the heartbeat has to.
    progress.phase("verifying")
    time.sleep(1.5)
    progress.close()
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
