# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import os
import select
import shutil
import socket
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


@pytest.mark.parametrize("spared", [{}, {"no_proxy": ".example.org"}, {"NO_PROXY": "example.org"}])
def test_a_server_on_this_machine_is_not_looked_for_at_a_proxy(tmp_path, monkeypatch, spared):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name, value in ({"http_proxy": address} | spared).items():
            monkeypatch.setenv(name, value)
        publisher, _warning = _publisher.start_publisher(
            _publisher.Options(
                url=f"ws://127.0.0.1:{server.getsockname()[1]}/ws",
                token="token",
                ca_cert=None,
                validate_certs="true",
                redact_keys=[],
                redact_values=[],
                spool=str(tmp_path),
                spool_mebibytes=1,
                progress="never",
                run=None,
            )
        )
        ready = select.select([server, proxy], [], [], 20)[0]
        publisher._helper._process.kill()
        publisher.finish()
    assert ready == [server]
