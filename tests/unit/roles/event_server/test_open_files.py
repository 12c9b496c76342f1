# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import pytest
from kubeferry_events.limits import Limits
from kubeferry_events.open_files import fitting


@pytest.mark.parametrize("files", [16, 64, 256, 1024, 2048, 4096])
def test_what_may_be_open_fits_into_the_files(files):
    limits = fitting(Limits(), files)
    assert limits.connections + limits.strangers <= files - min(256, files // 4)
    assert 1 <= limits.strangers_per_address <= limits.strangers / 2
    assert limits.connections >= limits.strangers


def test_enough_files_change_nothing():
    assert fitting(Limits(), 10_000) == Limits()
