# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""All that is used of what Ansible hands to a callback's hooks: the same in ansible-core 2.19, 2.20 and 2.21."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class Host(Protocol):
    def get_name(self) -> str: ...


class Role(Protocol):
    _uuid: str

    def get_default_vars(self, dep_chain: object) -> Mapping[str, object]: ...

    def get_vars(self, dep_chain: object) -> Mapping[str, object]: ...


class Task(Protocol):
    # The only identity that Ansible gives a task or a play.
    _uuid: str
    _role: Role | None
    action: str
    args: Mapping[str, object]
    vars: Mapping[str, object]
    tags: Iterable[object] | None
    async_val: object
    no_log: object
    delegate_to: object
    register: object
    environment: Iterable[object] | None
    loop_control: object

    def get_name(self) -> str: ...

    def get_vars(self) -> Mapping[str, object]: ...

    def get_dep_chain(self) -> object: ...

    def get_path(self) -> str | None: ...


class Inventory(Protocol):
    @property
    def hosts(self) -> Mapping[str, Host]: ...

    def get_hosts(self) -> Iterable[Host]: ...


class Variables(Protocol):
    def get_vars(
        self, *, play: Play | None, host: Host | None, include_hostvars: bool
    ) -> Mapping[str, object]: ...


class Play(Protocol):
    _uuid: str
    strategy: object
    serial: object
    vars: Mapping[str, object]
    vars_prompt: Iterable[object] | None

    def get_name(self) -> str: ...

    def get_variable_manager(self) -> Variables | None: ...


class Playbook(Protocol):
    _file_name: str | None


class Result(Protocol):
    @property
    def host(self) -> Host: ...

    @property
    def task(self) -> Task: ...

    @property
    def task_fields(self) -> Mapping[str, object]: ...

    @property
    def result(self) -> Mapping[str, object]: ...

    def is_changed(self) -> bool: ...


class Stats(Protocol):
    processed: Mapping[str, object]
    custom: Mapping[str, Mapping[str, object]]

    def summarize(self, host: str) -> Mapping[str, int]: ...
