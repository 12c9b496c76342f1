# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._plain_template import (
    BeyondError,
    MissingError,
    plain_value,
)

VARIABLES = {
    "name": "value",
    "other": "{{ name }}-{{ fields.inner[1].last }}",
    "fields": {"inner": ["first", {"last": "end"}]},
    "empty": "",
    "number": 7,
    "coded": "c2VzYW1l",
    "answer": '{"token": "of-json"}',
    "round": "{{ about }}",
    "about": "{{ round }}",
    "looked_up": "{{ lookup('ansible.builtin.file', '/etc/hostname') }}",
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ name }}", "value"),
        ("{{ number }}", 7),
        ("a {{ name }}\n", "a value\n"),
        ("{{ other }}", "value-end"),
        ("{{ fields }}", VARIABLES["fields"]),
        ("{{ fields['inner'][0] }}", "first"),
        ("{{ name ~ '-' ~ number }}", "value-7"),
        ("{{ name + '!' }}", "value!"),
        ("{{ nowhere | default('instead') }}", "instead"),
        ("{{ fields.nowhere | d(name) }}", "value"),
        ("{{ empty | default('instead') }}", ""),
        ("{{ empty | default('instead', true) }}", "instead"),
        ("{{ coded | ansible.builtin.b64decode | upper }}", "SESAME"),
        ("{{ ['a', name] | join('/') }}", "a/value"),
        ("{{ (answer | from_json).token }}", "of-json"),
    ],
)
def test_what_only_puts_variables_together(text, value):
    assert plain_value(text, VARIABLES) == value


@pytest.mark.parametrize("text", ["{{ nowhere }}", "{{ fields.nowhere }}", "{{ fields.inner[7] }}"])
def test_what_is_not_there(text):
    with pytest.raises(MissingError):
        plain_value(text, VARIABLES)


@pytest.mark.parametrize(
    "text",
    [
        "{{ looked_up }}",
        "{{ looked_up | default('x') }}",
        "{{ query('pipe', 'touch /tmp/x') }}",
        "{{ nowhere | password_hash('sha512') }}",
        "{{ name.upper() }}",
        "{{ name.real }}",
        "{{ name if number else other }}",
        "{% include '/etc/hostname' %}",
        "{% for x in name %}{{ x }}{% endfor %}",
        "{{ round }}",
        "{{ not closed",
        "{{ number | first }}",
        "{{ 'no base64' | b64decode }}",
    ],
)
def test_what_takes_more(text):
    with pytest.raises(BeyondError) as caught:
        plain_value(text, VARIABLES)
    assert not isinstance(caught.value, MissingError)
