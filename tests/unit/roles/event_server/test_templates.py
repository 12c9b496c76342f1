# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What the role writes for a process and for systemd's units."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import combine, to_bool

ROLE = Path(__file__).resolve().parents[4] / "roles" / "event_server"


def written(template, **variables):
    values = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    values |= {"event_server_directory": "/opt/events", "event_server_virtualenv": "/usr", **variables}
    # As Ansible's template module has it.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"combine": combine, "bool": to_bool}
    return environment.get_template(template).render(values)


@pytest.mark.parametrize(
    ("mode", "scope", "history"),
    [
        ("process", "system", "/opt/events/state/events.db"),
        ("systemd", "user", "/opt/events/state/events.db"),
        # systemd lets what is in the file take the place of what is in the unit.
        ("systemd", "system", "/var/lib/kubeferry-events/events.db"),
    ],
)
def test_the_history_is_where_the_server_can_write(mode, scope, history):
    given = {"event_server_mode": mode, "event_server_systemd_scope": scope}
    lines = written("environment.j2", **given).splitlines()
    assert f'KUBEFERRY_HISTORY="{history}"' in lines
    unit = written("unit.service.j2", **given)
    assert ("StateDirectory=kubeferry-events" in unit) == (scope == "system")
    assert "Environment=" not in unit


def test_tokens_are_quoted():
    lines = written("environment.j2", event_server_view_token='a"b$c`d\\e').splitlines()
    assert 'KUBEFERRY_VIEW_TOKEN="a\\"b\\$c\\`d\\\\e"' in lines


@pytest.mark.parametrize("said", [False, "false", "no"])
def test_what_the_command_line_says_is_text(said):
    assert 'KUBEFERRY_ALLOW_PLAIN="1"' not in written("environment.j2", event_server_allow_plain=said)
    assert 'KUBEFERRY_ALLOW_PLAIN="1"' in written("environment.j2", event_server_allow_plain="true")


@pytest.mark.parametrize("scope", ["system", "user"])
def test_the_unit_may_have_a_file_for_each_connection(scope):
    lines = written("unit.service.j2", event_server_systemd_scope=scope).splitlines()
    assert "LimitNOFILE=65536" in lines
