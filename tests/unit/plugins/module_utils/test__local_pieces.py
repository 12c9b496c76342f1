# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a large file keeps of the version that is there is what that version has, holes included."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import FILE, Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_pieces import LocalPieces, LocalPlace
from ansible_collections.kubeferry.pvc.plugins.module_utils._pieces import Span, Work

KIB = 1 << 10
SIZE = 4096 * KIB
DATA = [Span(0, 256 * KIB), Span(1024 * KIB, 512 * KIB), Span(3072 * KIB, 1024 * KIB)]
"""Where the version that is there has something; the rest are holes."""
ROUND = os.copy_file_range


@pytest.fixture
def present(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
        for span in DATA:
            os.pwrite(stream.fileno(), os.urandom(span.length), span.start)
    return path.read_bytes()


def kept(tmp_path, spans):
    """What is received where all of it is taken from the version that is there."""
    entry = Entry(b"file", FILE, SIZE, 0o600, os.getuid(), os.getgid(), 0)
    place = LocalPlace(os.fsencode(tmp_path), b".kubeferry/run-1")
    LocalPieces(place).write([Work(entry, anew=True, keep=spans)], iter([iter(())]))
    return tmp_path / ".kubeferry" / "run-1" / "tree" / "file"


def expected(present, spans):
    made = bytearray(SIZE)
    for span in spans:
        made[span.start : span.end] = present[span.start : span.end]
    return bytes(made)


def refused(number):
    def copy(*_arguments):
        raise OSError(number, os.strerror(number))

    return copy


def halting(source, target, count, *offsets):
    """Copies a few bytes at a time and then no more."""
    return ROUND(source, target, min(count, 70_000), *offsets) if offsets[0] % 3 else 0


SPANS = [
    [Span(0, SIZE)],
    [Span(128 * KIB, 1000 * KIB), Span(1300 * KIB, 100 * KIB), Span(1500 * KIB, 2000 * KIB)],
    [Span(3500 * KIB, 100 * KIB), Span(0, 64 * KIB), Span(2048 * KIB, 64 * KIB)],  # blocks come after pieces
    [],
]


@pytest.mark.parametrize(
    "copy", [ROUND, refused(errno.EXDEV), halting, None], ids=["kernel", "refused", "halting", "none"]
)
@pytest.mark.parametrize("spans", SPANS, ids=["all", "across", "unordered", "none"])
def test_what_is_kept_is_what_is_there(tmp_path, monkeypatch, present, spans, copy):
    if copy:
        monkeypatch.setattr(os, "copy_file_range", copy)
    else:
        monkeypatch.delattr(os, "copy_file_range")
    made = kept(tmp_path, spans)
    assert made.read_bytes() == expected(present, spans)
    data = sum(span.length for span in DATA)
    assert made.stat().st_blocks * 512 <= data + 64 * KIB


def test_a_full_disk_is_told(tmp_path, monkeypatch, present):
    monkeypatch.setattr(os, "copy_file_range", refused(errno.ENOSPC))
    with pytest.raises(EndpointError, match="is full: make room there"):
        kept(tmp_path, SPANS[0])
