# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import os

from make_matrix import COMBINATIONS, OLDEST


def pytest_generate_tests(metafunc) -> None:
    """All combinations with `make matrix` (KUBEFERRY_MATRIX=all), without it the oldest of everything."""
    if "combination" in metafunc.fixturenames:
        chosen = COMBINATIONS if os.environ.get("KUBEFERRY_MATRIX") == "all" else [OLDEST]
        metafunc.parametrize("combination", chosen, ids=str)
