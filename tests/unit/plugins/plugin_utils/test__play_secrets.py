# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from types import SimpleNamespace

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._play_secrets import learn_of_play
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import MASK, Redactor


def play(manager, **fields):
    return SimpleNamespace(get_variable_manager=lambda: manager, **{"vars": {}, "vars_prompt": None} | fields)


def test_variables_and_answers_are_learnt():
    redactor = Redactor()
    manager = SimpleNamespace(extra_vars={"db_password": "from-the-command-line", "pin": "answered-there"})
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
    learn_of_play(play(manager, vars=variables, vars_prompt=prompts), redactor)
    for secret in ("from-the-command-line", "answered-there", "of-the-play", "typed-unseen"):
        assert redactor.text(f"<{secret}>") == f"<{MASK}>"
    assert redactor.text("typed-aloud, harmless") == "typed-aloud, harmless"


def test_a_play_without_a_manager_is_no_error():
    learn_of_play(play(None), Redactor())
