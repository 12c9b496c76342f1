# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import Stalled, broke_off


def test_what_broke_off_is_one_sentence():
    found = broke_off(Stalled("The stream ended: what came is incomplete; try again."), "Reading a in pod b")
    assert isinstance(found, Stalled)
    assert str(found) == "Reading a in pod b broke off: the stream ended: what came is incomplete; try again."
