# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What asking a script of `_scripts` and `_pieces_scripts` has in common: what it reads, and how its answer begins."""

from __future__ import annotations

from collections.abc import Iterator

from ._errors import ConnectionLost, EndpointError, ExecError
from ._runner import Process, chunks
from ._scripts import NO_DIRECTORY
from ._tar import ByteStream

BANNER_LIMIT = 1 << 16


class Question:
    """Data as standard input, and then, once all output has arrived, the line that lets the script end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._released = False

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        while not self._released:
            yield b""
        yield b"\n"

    def release(self) -> None:
        self._released = True


def begun(process: Process, mark: str, where: str) -> ByteStream:
    """The script's output after its mark. Raises EndpointError when it couldn't enter the directory."""
    stream = ByteStream(chunks(process))
    try:
        stream.until(mark.encode() + b"\n", BANNER_LIMIT)
    except ConnectionLost as exc:
        status, said = process.wait(), process.stderr().decode("utf-8", "replace").strip()
        if status == NO_DIRECTORY:
            raise EndpointError(f"{where} can't be entered: {said}.") from exc
        # A server that lost all of the output says that it went well.
        kind = ExecError if status or said else ConnectionLost
        raise kind(f"{where} gave no answer (exit status {status}): {said or 'it said nothing'}.") from exc
    return stream
