# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Where the helper process begins: `python -P _helper_main.py`, without Ansible's collection loader.

The collection's packages have no `__init__.py`, and another `ansible_collections` on the path may have one and hide
them, so they are declared by hand.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

PACKAGE = "ansible_collections.kubeferry.pvc.plugins.plugin_utils"


def main() -> None:
    parts = PACKAGE.split(".")
    # parents[0] is the folder of the last part.
    folders = list(reversed(Path(__file__).absolute().parents[: len(parts)]))
    for depth, folder in enumerate(folders, start=1):
        module = types.ModuleType(".".join(parts[:depth]))
        module.__path__ = [str(folder)]
        sys.modules[module.__name__] = module
    importlib.import_module(f"{PACKAGE}._helper").main()


if __name__ == "__main__":
    main()
