# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleError
from ansible.template import trust_as_template

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._play_secrets import MOST_OTHERS, PlaySecrets
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import MASK, MOST_TEMPLATES, Redactor


def host(name):
    return SimpleNamespace(get_name=lambda: name)


class Manager:
    """Has the variables of hosts, and counts how often it is asked for them."""

    def __init__(self, variables=None, batch=(), extra_vars=None):
        self.variables = variables or {}
        self.extra_vars = extra_vars or {}
        self.asked = []
        self.hosts = {name: host(name) for name in self.variables}
        self._inventory = SimpleNamespace(
            hosts=self.hosts, get_hosts=lambda: [self.hosts[name] for name in batch]
        )

    def get_vars(self, *, play, host, include_hostvars):
        assert include_hostvars is False
        name = host and host.get_name()
        self.asked.append(name)
        found = self.variables.get(name, {})
        if isinstance(found, Exception):
            raise found
        return {**found, **(play.vars if play else {})}


# Ansible has one object for a text in a playbook, by which a task's variables are known again.
trust = cache(trust_as_template)


def trusted(given):
    """What a playbook has, where Ansible takes texts for templates."""
    return {name: trust(value) if isinstance(value, str) else value for name, value in given.items()}


def play(manager, **fields):
    given = {"vars": {}, "vars_prompt": None, "_uuid": "p1"} | fields
    return SimpleNamespace(get_variable_manager=lambda: manager, **given)


def task(**fields):
    given = {
        "args": {},
        "vars": {},
        "environment": None,
        "delegate_to": None,
        "register": None,
        "loop_control": None,
    }
    made = SimpleNamespace(**(given | {"_role": None, "_ds": None} | fields))
    made.vars = trusted(made.vars)
    made.args = trusted(made.args)
    made.get_vars = lambda: made.vars
    made.get_dep_chain = lambda: None
    return made


@pytest.fixture
def redactor():
    return Redactor()


@pytest.fixture
def secrets(redactor):
    return PlaySecrets(redactor)


def test_variables_and_answers_are_learnt(secrets, redactor):
    manager = Manager(extra_vars={"db_password": "from-the-command-line", "pin": "answered-there"})
    prompts = [
        {"name": "pin", "private": True},
        {"name": "word"},
        {"name": "shown", "private": "no"},
        {"name": "never"},
    ]
    variables = {
        "api_token": "of-the-play",
        "word": "typed-unseen",
        "shown": "typed-aloud",
        "other": "harmless",
    }
    secrets.play_started(play(manager, vars=variables, vars_prompt=prompts))
    for secret in ("from-the-command-line", "answered-there", "of-the-play", "typed-unseen"):
        assert redactor.text(f"<{secret}>") == f"<{MASK}>"
    assert redactor.text("typed-aloud, harmless") == "typed-aloud, harmless"


def test_a_play_without_a_manager_is_no_error(secrets):
    secrets.play_started(play(None))
    secrets.task_started(task())


def test_hosts_are_learnt_once_and_before_the_first_task(secrets, redactor):
    manager = Manager(
        {"a": {"db_password": "of-host-a"}, "b": {"db_password": "of-host-b"}}, batch=["a", "b"]
    )
    secrets.play_started(play(manager))
    assert manager.asked == [None]
    secrets.task_started(task())
    assert redactor.text("of-host-a of-host-b") == f"{MASK} {MASK}"
    secrets.learn(manager.hosts["a"])
    secrets.task_started(task())
    assert manager.asked == [None, "a", "b"]


class Unread(list):
    def __iter__(self):
        raise AssertionError("it is as long as there are hosts, and each host has it")


@pytest.mark.parametrize(
    "name", ["ansible_play_hosts", "ansible_play_hosts_all", "ansible_play_batch", "play_hosts"]
)
def test_the_names_of_all_hosts_are_not_looked_at_for_each_of_them(name, secrets, redactor):
    manager = Manager({"h1": {name: Unread(["h1", "h2"]), "token": "of the first"}}, batch=["h1"])
    secrets.play_started(play(manager))
    secrets.task_started(task())
    assert redactor.text("of the first") == MASK


def test_what_a_hidden_task_leaves_is_learnt_before_the_next_one(secrets, redactor):
    manager = Manager({"a": {}, "b": {}}, batch=["a", "b"])
    secrets.play_started(play(manager))
    secrets.task_started(task())
    manager.variables["a"]["said"] = {"changed": True, "stdout": "sesame-open"}
    secrets.hidden(manager.hosts["a"], task(register="said"))
    assert redactor.text("sesame-open") == "sesame-open"
    secrets.task_started(task())
    assert redactor.text("sesame-open") == MASK
    assert manager.asked == [None, "a", "b", "a"]
    # In free and host_pinned, the next task may have been told already; at the end of a play there is none.
    for step in (
        lambda: secrets.learn(manager.hosts["b"]),
        lambda: secrets.play_started(play(manager, _uuid="p2")),
    ):
        manager.variables["b"]["said"] = {"changed": True, "stdout": f"by-step-{len(manager.asked)}"}
        secrets.hidden(manager.hosts["b"], task(register="said"))
        step()
        assert redactor.text(manager.variables["b"]["said"]["stdout"]) == MASK


