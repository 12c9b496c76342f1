# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.filter.lines import lines


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (None, []),
        ("", []),
        (" \r\n\t\n", []),
        ("10\r\na/11\n\n a b \n", ["10", "a/11", " a b "]),
        (10, ["10"]),
        (["10", " "], ["10", " "]),
        ([], []),
        ({"a": 1}, {"a": 1}),
    ],
    ids=repr,
)
def test_a_survey_and_a_list_give_the_same(given, taken):
    assert lines(given) == taken
