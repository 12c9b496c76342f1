# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._quantity import from_bytes, to_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10Gi", 10 << 30),
        ("1.5Mi", 3 << 19),
        ("500M", 500_000_000),
        ("1e3", 1000),
        ("12E", 12 * 10**18),
        ("128974848000m", 128974848),
        ("1500m", 2),
        (".5k", 500),
        ("0", 0),
    ],
)
def test_quantities(text, count):
    assert to_bytes(text) == count


@pytest.mark.parametrize("text", ["", "10 Gi", "Gi", "-1", "1ki", "1GiB", "ten", "1e999999999"])
def test_what_is_no_quantity(text):
    with pytest.raises(UsageError, match="no quantity of storage"):
        to_bytes(text)


@pytest.mark.parametrize("count", [0, 1, 1000, 1024, 5 << 30, (5 << 30) + 1, 7 << 60])
def test_there_and_back(count):
    assert to_bytes(from_bytes(count)) == count


def test_the_largest_unit_is_used():
    assert [from_bytes(count) for count in (5 << 30, 1536 << 20, 1000)] == ["5Gi", "1536Mi", "1000"]