def test_variables_and_environments_of_tasks_and_roles(secrets, redactor):
    role = SimpleNamespace(
        _uuid="r1",
        get_default_vars=lambda dep_chain: {"default_password": "of-defaults"},
        get_vars=lambda dep_chain: {"role_password": "of-role-vars"},
    )
    secrets.play_started(play(Manager()))
    environment = [{"APP_SECRET": "of-the-environment", "MY_PATH": "/harmless"}, "{{ more }}"]
    secrets.task_started(task(vars={"block_password": "of-a-block"}, environment=environment, _role=role))
    for secret in ("of-defaults", "of-role-vars", "of-a-block", "of-the-environment"):
        assert redactor.text(secret) == MASK
    assert redactor.text("/harmless") == "/harmless"


def test_templates_are_followed_for_each_host_once(secrets, redactor):
    manager = Manager({"a": {"suffix": "of-a"}, "b": {"suffix": "of-b"}}, batch=["a", "b"])
    secrets.play_started(play(manager))
    given = {"base": "value", "made_password": "{{ base ~ '-' ~ suffix }}", "alone_token": "{{ base }}-alone"}
    secrets.task_started(task(vars=given))
    assert redactor.text("value-of-a value-of-b value-alone") == f"{MASK} {MASK} {MASK}"
    asked = len(manager.asked)
    secrets.task_started(task(vars=given))
    assert len(manager.asked) == asked
    secrets.task_started(task(vars={**given, "base": "another"}))
    assert redactor.text("another-of-b") == MASK


def test_what_is_no_template_is_learnt_as_it_is(secrets, redactor):
    unsafe = {"a_password": "unsafe{{x}}"}
    secrets.play_started(play(Manager({"a": unsafe}, batch=["a"]), vars=trusted({"b_password": "broken{{x"})))
    secrets.task_started(task())
    assert redactor.text("unsafe{{x}} broken{{x") == f"{MASK} {MASK}"


def test_a_play_with_more_templates_than_can_be_kept_is_noticed(secrets, redactor):
    secrets.play_started(play(Manager()))
    for number in range(MOST_TEMPLATES):
        secrets.task_started(task(vars={"a_password": f"{{{{ part }}}}-{number}"}))
    assert not redactor.full
    secrets.task_started(task(vars={"a_password": "{{ part }}-x"}))
    assert redactor.full


def test_no_host_is_asked_for_what_takes_a_lookup_or_an_item(secrets):
    manager = Manager({"a": {}, "b": {}}, batch=["a", "b"])
    secrets.play_started(play(manager))
    secrets.task_started(task())
    asked = len(manager.asked)
    secrets.task_started(task(args={"api_key": "{{ item.key }}", "token": "{{ lookup('env', 'X') }}"}))
    secrets.task_started(task(vars={"loop_password": "{{ loop_password }}"}))
    assert len(manager.asked) == asked


def test_other_hosts_are_learnt_when_somebody_speaks_of_them(secrets, redactor):
    variables = {f"h{number}": {"token": f"secret-of-{number}"} for number in range(MOST_OTHERS + 10)}
    manager = Manager(variables, batch=["h0"])
    secrets.play_started(play(manager))
    secrets.task_started(task(_ds={"debug": {"msg": "{{ hostvars[inventory_hostname].x }}"}}))
    assert redactor.text("secret-of-1 ") == "secret-of-1 "
    secrets.task_started(task(_ds={"debug": {"msg": "{{ hostvars['h209'].token }}"}}, delegate_to="h208"))
    assert manager.asked == [None, "h0", "h208", "h209"]
    assert redactor.text("secret-of-209 secret-of-208") == f"{MASK} {MASK}"
    for _again in range(2):
        secrets.task_started(task(vars={"all": ["{{ groups['x'] | map('extract', hostvars) }}"]}))
        assert len(manager.asked) == 4 + MOST_OTHERS
    assert redactor.text("secret-of-1 ") == f"{MASK} "


def test_variables_that_cannot_be_had_are_no_error(secrets, redactor):
    manager = Manager({"a": AnsibleError("a vault"), "b": RuntimeError("changed size")}, batch=["a", "b"])
    secrets.play_started(play(manager))
    secrets.task_started(task())
    manager.variables["b"] = {"db_password": "hunter22"}
    secrets.task_started(task())
    assert redactor.text("hunter22") == MASK


def test_names_of_the_inventorys_hosts_are_learnt_of_nothing():
    redactor = Redactor()
    manager = Manager({"server01": {}, "server02": {}})
    secrets = PlaySecrets(redactor)
    secrets.play_started(play(manager, vars={"secret_hosts": ["server01", "server02", "server03"]}))
    assert redactor.known() == ["server03"]
