# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Do one thing while another one is done.

Not a thread pool of the standard library: that waits for its threads when a signal ends the module, and digesting a
large file can take minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """Runs `work` in a thread for the duration of a block. `result()` waits for it.

    An error in the block still waits for the thread, which works on the same things; a signal doesn't. Without
    `at_once` the work begins when its result is asked for: two threads that both make one system call after the other
    get in each other's way, and take twice as long as one that does first this and then that.
    """

    def __init__(self, work: Callable[[], T], *, at_once: bool = True) -> None:
        self._at_once = at_once
        self._work = work
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kubeferry-beside", daemon=True)

    def __enter__(self) -> Self:
        if self._at_once:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._at_once and (kind is None or issubclass(kind, Exception)):
            self._thread.join()

    def result(self) -> T:
        """What `work` returned; raises what it raised."""
        if not self._at_once:
            return self._work()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value[0]

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as exc:  # noqa: BLE001 -- it is raised again where the result is asked for
            self._error = exc
