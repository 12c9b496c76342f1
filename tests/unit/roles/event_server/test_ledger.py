# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kubeferry_events.ledger import Ledger

NUMBERS = st.integers(min_value=1, max_value=40)


@given(st.lists(st.tuples(NUMBERS, st.integers(min_value=0, max_value=6)), max_size=40))
def test_a_ledger_is_a_set_of_numbers(ranges):
    ledger, numbers = Ledger(), set()
    for first, more in ranges:
        ledger.cover(first, first + more)
        numbers |= set(range(first, first + more + 1))
    assert [n in ledger for n in range(1, 60)] == [n in numbers for n in range(1, 60)]
    expected = next(n for n in range(1, 60) if n not in numbers) - 1
    assert ledger.contiguous == expected
    missing = {n for first, last in ledger.missing() for n in range(first, last + 1)}
    assert missing == set(range(1, max(numbers, default=0))) - numbers


def test_a_number_is_new_once():
    ledger = Ledger()
    assert [ledger.add(n) for n in (2, 1, 2, 1, 3)] == [True, True, False, False, True]


def test_arrivals_in_order_stay_one_range():
    ledger = Ledger()
    for number in range(1, 10_001):
        ledger.add(number)
    assert ledger.contiguous == 10_000
    assert ledger.missing() == []
