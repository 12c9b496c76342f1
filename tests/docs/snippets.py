# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What a document tells its reader to type: blocks of commands, and the files that they need.

A block of commands is marked `console`, in Markdown or reStructuredText. Right before it a comment
`not run: REASON` may say why no test runs it. A `code-block` with a caption is a file of that name.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MARKDOWN = re.compile(
    r"(?:^<!-- not run: (?P<why>.+?) -->\n+)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
_RST = re.compile(
    r"(?:^\.\. not run: (?P<why>.+)\n+)?"
    r"^\.\. code-block:: (?P<kind>\w+)\n(?:  :caption: (?P<name>\S+)\n)?\n(?P<body>(?:(?:  .*)?\n)+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One block: its kind, its text, the name of the file that it is, and why it isn't run."""

    kind: str
    text: str
    line: int
    name: str = ""
    why: str = ""


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text()
    for found in (_MARKDOWN if document.suffix == ".md" else _RST).finditer(text):
        parts = found.groupdict()
        yield Block(
            parts["kind"],
            textwrap.dedent(parts["body"]).strip() + "\n",
            text.count("\n", 0, found.start("body")) + 1,
            parts.get("name") or "",
            parts["why"] or "",
        )


def commands(block: Block) -> list[str]:
    """The commands of a block, each with its continued lines."""
    return [line for line in re.sub(r"\\\n\s*", "", block.text).splitlines() if line.strip()]
