# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the collection's own modules do arrives as reports and sums, not only as a result like any other."""

from __future__ import annotations


def test_reports_and_sums_of_real_copies(playbooks, recorder, check_schema):
    source = playbooks.folder / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(name.encode() * 1_000_000)
    run = playbooks.run("copy.yml", "-e", f"place={playbooks.folder}", url=recorder.url)
    assert run.status == 0, run.stdout
    check_schema(recorder.events)

    reports = {
        event["data"]["task"]: event["data"]["parity"]
        for event in recorder.events
        if "parity" in event["data"]
    }
    assert list(reports) == ["Copy all", "Copy again", "Compare"]
    assert [report["whole"] for report in reports.values()] == [True, True, False]
    assert reports["Copy all"]["bytes"] == 2_000_000
    found = reports["Compare"]
    assert (found["missing"], [entry["path"] for entry in found["mismatched"]]) == (["a"], ["b"])
    assert found["source"].startswith(str(source))

    ends = [event["data"] for event in recorder.of("progress") if event["data"]["phase"] == "end"]
    sums = [(data["label"], data["bytes"], data["files"]) for data in ends]
    assert sums == [("source to target", 2_000_000, 2), ("", 0, 0), ("", 0, 0)]
