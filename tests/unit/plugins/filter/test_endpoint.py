# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.filter.endpoint import endpoint


def test_what_is_empty_is_not_given():
    keys = ["namespace", "pvc", "validate_certs", "path"]
    assert endpoint(["shop", "", False, None], keys) == {"namespace": "shop", "validate_certs": False}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("kc", "{here}/kc"),
        ("~/kc", "{home}/kc"),
        ("/etc/kc", "/etc/kc"),
        ({"clusters": []}, {"clusters": []}),
    ],
    ids=repr,
)
def test_files_are_where_the_run_was_started(given, taken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if isinstance(taken, str):
        taken = taken.format(here=tmp_path, home=tmp_path / "home")
    assert endpoint([given, given], ["kubeconfig", "ca_cert"]) == {"kubeconfig": taken, "ca_cert": taken}
