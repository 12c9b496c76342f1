# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import json

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._event_line import event_line
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import MASK, Redactor


def told(data, redactor):
    return json.loads(event_line("host.ok", data, redactor))


def test_a_secret_of_bytes_that_are_not_utf_8_is_found():
    value = b"caf\xe9-hunter22".decode(errors="surrogateescape")
    event = told({"msg": f"x {value} \udcff"}, Redactor(values=[value]))
    assert event["data"] == {"msg": f"x {MASK} ?"}
    assert event["redacted"] is True
    assert told({"msg": value}, Redactor())["data"] == {"msg": "caf?-hunter22"}


def test_an_event_says_that_something_was_taken_out_of_a_name():
    redactor = Redactor(values=["hunter22", "sesame-open"])
    for name in ("hunter22", "sesame-open"):
        assert told({"host": redactor.host(name)}, redactor)["redacted"] is True
    assert "redacted" not in told({"host": redactor.host("h1")}, redactor)
