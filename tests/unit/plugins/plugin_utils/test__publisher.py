# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _publisher
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._helper_process import HelperProcess
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._play_secrets import PlaySecrets
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor


@pytest.fixture
def left(tmp_path, monkeypatch):
    """Something in the place that this process's helper gets."""
    monkeypatch.setattr(_publisher, "PLACE", str(tmp_path / "place-{pid}"))
    place = Path(_publisher._private_place(first=True))
    (place / "rest").write_text("events")
    return place


def test_what_a_killed_helper_has_left_goes(left):
    assert _publisher._private_place(first=True) == str(left)
    assert list(left.iterdir()) == []


def test_a_helper_that_still_works_for_the_playbook_before_keeps_its_place(left):
    other = _publisher._private_place(first=False)
    try:
        assert Path(other) != left
        assert (left / "rest").read_text() == "events"
    finally:
        shutil.rmtree(other)


def test_a_helper_that_is_gone_is_told_of_at_the_end_too():
    """A short run has written everything before it could notice."""
    helper = HelperProcess({}, os.environ, None)
    publisher = _publisher.Publisher(helper, PlaySecrets(Redactor()), publishes=True)
    helper._process.kill()
    helper._process.wait()
    assert "helper process is gone" in (publisher.finish() or "")
    assert publisher.warning() is None
