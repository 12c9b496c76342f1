# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the copy engine share."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from ferry import TALLY
from toolbox import Box

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy, _file_system

OVERLAY = "794c7630"


@pytest.fixture(scope="session")
def boxes(tmp_path_factory):
    """The boxes by kind; nobody in particular may enter them."""
    place = tmp_path_factory.mktemp("boxes")
    return {kind: Box(str(place / kind), kind) for kind in ("busybox", "gnu", "rsync", "openssl", "tls")}


@pytest.fixture
def place():
    """A directory that every user may enter."""
    made = Path(tempfile.mkdtemp(prefix="kubeferry-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def number(tmp_path_factory):
    """That of the file system that the tests are on."""
    asked = ["stat", "-f", "-c", "%t", tmp_path_factory.getbasetemp()]
    return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


@pytest.fixture(autouse=True)
def on_disk(number, monkeypatch):
    """In a container, the tests' overlay is one of directories on a disk."""
    if number == OVERLAY:
        monkeypatch.setitem(_file_system.WRITTEN_OUT, OVERLAY, True)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Attempts follow each other at once."""
    monkeypatch.setattr(_copy, "BACKOFF_SECONDS", 0.0)


def pytest_terminal_summary(terminalreporter):
    """Say how many copies met a fault, and how they ended."""
    if TALLY.endings:
        terminalreporter.write_line(TALLY.line())
