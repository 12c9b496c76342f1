# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's hooks turned into events. Everything that may wait is in a helper process (see plugin_utils)."""

from __future__ import annotations

DOCUMENTATION = r"""
name: events
type: aggregate
short_description: Publishes a run to the kubeferry event server and shows the progress of copies
version_added: 0.1.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
description:
  - Publishes plays, tasks, results of hosts and items, retries, asynchronous jobs and the recap of a run as they
    happen, and how far each copy of this collection's modules is.
  - Shows the progress of copies in the last line of the terminal, with an event server or without one.
  - A server that is missing, slow or frozen neither fails nor holds up a run. Events are kept on disk until the server
    has them, if need be until the next run that publishes to the same O(url). For one that the server refuses it has a
    gap, and a warning says why.
  - Commands of C(ansible) are published as the playbook C(ad hoc), where C(ANSIBLE_LOAD_CALLBACK_PLUGINS) is set. Those
    of C(ansible-console) are not, since it has no playbook and calls no hook for one.
  - Arguments, facts and differences of a result are never published, not even where a later task prints that result,
    and nothing at all of a result under C(no_log). A C(no_log) that is still a template counts as true. A task that
    prints one of them by itself, or within a text, publishes it.
  - What stands behind a telling name, and has six letters or more, is taken out of everything that follows, whatever
    field it turns up in, by itself or as JSON, an address, a shell's quotes or base64 have it. In base64 of a longer
    text it is found where the text begins with it. Such names are looked for in the variables of plays, roles, blocks,
    tasks and their hosts, of the command line and of a host that is added; in arguments, C(environment), items of
    loops, facts, all other fields of a result, and the environment of Ansible itself; in each of them among the first
    20000 values. There the C(value) beside a telling C(name) or C(key), as in a container's environment, and the data
    of a C(Secret) of Kubernetes, alone or in a C(SecretList), stand behind telling names too. The data is known in
    base64 and decoded.
  - So is what was typed unseen at a prompt or in C(pause), a variable that is encrypted by itself, and a single word of
    eight letters or more that a command said under C(no_log), where that was registered.
  - A name is telling with one of these in it - C(password), C(passwd), C(passphrase), C(passcode), C(secret), C(token),
    C(credential), C(authorization), C(bearer), C(cookie), C(kubeconfig), C(api_key), C(access_key), C(private_key),
    C(client_key), C(ca_data), C(client_data), C(certificate_data), C(certificate_authority_data).
  - So is C(auth) as a whole name; one that has C(pass), C(pwd) or C(pw) as a word, or after C(db), C(user), C(admin),
    C(root), C(bind) or C(ssh), with a number behind it or without; and one that ends in the word C(psk), C(otp),
    C(otp_pin), C(pin_code), C(session_id), or C(key) after C(encryption), C(decryption), C(signing), C(tls), C(ssl),
    C(ssh), C(master), C(shared), C(session), C(account), C(storage) or C(deploy).
  - Words are apart by C(_), by C(-), by a capital letter as in C(dbPass), or not at all. C(key), C(keys) and
    C(public_key) tell of nothing, nor does an environment variable that ends in C(_FILE), C(_PATH), C(_DIR), C(_URL),
    C(_SOCK), C(_NAME), C(_ID) or C(KUBECONFIG). More names are for O(redact_keys).
  - In a text of up to 1 MiB, as what a program answers, JSON is searched in the same way, where it is all of it or
    begins a line. Other formats, as YAML, are not. C(kubectl get secret -o yaml) needs C(no_log).
  - In any text C(name=value), the same with a colon, with C(==) or C(!=) before a text in quotes as in a condition,
    and C(--name value) are without the value where the name has
    C(password), C(passwd), C(passphrase), C(secret), C(token), C(credential), C(api_key), C(access_key) or
    C(private_key) in it, and so is C(NAME=value) where the name ends in C(PASS), C(PWD) or C(PW) after C(_), C(DB),
    C(USER), C(ADMIN), C(ROOT), C(BIND) or C(SSH), in capital letters, with a number behind it or without.
  - A word that events themselves consist of, such as V(failed) or V(missing), and the name of a host in the inventory
    are no secrets by a telling name. Where O(redact_values) takes out the names of hosts, each but the first has a
    number in its place, so that it stays one of its own.
  - The variables of a host outside the play are looked at when a task is delegated to it or C(hostvars) is used with
    its name. Where C(hostvars) is used otherwise, those of the first 200 hosts of the inventory are.
  - What has the braces of a template, but isn't one for Ansible, as in a result, in the environment or after
    C(!unsafe), is a value as any other.
  - A template behind a telling name is followed if it only puts together variables, their fields, lists and texts,
    with no other filters than C(default), C(mandatory), C(string), C(trim), C(lower), C(upper), C(replace), C(join),
    C(first), C(last), C(from_json), C(b64encode) and C(b64decode). Nothing that has a side effect is ever run for
    this. So what comes from a lookup, another filter, a condition or a method is known only once an argument or a
    variable of C(environment) with a telling name had it in a result. Where such a value is used before, in a task's
    name, a message or a command, use C(no_log) and leave it out of the name, or list it in O(redact_values).
  - A secret that nothing tells of has to be listed in O(redact_values), such as one in the middle of a text, one
    under a harmless name, be it in an encrypted file or of a fact that was set under C(no_log), and what a task makes
    of a secret by changing it.
  - A run that has more than 1000 secret values, or a play that has more than 1000 templates behind telling names, is
    published without results from there on, with a warning.
requirements:
  - enabling in the configuration, with C(callbacks_enabled=kubeferry.pvc.events)
  - websocket-client (Python) to publish
options:
  url:
    description:
      - Where the event server listens, for example V(wss://events.example.org/ws).
      - Nothing is published without it.
      - The way there leads over a proxy where C(http_proxy), or C(https_proxy) with TLS, names one and C(no_proxy)
        doesn't have the host. For a server on this machine there is none.
    type: str
    env:
      - name: KUBEFERRY_EVENTS_URL
    ini:
      - section: callback_kubeferry_events
        key: url
  token:
    description: The server's publish token.
    type: str
    env:
      - name: KUBEFERRY_EVENTS_TOKEN
    ini:
      - section: callback_kubeferry_events
        key: token
  ca_cert:
    description: A file of certificate authorities to trust in place of the system's.
    type: path
    env:
      - name: KUBEFERRY_EVENTS_CA_CERT
    ini:
      - section: callback_kubeferry_events
        key: ca_cert
  validate_certs:
    description:
      - Whether the server's certificate is checked, V(true) or V(false).
      - It is no C(bool), since Ansible would take any other word for a no.
    type: str
    default: 'true'
    env:
      - name: KUBEFERRY_EVENTS_VALIDATE_CERTS
    ini:
      - section: callback_kubeferry_events
        key: validate_certs
  redact_keys:
    description:
      - Regular expressions of names whose values are never published, beside the built-in ones that the description
        lists.
      - They are searched for in the names of fields, without regard to case.
    type: list
    elements: str
    default: []
    env:
      - name: KUBEFERRY_EVENTS_REDACT_KEYS
    ini:
      - section: callback_kubeferry_events
        key: redact_keys
  redact_values:
    description: Texts that are taken out of everything that is published.
    type: list
    elements: str
    default: []
    env:
      - name: KUBEFERRY_EVENTS_REDACT_VALUES
    ini:
      - section: callback_kubeferry_events
        key: redact_values
  spool:
    description:
      - A directory for events that the server does not have yet.
      - Without it, C(kubeferry-events) in Ansible's home, which is C(~/.ansible) as a rule.
      - Each O(url) has a folder in it, whose events go to no other one. After a wrong O(url) was mended, what was kept
        for it stays for 30 days and is removed then by a run that publishes to another one.
      - Where nothing can be written there, events are in memory until the server has them.
      - So they are where the server's folder in it is a link, another user's, or open for others to write.
        Choose a directory to which nobody else can write.
    type: path
    env:
      - name: KUBEFERRY_EVENTS_SPOOL
    ini:
      - section: callback_kubeferry_events
        key: spool
  spool_mebibytes:
    description:
      - How much of the disk the directory may take, half of it for one run.
      - Beyond the other half, which is for what earlier runs left there for any O(url), the oldest goes.
    type: int
    default: 256
    env:
      - name: KUBEFERRY_EVENTS_SPOOL_MEBIBYTES
    ini:
      - section: callback_kubeferry_events
        key: spool_mebibytes
  progress:
    description:
      - Whether the progress of copies is shown in the terminal.
      - V(auto) shows it where standard output and standard error are terminals, V(always) also where they aren't.
      - It is published in any case.
    type: str
    choices: [auto, always, never]
    default: auto
    env:
      - name: KUBEFERRY_PROGRESS
    ini:
      - section: callback_kubeferry_events
        key: progress
  run:
    description:
      - The run's identifier, a UUID. A new one is made without it.
      - Each run needs its own; the second one with the same is not published.
      - With several playbooks in one command, each is a run of its own. The first one gets the identifier given here,
        each of the others a new one.
    type: str
    env:
      - name: KUBEFERRY_RUN
    ini:
      - section: callback_kubeferry_events
        key: run
"""

