# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The secrets that a play is given: its variables and its hosts', those of the command line, what was typed at prompts.

Registered results and facts are variables as well, so those of a task under `no_log` are learnt here: its hook is shown
nothing of them. All of it has to be known before the next task's name is told, which may speak of it.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import cast

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import VaultHelper

from ._hook_types import Host, Inventory, Play, Task
from ._plain_template import BeyondError, MissingError, is_template, plain_value
from ._redact import MOST_SEARCHED, MOST_TEMPLATES, Redactor

# Of the hosts outside a play, where it speaks of `hostvars` without saying whose. A host takes half a millisecond, once
# in a play, and each may have secrets of its own, of which a run can't have too many.
MOST_OTHERS = 200
# Ansible's own: long, and the same for every host, so that to look at them would take time by the square of the hosts.
_NO_SECRETS = {
    "groups",
    "hostvars",
    "vars",
    "omit",
    "ansible_version",
    "ansible_play_hosts",
    "ansible_play_hosts_all",
    "ansible_play_batch",
    "play_hosts",
}
_NAMED = re.compile(r"\bhostvars\s*(?:\[\s*['\"]([^'\"]+)['\"]\s*\]|\.(\w+))")
_UNNAMED = re.compile(r"\bhostvars\b(?!\s*(?:\[\s*(?:['\"][^'\"]+['\"]|inventory_hostname)\s*\]|\.\w))")
_WORD = re.compile(r"[A-Za-z_]\w*")


class _OfHosts(dict[str, object]):
    """The variables of hosts, where nobody has asked for them yet."""

    def __missing__(self, name: str) -> object:
        raise MissingError(name)


