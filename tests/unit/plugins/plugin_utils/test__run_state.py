# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import LONGEST_WORD, Redactor
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._run_state import RunState


@dataclass
class Play:
    _uuid: str = "play"
    strategy: str = "linear"
    serial: Any = None

    def get_name(self):
        return "A play"


@dataclass
class Task:
    _uuid: str = "task"
    action: str = "debug"
    tags: list[str] = field(default_factory=list)
    async_val: int = 0
    path: str | None = None

    def get_name(self):
        return f"Task {self._uuid}"

    def get_path(self):
        return self.path


def kinds(told):
    return [(kind, data.get("task_id") or data["play_id"]) for kind, data in told]


def test_lockstep():
    state = RunState(Redactor())
    assert kinds(state.play_started(Play())) == [("play.started", "play")]
    assert kinds(state.task_started(Task("a"))) == [("task.started", "a")]
    state.host_started("h1", Task("a"))
    assert kinds(state.task_started(Task("b"))) == [("task.finished", "a"), ("task.started", "b")]
    assert kinds(state.play_finished()) == [("task.finished", "b"), ("play.finished", "play")]
    assert state.play_finished() == []


def test_batches_have_their_own_ids():
    state = RunState(Redactor())
    first = state.play_started(Play(serial=[1]))
    state.task_started(Task("a"))
    second = state.play_started(Play(serial=[1]))
    assert first[0][1]["batch"] == 1
    assert second[-1][1]["batch"] == 2
    assert kinds(second) == [("task.finished", "a"), ("play.finished", "play"), ("play.started", "play.2")]
    assert kinds(state.task_started(Task("a"))) == [("task.started", "a.2")]


@pytest.mark.parametrize(
    "strategy", ["free", "host_pinned", "ansible.builtin.free", "somebody.elses.strategy"]
)
def test_a_task_announced_for_each_host_is_one_task(strategy):
    state = RunState(Redactor())
    state.play_started(Play(strategy=strategy))
    assert kinds(state.task_started(Task("a"))) == [("task.started", "a")]
    run, told = state.host_started("h1", Task("a"))
    assert (run.task_id, told) == ("a", [])
    # h1 is ahead of h2.
    assert kinds(state.task_started(Task("b"))) == [("task.started", "b")]
    state.host_started("h1", Task("b"))
    assert state.task_started(Task("a")) == []
    run, told = state.host_started("h2", Task("a"))
    assert (run.task_id, told) == ("a", [])
    assert kinds(state.play_finished())[:2] == [("task.finished", "a"), ("task.finished", "b")]


def test_a_handler_that_comes_again_is_another_task():
    state = RunState(Redactor())
    state.play_started(Play(strategy="free"))
    state.task_started(Task("handler"), handler=True)
    first, _told = state.host_started("h1", Task("handler"))
    state.host_started("h2", Task("handler"))
    assert state.task_started(Task("handler"), handler=True) == []
    second, told = state.host_started("h1", Task("handler"))
    assert (first.task_id, second.task_id) == ("handler", "handler.2")
    # h2 is still in the first round: its result belongs there, and ends it.
    assert kinds(told) == [("task.started", "handler.2")]
    assert second.about["handler"] is True
    assert state.of_result("h2", Task("handler")) == (first, [])
    assert kinds(state.host_finished("h2", first)) == [("task.finished", "handler")]
    assert state.host_finished("h1", second) == []
    assert kinds(state.play_finished()) == [("task.finished", "handler.2"), ("play.finished", "play")]


def test_a_round_that_every_host_has_left_ends_before_the_next():
    state = RunState(Redactor())
    state.play_started(Play(strategy="free"))
    state.task_started(Task("handler"), handler=True)
    first, _told = state.host_started("h1", Task("handler"))
    assert state.host_finished("h1", first) == []
    _second, told = state.host_started("h1", Task("handler"))
    assert kinds(told) == [("task.finished", "handler"), ("task.started", "handler.2")]


def test_a_poll_belongs_to_the_task_that_the_host_is_in():
    state = RunState(Redactor())
    state.play_started(Play())
    state.task_started(Task("job"))
    run, _told = state.host_started("h1", Task("job"))
    assert state.of_result("h1", Task("made up by Ansible")) == (run, [])


def test_a_result_that_nobody_announced_begins_its_task():
    state = RunState(Redactor())
    state.play_started(Play())
    run, told = state.of_result("h1", Task("meta"))
    assert kinds(told) == [("task.started", "meta")]
    assert run.task_id == "meta"


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/project/playbooks/site.yml:3", "site.yml:3"),
        ("/project/playbooks/roles/x/tasks/main.yml:12", "roles/x/tasks/main.yml:12"),
        ("/home/somebody/elsewhere/main.yml:1", "main.yml:1"),
    ],
)
def test_paths_do_not_show_the_controllers_directories(path, short):
    state = RunState(Redactor(), "/project/playbooks")
    ((_kind, data),) = state.task_started(Task(path=path))
    assert data["path"] == short


@pytest.mark.parametrize(
    ("action", "copies"),
    [
        ("kubeferry.pvc.pvc_copy", True),
        ("pvc_verify", True),
        ("{{ chosen }}", True),
        ("ansible.builtin.copy", False),
        ("debug", False),
    ],
)
def test_which_tasks_may_have_progress(action, copies):
    run, _told = RunState(Redactor()).host_started("h1", Task(action=action))
    assert run.copies is copies


@pytest.mark.parametrize("begin", ["task_started", "host_started", "of_result"])
def test_a_tasks_secrets_are_known_before_its_name_is_cut(begin):
    redactor = Redactor()
    state = RunState(redactor, before_task=lambda task: redactor.learn("hunter2-hunter2"))
    state.play_started(Play())
    task = Task()
    task.get_name = lambda: "x" * (LONGEST_WORD - 8) + "hunter2-hunter2"
    told = state.task_started(task) if begin == "task_started" else getattr(state, begin)("h1", task)[1]
    assert [kind for kind, _data in told] == ["task.started"]
    assert "hunter" not in str(told)


@pytest.mark.parametrize("shift", range(0, 15, 3))
def test_a_secret_where_a_word_is_cut_is_gone_whole(shift):
    secret = "hunter2-hunter2"
    long = "x" * (LONGEST_WORD - shift) + secret
    state = RunState(Redactor(values=[secret]))
    play = Play(strategy=long)
    play.get_name = lambda: long
    task = Task(action=long, tags=[long], path=f"/{secret}" + "x" * (LONGEST_WORD - shift - 2) + ":1")
    task.get_name = lambda: long
    told = [*state.play_started(play), *state.task_started(task)]
    assert "hunter" not in str(told)
    assert "2-hunter2" not in str(told)
    assert max(len(word) for _kind, data in told for word in data.values()) <= LONGEST_WORD
