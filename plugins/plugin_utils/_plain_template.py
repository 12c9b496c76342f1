# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What a template comes to that only puts variables together.

Ansible's own engine can't be kept from running lookups and other plugins, nor from warning of what they do; so here a
template is taken apart, and whatever isn't known to be harmless ends it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

from ansible.template import is_trusted_as_template
from jinja2 import Environment, TemplateError, nodes

# A variable that refers to a variable, and so on.
_DEEPEST = 20
_SCALARS = (str, int, float, type(None))
_FILTERS: dict[str, Callable[..., Any]] = {
    "b64decode": lambda value: base64.b64decode(str(value)).decode(),
    "b64encode": lambda value: base64.b64encode(str(value).encode()).decode(),
    "first": lambda value: value[0],
    "from_json": lambda value: json.loads(str(value)),
    "join": lambda value, between="": str(between).join(map(str, value)),
    "last": lambda value: value[-1],
    "lower": lambda value: str(value).lower(),
    "mandatory": lambda value: value,
    "replace": lambda value, old, new: str(value).replace(str(old), str(new)),
    "string": str,
    "trim": lambda value: str(value).strip(),
    "upper": lambda value: str(value).upper(),
}


class BeyondError(Exception):
    """A template that takes more than putting variables together."""


class MissingError(BeyondError):
    """A variable or a field that isn't there."""


@lru_cache(maxsize=2_000)
def _parsed(text: str) -> list[nodes.Node]:
    return list(Environment(keep_trailing_newline=True, autoescape=False).parse(text).body)  # noqa: S701 (no HTML)


def is_template(text: str) -> bool:
    """Whether Ansible would take a text for a template, and could read it as one."""
    if not is_trusted_as_template(text):
        return False
    try:
        _parsed(text)
    except TemplateError:
        return False
    return True


def plain_value(text: str, variables: Mapping[str, object]) -> object:
    """Return the value of a template, which may itself hold templates where it is a list or a mapping.

    Raises BeyondError.
    """
    try:
        return _Reading(variables).template(text, _DEEPEST)
    except BeyondError:
        raise
    except (
        Exception
    ) as error:  # what a filter makes of a value that isn't for it, or a vault without its password
        raise BeyondError(type(error).__name__) from error


class _Reading:
    def __init__(self, variables: Mapping[str, object]) -> None:
        self._variables = variables

    def template(self, text: str, depth: int) -> object:
        if not depth:
            raise BeyondError("too deep")
        try:
            body = _parsed(str(text))
        except TemplateError as error:
            raise BeyondError("no template") from error
        parts: list[object] = []
        for output in body:
            if not isinstance(output, nodes.Output):
                raise BeyondError(type(output).__name__)
            parts += [self._value(part, depth) for part in output.nodes]
        return parts[0] if len(parts) == 1 else "".join(map(str, parts))

    def _opened(self, value: object, depth: int) -> object:
        if not isinstance(value, (*_SCALARS, Mapping, list, tuple)):
            value = str(value)  # one that is encrypted by itself
        return self.template(value, depth - 1) if isinstance(value, str) and "{{" in value else value

    def _value(self, node: nodes.Node, depth: int) -> object:
        if isinstance(node, nodes.TemplateData):
            return node.data
        if isinstance(node, nodes.Const):
            return node.value
        if isinstance(node, nodes.Name):
            return self._field(self._variables, node.name, depth)
        if isinstance(node, nodes.Getattr):
            return self._field(self._value(node.node, depth), node.attr, depth)
        if isinstance(node, nodes.Getitem):
            return self._field(self._value(node.node, depth), self._value(node.arg, depth), depth)
        if isinstance(node, nodes.List):
            return [self._value(part, depth) for part in node.items]
        if isinstance(node, nodes.Concat):
            return "".join(str(self._value(part, depth)) for part in node.nodes)
        if isinstance(node, nodes.Add):
            return cast("Any", self._value(node.left, depth)) + self._value(node.right, depth)
        if isinstance(node, nodes.Filter) and node.node is not None and not node.kwargs:
            return self._filtered(node.node, node.name.removeprefix("ansible.builtin."), node.args, depth)
        raise BeyondError(type(node).__name__)

    def _field(self, value: object, name: object, depth: int) -> object:
        if not isinstance(value, Mapping | list | tuple):
            raise BeyondError("a field of a text")
        try:
            return self._opened(cast("Any", value)[name], depth)
        except (KeyError, IndexError) as error:
            raise MissingError(str(name)) from error

    def _filtered(self, node: nodes.Node, name: str, given: list[nodes.Expr], depth: int) -> object:
        arguments = [self._value(argument, depth) for argument in given]
        if name in {"default", "d"}:
            try:
                value = self._value(node, depth)
            except MissingError:
                return arguments[0]
            return arguments[0] if len(arguments) > 1 and arguments[1] and not value else value
        if name not in _FILTERS:
            raise BeyondError(name)
        return _FILTERS[name](self._value(node, depth), *arguments)
