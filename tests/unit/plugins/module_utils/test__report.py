# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else may have the name of a report file."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import datetime

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils import _report
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._parity import SCHEMA, Parity
from ansible_collections.kubeferry.pvc.plugins.module_utils._report import Hop, record, require_report

HOP = Hop("a", "b", "sha256", True, Parity())
OTHERS = [
    {"schema": SCHEMA, "hops": {"a": {}}},
    {"schema": SCHEMA, "hops": {"a": "parity"}},
    {"schema": SCHEMA, "hops": {"a": {"parity": "yes"}}},
    {"schema": SCHEMA, "hops": []},
    {"schema": SCHEMA + 1, "hops": {}},
    [],
    None,
]


SPECIAL = "can't be read (it is no regular file): choose another path."


def refused(path, why="exists and isn't a report: choose another path, or remove it."):
    """Whether the file is refused before the work and after it, and stays as it was."""
    sentence = f"report: {path} {why}"
    for ask in (lambda: require_report(str(path)), lambda: record(str(path), "one", HOP)):
        with pytest.raises(UsageError, match=f"^{re.escape(sentence)}$"):
            ask()
    assert [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".part")] == []


@pytest.mark.parametrize(
    "text", [*map(json.dumps, OTHERS), "", "{", "[" * 100_000, "\xff"], ids=lambda t: t[:30]
)
def test_files_that_are_no_reports(tmp_path, text):
    (tmp_path / "report").write_text(text)
    refused(tmp_path / "report")
    assert (tmp_path / "report").read_text() == text


def test_a_hop_that_can_be_read_but_is_nested_too_deep_to_be_written(tmp_path, monkeypatch):
    def dump(*_arguments, **_options):
        raise RecursionError

    monkeypatch.setattr(_report.json, "dump", dump)
    record_of(tmp_path / "report", {"a": {"parity": True}})
    with pytest.raises(UsageError, match=r"exists and isn't a report"):
        record(str(tmp_path / "report"), "one", HOP)
    assert os.listdir(tmp_path) == ["report"]


def record_of(path, hops):
    path.write_text(json.dumps({"schema": SCHEMA, "hops": hops}))


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/null"])
def test_devices(device):
    refused(device, SPECIAL)


def test_a_fifo_and_a_huge_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", SPECIAL)
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(_report.MOST_BYTES + 1)
    refused(tmp_path / "huge")


def test_a_path_with_a_line_end_is_shown_on_one_line(tmp_path):
    (tmp_path / "a\nb").write_text("{}")
    with pytest.raises(UsageError, match=r"a\\nb exists"):
        require_report(str(tmp_path / "a\nb"))


def test_a_report_that_is_not_there_yet(tmp_path):
    require_report(None)
    require_report(str(tmp_path / "new"))
    assert os.listdir(tmp_path) == []
    before = int(time.time())
    record(str(tmp_path / "new"), "one", HOP)
    require_report(str(tmp_path / "new"))
    finished = json.loads((tmp_path / "new").read_text())["hops"]["one"]["finished"]
    assert finished.endswith("+00:00")
    assert before <= datetime.fromisoformat(finished).timestamp() <= time.time()