class PlaySecrets:
    """What a play and its hosts have by now, from their inventory, files of variables, earlier tasks, or a vault."""

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor
        redactor.is_template = is_template
        self._play: Play | None = None
        # The names of hosts whose variables were looked at, and the hosts that may have new ones since.
        self._known: set[str] = set()
        self._again: dict[str, Host] = {}
        # What results under `no_log` were registered as.
        self._registered: set[str] = set()
        self._roles: dict[str, Mapping[str, object]] = {}
        # Templates behind telling names, with the variables of the task that had them.
        self._templates: dict[tuple[object, ...], tuple[str, Mapping[str, object]]] = {}
        # The hosts whose variables somebody speaks of, and whether that may be any.
        self._spoken_of: set[str] = set()
        self._speaks_of_any = self._any_known = self._hosts_due = False

    def play_started(self, play: Play) -> None:
        """Learn what a play has, or a batch of one, before its name is told."""
        self._learn_again()
        if self._play is None or self._play._uuid != play._uuid:  # noqa: SLF001 (the only name it has)
            self._known.clear()
            self._roles.clear()
            self._templates.clear()
            self._speaks_of_any = self._any_known = False
        self._play = play
        if (inventory := self._inventory()) is not None:
            self.redactor.hosts = inventory.hosts
        self._learn_of_play(play)
        self._learn_variables(self._variables(None, play))
        self._hosts_due = True

    def _learn_of_play(self, play: Play) -> None:
        """Take what stands behind telling names, and all that was typed unseen, out of everything from now on."""
        given: dict[str, object] = {**play.vars, **_extra_vars(play)}
        self.redactor.learn_arguments(given)
        for prompt in play.vars_prompt or ():
            # Where the command line has the variable nobody is asked, and no hook tells of the prompt.
            if isinstance(prompt, Mapping) and boolean(prompt.get("private", True), strict=False):
                self.redactor.learn(given.get(str(prompt.get("name"))))
        self._follow(given)

    def task_started(self, task: Task) -> None:
        """Learn what a task has beside its hosts' variables, and what tasks before it have left under `no_log`."""
        self._learn_again()
        if self._hosts_due:
            # Each would be looked at when it gets the task; but the name may be made for any of them.
            self._hosts_due = False
            for host in self._hosts():
                self.learn(host)
        given = task.get_vars()
        for value in (getattr(task, "_ds", None), given):
            self._look(value)
        self.redactor.learn_task(task.args, task.environment or ())
        self.redactor.learn_arguments(given)
        self._follow_of_task(task, {**self._of_role(task), **given})
        if isinstance(task.delegate_to, str):
            self.learn_named(task.delegate_to)
        self._learn_others()

    def learn(self, host: Host) -> None:
        """Look at the variables of one of the play's hosts, once in a play."""
        if host.get_name() not in self._known:
            self._known.add(host.get_name())
            self._learn_variables(self._variables(host, self._play))

    def learn_named(self, name: str) -> None:
        """Look at the variables of a host that need not be in the play, once in a play."""
        inventory = self._inventory()
        if name not in self._known and inventory is not None and name in inventory.hosts:
            self._known.add(name)
            self._learn_variables(self._variables(inventory.hosts[name], None))

    def hidden(self, host: Host, task: Task) -> None:
        """A task under `no_log` may have given variables to a host, or to the one that it was delegated to."""
        self._look_again(host)
        if isinstance(task.delegate_to, str):
            self._known.discard(task.delegate_to)
            self._spoken_of.add(task.delegate_to)
        # One name, or since ansible-core 2.21 several.
        if isinstance(task.register, str):
            self._registered.add(task.register)
        elif isinstance(task.register, Mapping):
            self._registered.update(map(str, task.register))

    def _look_again(self, host: Host) -> None:
        self._known.discard(host.get_name())
        self._again[host.get_name()] = host

    def _learn_again(self) -> None:
        again, self._again = self._again, {}
        for host in again.values():
            self.learn(host)

    def _learn_others(self) -> None:
        spoken_of, self._spoken_of = self._spoken_of, set()
        for name in sorted(spoken_of):
            self.learn_named(name)
        inventory = self._inventory()
        if self._speaks_of_any and not self._any_known and inventory is not None:
            self._any_known = True
            for name in [name for name in inventory.hosts if name not in self._known][:MOST_OTHERS]:
                self.learn_named(name)

    def _inventory(self) -> Inventory | None:
        manager = None if self._play is None else self._play.get_variable_manager()
        return getattr(manager, "_inventory", None)

    def _hosts(self) -> Iterable[Host]:
        """Return the hosts of the play's batch."""
        inventory = self._inventory()
        return () if inventory is None else inventory.get_hosts()

    def _variables(self, host: Host | None, play: Play | None) -> Mapping[str, object]:
        manager = None if self._play is None else self._play.get_variable_manager()
        if manager is None:
            return {}
        try:
            return manager.get_vars(play=play, host=host, include_hostvars=False)
        except AnsibleError:
            return {}  # the task fails for the same reason, and says it
        except RuntimeError:
            # The result of a loop's item comes while another thread may add variables.
            if host is not None:
                self._look_again(host)
            return {}

    def _learn_variables(self, found: Mapping[str, object]) -> None:
        for name in self._registered:
            self.redactor.learn(found.get(name))
        facts = found.get("ansible_facts")
        twice = {f"ansible_{name}" for name in facts} if isinstance(facts, Mapping) else set()
        own = {name: value for name, value in found.items() if name not in _NO_SECRETS and name not in twice}
        self._look(own)
        self.redactor.learn_arguments(own)
        self._follow(found)
        for text, given in self._templates.values():
            self._learn_template(text, _together(given, found))

    def _learn_template(self, text: str, variables: Mapping[str, object]) -> type[Exception] | None:
        """Learn what a template comes to. Returns the error where that is nothing, by its kind."""
        try:
            self.redactor.learn(plain_value(text, variables))
        except (MissingError, BeyondError) as error:
            return type(error)
        return None

    def _follow(self, variables: Mapping[str, object]) -> None:
        """Learn what the templates come to that were found behind telling names, and those that this brings up."""
        followed: set[str] = set()
        while texts := [text for text in self.redactor.templates() if text not in followed]:
            followed.update(texts)
            for text in texts:
                self._learn_template(text, variables)

    def _follow_of_task(self, task: Task, given: Mapping[str, object]) -> None:
        """Learn what the templates of a task come to, for each host that it may be for, once for the same variables."""
        item = getattr(task.loop_control, "loop_var", "item")
        wanted: list[str] = []
        for text in self.redactor.templates():
            words = _WORD.findall(text)
            key = (text, *(id(given[word]) for word in words if word in given))
            # A loop's items are learnt with their results.
            if key in self._templates or (item in words and item not in given):
                continue
            if len(self._templates) >= MOST_TEMPLATES:
                self.redactor.full = True
                break
            self._templates[key] = text, given
            wanted.append(text)
        wanted = [text for text in wanted if not self._settled(text, given)]
        for host in self._hosts() if wanted else ():
            variables = _together(given, self._variables(host, self._play))
            wanted = [text for text in wanted if self._learn_template(text, variables) is not BeyondError]
            self._follow(variables)
            if not wanted:
                break

    def _settled(self, text: str, given: Mapping[str, object]) -> bool:
        """Learn what a template comes to without any host's variables; False where it takes them."""
        variables = _together(given, _OfHosts())
        missing = self._learn_template(text, variables)
        if missing is None:
            self._follow(variables)
        return missing is not MissingError

    def _look(self, value: object) -> None:
        """Learn what is encrypted by itself, a secret under any name, and note the hosts that are spoken of."""
        waiting, left = [value], MOST_SEARCHED
        while waiting and left > 0:
            left -= 1
            value = waiting.pop()
            if isinstance(value, Mapping):
                waiting.extend(value.values())
            elif isinstance(value, list):
                waiting.extend(value)
            elif VaultHelper.get_ciphertext(value, with_tags=False) is not None:
                try:
                    opened = str(value)
                except AnsibleError:
                    continue  # whoever uses it is told that it can't be opened
                self.redactor.learn(opened)
                self.redactor.learn_arguments(opened)
            elif isinstance(value, str) and "hostvars" in value:
                self._spoken_of.update(bracketed or dotted for bracketed, dotted in _NAMED.findall(value))
                self._speaks_of_any |= _UNNAMED.search(value) is not None

    def _of_role(self, task: Task) -> Mapping[str, object]:
        """Return the variables of a task's role; they are learnt with its first task."""
        role = task._role  # noqa: SLF001 (the only name it has)
        if role is None:
            return {}
        key = role._uuid  # noqa: SLF001
        if key not in self._roles:
            chain = task.get_dep_chain()
            found = {**role.get_default_vars(dep_chain=chain), **role.get_vars(dep_chain=chain)}
            self._roles[key] = found
            self._look(found)
            self.redactor.learn_arguments(found)
        return self._roles[key]


def _together(first: Mapping[str, object], second: Mapping[str, object]) -> Mapping[str, object]:
    # Only read, so that neither needs to be a mapping that can be changed.
    mappings = cast(tuple[dict[str, object], dict[str, object]], (first, second))
    return ChainMap(*mappings)


def _extra_vars(play: Play) -> Mapping[str, object]:
    manager = play.get_variable_manager()
    found = getattr(manager, "extra_vars", None)
    return found if isinstance(found, Mapping) else {}
