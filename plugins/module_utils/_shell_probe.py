# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The first question to an endpoint: what is there, and which tools it has."""

from __future__ import annotations

import re

from . import _scripts as scripts
from . import _shell_output as output
from ._asking import Asker
from ._capabilities import rights
from ._entry import NANOSECOND, SECOND
from ._errors import ExecError, ProtocolError, ToolMissing
from ._mounts import mounted_below
from ._names import encode
from ._tree import Facts

NEEDED = (
    *("sh", "cat", "head", "find", "xargs", "stat", "tar", "mkdir", "mv", "rm", "rmdir"),
    *("chmod", "chown", "touch", "readlink", "ln"),
)
INODE = r"\d{1,20}:\d{1,20}"
TELLING = {
    "uid": r"\d{0,10}",
    "caps": "[0-9a-f]{0,16}",
    "boot": r"[\w-]{0,64}",
    "inode": f"({INODE})?",
    "above": f"({INODE} ?)*",
}
"""What an answer looks like that more is made of; where a tool is missing there is none."""


def probe(asker: Asker) -> Facts:
    """Look at the directory, and for the tools there. Raises ToolMissing where one that everything needs isn't."""
    values, tools = output.values(asker.run(scripts.PROBE, *scripts.TOOLS))
    if values.get("end") != "1":
        raise ExecError(f"{asker.where} did not answer the first question whole: try again.")
    for key, pattern in TELLING.items():
        if not re.fullmatch(pattern, values.get(key, ""), re.ASCII):
            raise ProtocolError(
                f"{asker.where} answered the first question with {key}={values[key][:80]!r}, which can't be: check the "
                "tools of its container."
            )
    missing = [tool for tool in NEEDED if tool not in tools]
    if missing:
        raise ToolMissing(
            f"{asker.runner.where} lacks {', '.join(missing)}: use a container that has them, or name the claim "
            "with pvc instead of a pod, and a helper pod is made."
        )
    fine = re.search(r"\.\d{9} ", values.get("fine", ""))
    inode, boot, real = (values.get(key, "") for key in ("inode", "boot", "real"))
    return Facts(
        kind=values.get("kind", "missing"),
        foreign="foreign" in values,
        readable="readable" in values,
        writable="writable" in values,
        free_bytes=output.free(values.get("bytes", ""), 1024),
        free_inodes=output.free(values.get("inodes", ""), 1),
        volume=f"{boot}:{inode}" if inode and boot else "",
        above=tuple(f"{boot}:{each}" for each in values.get("above", "").split()) if boot else (),
        mounts=mounted_below(encode(real), encode(values.get("mounts", "")).split()) if real else (),
        precision=NANOSECOND if fine else SECOND,
        settable=NANOSECOND if fine and "gnutar" in tools else SECOND,
        tools=tools,
        xattrs="gnuattr" in tools,
        rights=rights(int(values.get("uid") or 0), values.get("caps", "")),
    )
