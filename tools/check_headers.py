# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Check that every source and configuration file names its licence and its copyright holders.

usage: tools/check_headers.py
"""

from __future__ import annotations

import fnmatch
import sys

from make_collections import ROOT, project_files

LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"
COPYRIGHT = "Copyright: the kubeferry.pvc contributors"
# ansible-test asks for this sentence in a module; the other plugins carry it alike.
GPL_LINE = "GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)"
HEADER_LINES = 12

EXEMPT = (
    "COPYING",
    "*.md",  # prose
    "CHANGELOG.rst",  # written by antsibull-changelog, as the next is
    "changelogs/changelog.yaml",
    "*/.keep",
    "*.json",  # formats without comments
    "*.sum",
    "*.png",
    "*.ico",
    "*/data/*",  # bytes that a test is about
)


def faults(name: str, head: str) -> list[str]:
    wanted = [LICENCE, COPYRIGHT]
    if name.startswith(("plugins/modules/", "plugins/callback/", "plugins/doc_fragments/")):
        wanted.append(GPL_LINE)
    return [
        f"{name}: no line with '{text}' among the first {HEADER_LINES}" for text in wanted if text not in head
    ]


def main() -> None:
    found = []
    for path in project_files():
        name = path.relative_to(ROOT).as_posix()
        if (
            path.is_symlink()
            or path.stat().st_size == 0
            or any(fnmatch.fnmatch(name, glob) for glob in EXEMPT)
        ):
            continue
        head = path.read_bytes()[:4096].decode(errors="replace").splitlines()[:HEADER_LINES]
        found += faults(name, "\n".join(head))
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
