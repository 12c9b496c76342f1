# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The secrets that a play is given: its variables and its hosts', those of the command line, what was typed at prompts.

Registered results and facts are variables as well, so those of a task under `no_log` are learnt here: its hook is shown
nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import VaultHelper

from ._hook_types import Host, Play, Task
from ._redact import Redactor


def learn_of_play(play: Play, redactor: Redactor) -> None:
    """Take what stands behind telling names, and all that was typed unseen, out of everything from now on."""
    given: dict[str, object] = {**play.vars, **_extra_vars(play)}
    redactor.learn_arguments(given)
    for prompt in play.vars_prompt or ():
        # Where the command line has the variable nobody is asked, and no hook tells of the prompt.
        if isinstance(prompt, Mapping) and boolean(prompt.get("private", True), strict=False):
            redactor.learn(given.get(str(prompt.get("name"))))


# Ansible's own: long, and the same for every host.
_NO_SECRETS = {
    "groups",
    "hostvars",
    "vars",
    "omit",
    "ansible_version",
    "ansible_play_hosts",
    "ansible_play_batch",
}
_DEEPEST = 6


class HostSecrets:
    """What the hosts of one play have by now, from their inventory, files of variables, earlier tasks, or a vault."""

    def __init__(self, play: Play, redactor: Redactor) -> None:
        self._play = play
        self._redactor = redactor
        self._known: set[str] = set()
        # What results under `no_log` were registered as.
        self._registered: set[str] = set()
        self._names = redactor.names_learnt

    def learn(self, host: Host) -> None:
        """Look at a host's variables, once, or again when there may be more to learn of them."""
        if self._names != self._redactor.names_learnt:
            self._known.clear()
            self._names = self._redactor.names_learnt
        if host.get_name() in self._known:
            return
        self._known.add(host.get_name())
        manager = self._play.get_variable_manager()
        try:
            found = manager.get_vars(play=self._play, host=host, include_hostvars=False)
        except AnsibleError:
            return  # the task fails for the same reason, and says it
        for name in self._registered:
            self._redactor.learn(found.get(name))
        own = {name: value for name, value in found.items() if name not in _NO_SECRETS}
        self._redactor.learn_arguments(_opened(own, self._redactor), _DEEPEST)

    def hidden(self, host: Host, task: Task) -> None:
        """A task under `no_log` may have given a host variables."""
        self._known.discard(host.get_name())
        # One name, or since ansible-core 2.21 several.
        if isinstance(task.register, str):
            self._registered.add(task.register)
        elif isinstance(task.register, Mapping):
            self._registered.update(map(str, task.register))


def _opened(value: object, redactor: Redactor, depth: int = _DEEPEST) -> object:
    """Return variables with what is encrypted among them in clear, which is a secret under any name."""
    if VaultHelper.get_ciphertext(value, with_tags=False) is not None:
        try:
            opened = str(value)
        except AnsibleError:
            return None  # whoever uses it is told that it can't be opened
        redactor.learn(opened)
        return opened
    if depth and isinstance(value, Mapping):
        return {key: _opened(inner, redactor, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list):
        return [_opened(inner, redactor, depth - 1) for inner in value]
    return value


def _extra_vars(play: Play) -> Mapping[str, object]:
    manager = play.get_variable_manager()
    found = getattr(manager, "extra_vars", None)
    return found if isinstance(found, Mapping) else {}
