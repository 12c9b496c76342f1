# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""How every module ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.common.validation import check_required_if

from ._address import passwords
from ._auth_args import plain_words
from ._cluster import IMPORT_ERROR
from ._errors import KubeferryError
from ._names import encode
from ._object_names import ENDPOINTS, check_objects
from ._report import record_failure

_LARGEST = 2**31 - 1
"""What Kubernetes takes for seconds, and for ids of users and groups."""

_FILES = {
    **dict.fromkeys(("baseline", "dest", "manifest", "report"), "the name of a file"),
    "manifest_digest": "the digest of the manifest",
}


def conclude(
    module: AnsibleModule,
    work: Callable[[], dict[str, Any]],
    *,
    clustered: bool = True,
    msg_fails: bool = True,
    about: Callable[[KubeferryError], Mapping[str, Any]] = lambda _error: {},
    hop: str = "",
) -> None:
    """Do the `work` of a module and end it, with its result or with the sentence of its error.

    A result with a `msg` is a failure too, unless `msg_fails` is false. `clustered` says whether the work needs a
    cluster, and with it the package kubernetes; `about` what else is told of an error; `hop` what its part of the
    report is called without a label.
    """
    fail = partial(_fail, module, hop)
    for said in _not_given(module):
        fail(said)
    inner = [module.params[name] for name in ENDPOINTS if module.params.get(name)]
    module.no_log_values -= plain_words([module.params, *inner])
    module.no_log_values.update(passwords(module.params))
    for said in _out_of_range(module.params):
        fail(said)
    for said in _empty(module.params):
        fail(said)
    for said in _unnameable(module.params):
        fail(f"{said} holds a NUL or half a character, which no name has: give it without.")
    if IMPORT_ERROR and clustered:
        fail(missing_required_lib("kubernetes"), exception=IMPORT_ERROR)
    try:
        check_objects(module.params)
        result = work()
    except KubeferryError as exc:
        fail(str(exc), changed=exc.changed, **about(exc))
    else:
        for text in result.pop("warnings"):
            module.warn(text)
        if msg_fails and "msg" in result:
            module.fail_json(**result)
        module.exit_json(**result)


def _fail(module: AnsibleModule, hop: str, said: str, **told: object) -> None:
    """End a module that has nothing to report but what is `said`."""
    report = module.params.get("report") if hop and not module.check_mode else None
    if report:
        record_failure(report, module.params["label"] or hop, remove_values(said, module.no_log_values))
    module.fail_json(msg=said, **told)


def _not_given(module: AnsibleModule) -> Iterator[str]:
    """What to say of options that are needed and null, for which Ansible takes a null for given."""
    given = {name: value for name, value in module.params.items() if value is not None}
    try:
        check_required_if(module.required_if, given)
    except TypeError as exc:
        yield f"{exc}."


def _out_of_range(params: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """What to say of options that count less than nothing, or more than the API server takes.

    An argument specification can't refuse them.
    """
    for name, value in params.items():
        if isinstance(value, int) and value < 0:
            yield f"{within}{name} {value} is below zero: give 0 or more."
        elif isinstance(value, int) and value > _LARGEST:
            yield f"{within}{name} is above {_LARGEST}: give no more than that."
        elif name in ENDPOINTS and isinstance(value, Mapping):
            yield from _out_of_range(value, f"{within}{name}.")


def _empty(params: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """What to say of files, and the digest of one, that are given and have no name: they would count as not given."""
    for name, value in params.items():
        if name in _FILES and value == "":
            yield f"{within}{name} is empty: give {_FILES[name]}, or leave the option out."
        elif name in ENDPOINTS and isinstance(value, Mapping):
            yield from _empty(value, f"{within}{name}.")


def _unnameable(value: object, name: str = "") -> Iterator[str]:
    """The options whose text no system call takes. It isn't told, as it may be a secret."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _unnameable(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _unnameable(each, name)
    elif isinstance(value, str):
        try:
            unfit = b"\0" in encode(value)
        except UnicodeEncodeError:
            unfit = True
        if unfit:
            yield name
