# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
from __future__ import annotations

import threading

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._beside import Beside


def test_work_goes_on_beside_the_block():
    met = threading.Barrier(2, timeout=10)
    with Beside(met.wait) as beside:
        met.wait()
    assert beside.result() in (0, 1)


def test_work_that_is_not_at_once_begins_when_it_is_asked_for():
    done = []

    def work() -> str:
        done.append(threading.current_thread())
        return "made"

    with Beside(work, at_once=False) as later:
        assert not done
        assert later.result() == "made"
    assert done == [threading.main_thread()]


@pytest.mark.parametrize("at_once", [True, False])
def test_an_error_is_raised_where_the_result_is_asked_for(at_once):
    def work() -> None:
        raise ZeroDivisionError

    with Beside(work, at_once=at_once) as beside, pytest.raises(ZeroDivisionError):
        beside.result()


def test_an_error_in_the_block_waits_for_the_thread():
    ended = threading.Event()

    def work() -> None:
        ended.wait(0.2)
        ended.set()

    def block() -> None:
        with Beside(work):
            raise KeyError("x")

    with pytest.raises(KeyError):
        block()
    assert ended.is_set()
