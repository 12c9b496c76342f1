# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible import context
from ansible.executor.stats import AggregateStats

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _run_data
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._bounded import Bounded
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import Redactor
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._run_data import (
    Counted,
    HiddenStats,
    run_data,
    stats_data,
)


@pytest.fixture
def stats():
    made = AggregateStats()
    for what, host in (("ok", "h1"), ("changed", "h1"), ("failures", "h2")):
        made.increment(what, host)
    return made


def recap(by_host):
    return stats_data(by_host, {}, Bounded(Redactor()), HiddenStats())


def test_a_recap_adds_up_its_hosts(stats):
    told = recap(Counted().of_run(stats))
    assert told["status"] == "failed"
    assert (told["totals"]["ok"], told["totals"]["changed"], told["totals"]["failures"]) == (1, 1, 1)
    assert list(told["stats"]) == ["h1", "h2"]
    assert told["stats"]["h2"]["failures"] == 1


def test_the_next_playbook_of_a_command_has_a_recap_of_its_own(stats):
    counted = Counted()
    counted.of_run(stats)
    stats.increment("ok", "h1")
    stats.increment("dark", "h3")
    told = recap(counted.of_run(stats))
    assert told["status"] == "failed"
    assert list(told["stats"]) == ["h1", "h3"]
    assert (told["totals"]["ok"], told["totals"]["failures"], told["totals"]["unreachable"]) == (1, 0, 1)
    stats.increment("ok", "h2")
    assert recap(counted.of_run(stats))["status"] == "ok"


def test_of_very_many_hosts_only_the_totals_are_told(stats, monkeypatch):
    monkeypatch.setattr(_run_data, "MOST_HOSTS", 1)
    bounded = Bounded(Redactor())
    told = stats_data(Counted().of_run(stats), {}, bounded, HiddenStats())
    assert "stats" not in told
    assert told["totals"]["ok"] == 1
    assert bounded.truncated


def test_a_run_without_hosts_to_go_on_with_has_failed(stats):
    counted = Counted()
    counted.of_run(stats)
    stats.increment("rescued", "h1")
    told = stats_data(counted.of_run(stats), {}, Bounded(Redactor()), HiddenStats(), broken_off=True)
    assert told["totals"]["failures"] == 0
    assert told["status"] == "failed"


@pytest.mark.parametrize(
    ("file", "name"), [("/a/site.yml", "site.yml"), ("__adhoc_playbook__", "ad hoc"), (None, "ad hoc")]
)
def test_what_a_run_is_called(file, name):
    assert run_data(SimpleNamespace(_file_name=file), Redactor())["playbook"] == name


def test_a_secret_where_a_word_of_a_run_is_cut_is_gone_whole(monkeypatch):
    long = "x" * 1_014 + "hunter2-hunter2"
    monkeypatch.setattr(context, "CLIARGS", {"subset": long, "tags": [long]})
    monkeypatch.setenv("JOB_ID", long)
    told = run_data(SimpleNamespace(_file_name=long), Redactor(values=["hunter2-hunter2"]))
    assert "hunter" not in str(told)
    assert len(told["limit"]) == len(told["job"]) == 1_024
