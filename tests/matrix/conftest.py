# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import os

from make_matrix import COMBINATIONS, ENDS


def pytest_generate_tests(metafunc) -> None:
    """All combinations with `make matrix` (KUBEFERRY_MATRIX=all), the oldest and the newest of everything without."""
    if "combination" in metafunc.fixturenames:
        chosen = COMBINATIONS if os.environ.get("KUBEFERRY_MATRIX") == "all" else ENDS
        metafunc.parametrize("combination", chosen, ids=str)
