# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod whose rsync means harm."""

from __future__ import annotations

import engine
import pytest
from toolbox import Box
from trees import write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _rsync
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ProtocolError

CHATTY = """#!/usr/bin/python3 -S
import os, struct
os.write(1, struct.pack("<ii", 29, 1234))
said = b"spam " * 800 + b"\\n"
while True:
    os.write(1, struct.pack("<I", 9 << 24 | len(said)) + said)
"""


def test_messages_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_rsync, "MOST_PRINTED", 1 << 20)
    box = Box(str(tmp_path / "box"), "rsync", without=["rsync"])
    (tmp_path / "box" / "rsync").write_text(CHATTY)
    (tmp_path / "box" / "rsync").chmod(0o755)
    write(tmp_path / "source", "file", b"x")
    with pytest.raises(ProtocolError, match=r"sends messages without an end: set transport to tar\."):
        engine.copy(
            engine.shell(box, tmp_path / "source"), engine.local(tmp_path / "target"), transport="rsync"
        )
