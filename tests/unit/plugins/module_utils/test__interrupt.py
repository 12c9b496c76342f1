# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import Interrupted
from ansible_collections.kubeferry.pvc.plugins.module_utils._interrupt import (
    interruptible,
    undisturbed,
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unwinds_the_block_through_every_except(number):
    cleaned = []

    def work():
        with interruptible():
            try:
                os.kill(os.getpid(), number)
            except Exception:  # noqa: BLE001 -- what the engine does with errors that it can handle
                pytest.fail("the signal was taken for an error")
            finally:
                os.kill(os.getpid(), number)  # a second one doesn't disturb the cleaning up
                cleaned.append(number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=signal.Signals(number).name):
        work()
    assert cleaned == [number]
    assert signal.getsignal(number) is before


def test_blocks_may_be_nested():
    def work():
        with interruptible(), interruptible():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        work()


def test_a_signal_waits_for_the_end_of_what_is_not_to_be_disturbed():
    done = []

    def work():
        with interruptible():
            with undisturbed():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)  # whichever thread the system hands it to, this one is told by now
                done.append("request")
            done.append("more")

    with pytest.raises(Interrupted):
        work()
    assert done == ["request"]


def test_other_threads_are_left_alone():
    done = []

    def work():
        with interruptible():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert done == [signal.SIG_DFL]


def test_a_task_that_nobody_listens_to_any_more():
    """As after the task's `timeout`."""
    kept = os.dup(1)
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    cleaned = []

    def work():
        with interruptible():
            try:
                os.close(reading)
                time.sleep(20)
            finally:
                cleaned.append("all")

    try:
        with pytest.raises(Interrupted):
            work()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert cleaned == ["all"]
