# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Where the tail writes. A reader that goes away and a full disk are no lost connection: they end it."""

from __future__ import annotations

import io
import os
from typing import TextIO


class Unwritable(Exception):
    """Nothing more can be written; the message says why."""


class ReaderGone(Unwritable):
    """Whoever read this has enough, as `head` has."""


class Output:
    """A stream that says in its own words when it can't be written to."""

    def __init__(self, stream: TextIO | None, name: str) -> None:
        """Raises Unwritable where it was closed from the beginning, as `>&-` does it in a shell."""
        if stream is None:
            raise Unwritable(f"{name} is closed: let it be a file, a pipe or a terminal")
        self._stream = stream
        self.terminal = stream.isatty()
        if isinstance(stream, io.TextIOWrapper):
            # A letter that the encoding lacks is an escape then, and so is a byte of a file's name that is no letter.
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> None:
        """Write and flush. Raises Unwritable."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()
            raise ReaderGone("nobody reads on") from None
        except OSError as error:
            self._let_go()
            raise Unwritable(
                f"the output can't be written ({error.strerror}): make room for it, or write it elsewhere"
            ) from None

    def _let_go(self) -> None:
        """What couldn't be written is tried again when the interpreter ends, and would then be complained about."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
