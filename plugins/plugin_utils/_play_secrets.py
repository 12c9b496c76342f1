# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The secrets that a play is given: its own variables, those of the command line, and what was typed at its prompts."""

from __future__ import annotations

from collections.abc import Mapping

from ansible.module_utils.parsing.convert_bool import boolean

from ._hook_types import Play
from ._redact import Redactor


def learn_of_play(play: Play, redactor: Redactor) -> None:
    """Take what stands behind telling names, and all that was typed unseen, out of everything from now on."""
    given: dict[str, object] = {**play.vars, **_extra_vars(play)}
    redactor.learn_arguments(given)
    for prompt in play.vars_prompt or ():
        # Where the command line has the variable nobody is asked, and no hook tells of the prompt.
        if isinstance(prompt, Mapping) and boolean(prompt.get("private", True), strict=False):
            redactor.learn(given.get(str(prompt.get("name"))))


def _extra_vars(play: Play) -> Mapping[str, object]:
    manager = play.get_variable_manager()
    found = getattr(manager, "extra_vars", None)
    return found if isinstance(found, Mapping) else {}