EXAMPLES = r"""
# ansible.cfg
#
# [defaults]
# callbacks_enabled = kubeferry.pvc.events
#
# [callback_kubeferry_events]
# url = wss://events.example.org/ws
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._bounded import Bounded
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._event_line import event_line
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._forks import set_context
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._hook_types import (
    Host,
    Play,
    Playbook,
    Result,
    Stats,
    Task,
)
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._play_secrets import PlaySecrets
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._publisher import (
    Options,
    Publisher,
    start_publisher,
)
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import LONGEST_WORD
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._result_data import (
    asks_for_secrecy,
    item_label,
    learn_of_result,
    namespaces,
    result_data,
)
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._run_data import (
    Counted,
    HiddenStats,
    run_data,
    stats_data,
)
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._run_state import RunState, TaskRun


class CallbackModule(CallbackBase):
    """Hooks come one at a time, from two threads, and while one runs the play stands still."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kubeferry.pvc.events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._publisher: Publisher | None = None
        self._state: RunState
        # Ansible goes on with variables and statistics through all playbooks of one command, and so does this.
        self._secrets: PlaySecrets | None = None
        self._hidden_stats = HiddenStats()
        self._counted = Counted()
        self._began = time.monotonic()
        # Whether no host was left to go on with.
        self._broken_off = False

    def _say(self, warning: str | None) -> None:
        if warning:
            self._display.warning(f"kubeferry.pvc.events: {warning}")

    def _tell(self, kind: str, data: dict[str, Any], bounded: Bounded | None = None) -> None:
        if self._publisher is None or not self._publisher.publishes:
            return
        flags = (
            [] if bounded is None else [name for name in ("redacted", "truncated") if getattr(bounded, name)]
        )
        self._publisher.write(event_line(kind, data, self._publisher.redactor, *flags))

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        given = {name: self.get_option(name) for name in Options.names()}
        # Not the option's default: those of callbacks are never templated.
        given["spool"] = given["spool"] or os.path.join(constants.ANSIBLE_HOME, "kubeferry-events")
        options = Options(**given)
        publisher, warning = start_publisher(options, self._secrets)
        self._say(warning)
        if publisher is None:
            self.disabled = True
            return
        self._publisher, self._secrets = publisher, publisher.secrets
        self._began = time.monotonic()
        self._broken_off = False
        directory = os.path.dirname(os.path.abspath(str(playbook._file_name or "")))  # noqa: SLF001
        self._state = RunState(publisher.redactor, directory, publisher.secrets.task_started)
        self._tell("run.started", run_data(playbook, publisher.redactor))

    def v2_playbook_on_vars_prompt(  # noqa: PLR0913, PLR0917 (the hook has them)
        self,
        varname: str,
        private: bool = True,
        prompt: str | None = None,
        encrypt: str | None = None,
        confirm: bool = False,
        salt_size: int | None = None,
        salt: str | None = None,
        default: str | None = None,
        unsafe: bool | None = None,
    ) -> None:
        if self._publisher is not None and private:
            self._publisher.redactor.learn(default)

    def v2_playbook_on_play_start(self, play: Play) -> None:
        if self._publisher is not None:
            self._publisher.secrets.play_started(play)
            for kind, data in self._state.play_started(play):
                self._tell(kind, data)

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        self._task_started(task, handler=False)

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        self._task_started(task, handler=True)

    def _task_started(self, task: Task, handler: bool) -> None:
        if self._publisher is None:
            return
        self._say(self._publisher.warning())
        self._tell_of_task(task, self._state.task_started(task, handler))

    def _tell_of_task(self, task: Task, told: list[tuple[str, dict[str, Any]]]) -> None:
        for kind, data in told:
            if kind == "task.started":
                if named := namespaces(task.args):
                    data["namespaces"] = named
                if asks_for_secrecy(task):
                    data["no_log"] = True
            self._tell(kind, data)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        if self._publisher is None:
            return
        self._publisher.secrets.learn(host)
        run, told = self._state.host_started(host.get_name(), task)
        self._tell_of_task(task, told)
        name = self._publisher.redactor.host(host.get_name())
        set_context(f"{run.task_id} {name}" if run.copies else "")
        if run.copies:
            self._publisher.share_secrets()
        self._tell("host.started", {**run.about, "host": name})

    def v2_runner_on_ok(self, result: Result) -> None:
        self._host("changed" if result.is_changed() else "ok", result)

    def v2_runner_on_failed(self, result: Result, ignore_errors: bool = False) -> None:
        self._host("failed", result, ignored=bool(ignore_errors))

    def v2_runner_on_skipped(self, result: Result) -> None:
        self._host("skipped", result)

    def v2_runner_on_unreachable(self, result: Result) -> None:
        self._host("unreachable", result, ignored=bool(result.task_fields.get("ignore_unreachable")))

    def v2_runner_item_on_ok(self, result: Result) -> None:
        self._item("changed" if result.is_changed() else "ok", result)

    def v2_runner_item_on_failed(self, result: Result) -> None:
        self._item("failed", result, ignored=bool(result.task_fields.get("ignore_errors")))

    def v2_runner_item_on_skipped(self, result: Result) -> None:
        self._item("skipped", result)

    def v2_runner_retry(self, result: Result) -> None:
        # Of a loop's item this comes without the item: its label is made after the last attempt.
        self._host("retry", result)

    # A finished job comes as the host's result; v2_runner_on_async_ok and _failed would tell it twice.
    def v2_runner_on_async_poll(self, result: Result) -> None:
        if self._publisher is None:
            return
        name = result.host.get_name()
        run, told = self._state.of_result(name, result.task)
        self._tell_of_task(result.task, told)
        data = {**run.about, "host": self._publisher.redactor.host(name)}
        if job := result.result.get("ansible_job_id"):
            data["job_id"] = self._publisher.redactor.cut(str(job), LONGEST_WORD)
        self._tell("host.poll", data)

    def _host(self, outcome: str, result: Result, ignored: bool = False) -> None:
        if self._publisher is None:
            return
        host = result.host.get_name()
        run, told = self._state.of_result(host, result.task)
        self._tell_of_task(result.task, told)
        data = {
            **run.about,
            "host": self._publisher.redactor.host(host),
            "changed": result.is_changed(),
        }
        if outcome != "retry" and (sent := run.hosts.get(host)) is not None:
            data["duration"] = round(time.monotonic() - sent, 3)
        self._result(f"host.{outcome}", data, run, result, ignored)
        if outcome != "retry":
            for kind, told_after in self._state.host_finished(host, run):
                self._tell(kind, told_after)

    def _item(self, outcome: str, result: Result, ignored: bool = False) -> None:
        if self._publisher is None:
            return
        host = result.host.get_name()
        run, told = self._state.of_result(host, result.task)
        self._tell_of_task(result.task, told)
        data = {
            **run.about,
            "host": self._publisher.redactor.host(host),
            "changed": result.is_changed(),
            "item_index": run.items[host],
        }
        run.items[host] += 1
        self._result(f"item.{outcome}", data, run, result, ignored)

    def _result(self, kind: str, data: dict[str, Any], run: TaskRun, result: Result, ignored: bool) -> None:
        if self._publisher is None or not self._publisher.publishes:
            return
        found = result.result
        bounded = Bounded(self._publisher.redactor)
        if ignored:
            data["ignored"] = True
        if delegate := result.task.delegate_to:
            self._publisher.secrets.learn_named(str(delegate))
            data["delegated_to"] = bounded.text(delegate, 1_000)
        learn_of_result(found, result.task, self._publisher.redactor)
        self._attempt(kind, data, run, found)
        if asks_for_secrecy(result.task, found):
            data["no_log"] = True
            bounded.redacted = True
            self._hidden(result)
        elif self._publisher.redactor.full:
            bounded.redacted = bounded.truncated = True
        else:
            if kind.startswith("item.") and (label := item_label(found, bounded)) is not None:
                data["item"] = label
            data.update(result_data(found, bounded, self._publisher.redactor))
        self._tell(kind, data, bounded)

    def _hidden(self, result: Result) -> None:
        """Nothing is told of this result; nor may anything be of what later tasks make of it."""
        if self._publisher is not None:
            self._publisher.secrets.hidden(result.host, result.task)
        self._hidden_stats.note(result.task)

    def _attempt(self, kind: str, data: dict[str, Any], run: TaskRun, found: Mapping[str, object]) -> None:
        # Counted here: `attempts` of a retry is the failed attempt in ansible-core 2.19 and 2.20, the next one in 2.21.
        host = data["host"]
        if kind == "host.retry":
            run.failed_attempts[host] += 1
            data["attempt"] = run.failed_attempts[host]
            if isinstance(tries := found.get("retries"), int):
                data["attempts"] = tries  # it counts the first try as well
        elif failed := run.failed_attempts.pop(host, 0):
            data["attempt"] = failed + 1

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        self._broken_off = True

    def v2_playbook_on_stats(self, stats: Stats) -> None:
        if self._publisher is None:
            return
        self._publisher.ending()
        for kind, data in self._state.play_finished():
            self._tell(kind, data)
        bounded = Bounded(self._publisher.redactor)
        named = self._publisher.redactor.host
        counted = {named(host): counts for host, counts in self._counted.of_run(stats).items()}
        custom = {named(host): of_host for host, of_host in stats.custom.items()}
        data = stats_data(counted, custom, bounded, self._hidden_stats, self._broken_off)
        data["duration"] = round(time.monotonic() - self._began, 3)
        self._tell("run.finished", data, bounded)
        publisher, self._publisher = self._publisher, None
        self._say(publisher.finish())
