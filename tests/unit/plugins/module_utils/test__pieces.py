# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a file is cut, what is done about each piece, and which zeros are left out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import FILE, Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._pieces import (
    GAP,
    MOST_PIECES,
    PAGE,
    PIECE,
    UNKNOWN,
    ZERO,
    Part,
    Span,
    islands,
    piece_count,
    piece_length,
    work,
)

DIGESTS = st.lists(st.sampled_from(["a", "b", ZERO, UNKNOWN]), max_size=6)


def entry(size):
    return Entry(b"file", FILE, size, 0o644, 0, 0, 0)


@pytest.mark.parametrize(
    ("size", "count"), [(0, 0), (1, 1), (PIECE - 1, 1), (PIECE, 1), (PIECE + 1, 2), (1 << 30, 256)]
)
def test_how_many_pieces(size, count):
    assert piece_count(size) == count


@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_there_are_never_too_many_pieces_and_they_cover_the_file(size):
    length, count = piece_length(size), piece_count(size)
    assert count <= MOST_PIECES
    assert (count - 1) * length < size <= count * length or size == count == 0
    assert length % PIECE == 0


@given(DIGESTS, st.none() | DIGESTS, DIGESTS, st.integers(min_value=0, max_value=6 * PIECE))
def test_each_piece_becomes_what_the_source_has(source, received, present, size):
    """Work the plan off with letters for pieces: `?` at the target is something that equals nothing."""
    made = work(entry(size), source, received, present)
    count = piece_count(size)
    want = [source[n] if n < len(source) else UNKNOWN for n in range(count)]
    have = [(received or [])[n] if n < len(received or []) else ZERO for n in range(count)]
    at_start = list(have)
    for spans, after in ((made.keep, present), (made.clear, [ZERO] * count), (made.send, want)):
        for span in spans:
            assert span.start % PIECE == 0
            assert 0 < span.length <= size - span.start
            for number in range(span.start // PIECE, -(-span.end // PIECE)):
                assert span.fresh == (at_start[number] == ZERO)
                have[number] = after[number]
    assert have == want
    sent = {n for span in made.send for n in range(span.start // PIECE, -(-span.end // PIECE))}
    known = [(received or []), present]
    for number in sent:
        assert want[number] != ZERO
        assert want[number] == UNKNOWN or all(
            want[number] != d for has in known for d in has[number : number + 1]
        )
    assert made.anew == (received is None)


def test_neighbours_are_joined_where_the_target_is_alike():
    made = work(entry(5 * PIECE - 7), ["a", "b", "c", "d", "e"], ["x", "y"], [])
    assert made.send == [Span(0, 2 * PIECE), Span(2 * PIECE, 3 * PIECE - 7, fresh=True)]


def laid(part, size):
    """The bytes after the islands of a part were written over zeros, and their places."""
    result, places = bytearray(size), []
    for start, data in islands(part):
        result[start : start + len(data)] = data
        places.append((start, len(data)))
    return bytes(result), places


def test_long_runs_of_zeros_are_left_out_where_the_target_has_zeros():
    data = b"a" * 100 + bytes(3 * GAP) + b"b" + bytes(GAP // 2) + b"c" + bytes(GAP)
    cut = [memoryview(data[at : at + 5000]) for at in range(0, len(data), 5000)]
    result, places = laid(Part(PAGE, True, iter(cut)), PAGE + len(data))
    assert result == bytes(PAGE) + data
    assert [start for start, _length in places] == [PAGE, PAGE + (100 + 3 * GAP) // PAGE * PAGE]
    assert sum(length for _start, length in places) <= GAP


def test_zeros_are_written_over_something():
    data = bytes(PIECE + 3 * GAP)
    assert list(islands(Part(0, False, iter([memoryview(data)])))) == [
        (0, bytes(PIECE)),
        (PIECE, bytes(3 * GAP)),
    ]


@given(
    st.lists(st.tuples(st.sampled_from([b"\0", b"x"]), st.integers(1, 2 * GAP)), max_size=8),
    st.booleans(),
    st.sampled_from([PAGE - 1, PAGE, 3 * GAP]),
)
@settings(deadline=None, max_examples=50)
def test_islands_lose_nothing(runs, fresh, step):
    data = b"".join(byte * length for byte, length in runs)
    pieces = (memoryview(data)[at : at + step] for at in range(0, len(data), step))
    result, places = laid(Part(0, fresh, pieces), len(data))
    assert result == data
    assert all(start % PAGE == 0 for start, _length in places)
    assert all(start + length <= len(data) for start, length in places)
