# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import struct
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ExecError, ProtocolError
from ansible_collections.kubeferry.pvc.plugins.module_utils._exec_protocol import (
    MESSAGE_SIZE,
    Decoder,
    bounded,
    exit_code,
    messages,
    parse_status,
    query,
)


def frame(payload: bytes, opcode: int = 2, *, final: bool = True, form: int = 0) -> bytes:
    """A server's frame. `form` asks for a longer length field than needed, as some servers use."""
    first = (0x80 if final else 0) | opcode
    size = len(payload)
    if form == 8 or size >= 1 << 16:
        head = struct.pack("!BBQ", first, 127, size)
    elif form == 2 or size >= 126:
        head = struct.pack("!BBH", first, 126, size)
    else:
        head = struct.pack("!BB", first, size)
    return head + payload


def decode(stream: bytes, cuts: list[int]) -> tuple[Decoder, bytes, bytes, list[bytes], bool]:
    """Feed `stream` in pieces whose sizes are `cuts`, again and again."""
    decoder, out, err, pings, closed, position = Decoder(), b"", b"", [], False, 0
    sizes = iter(cuts * (len(stream) + 1))
    while position < len(stream):
        piece = stream[position : position + next(sizes)]
        position += len(piece)
        batch = decoder.feed(memoryview(piece))
        out += b"".join(batch.stdout)
        err += b"".join(batch.stderr)
        pings += batch.pings
        closed = closed or batch.closed
    return decoder, out, err, pings, closed


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2]), st.binary(max_size=300), st.sampled_from([0, 2, 8]), st.booleans()
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_any_frames_in_any_pieces_give_each_channel_its_bytes(parts, cuts):
    stream, expected = b"", {1: b"", 2: b""}
    for channel, data, form, split in parts:
        expected[channel] += data
        message = bytes([channel]) + data
        if split:
            # A message in two frames has its channel byte in the first one only, and may have a ping in between.
            stream += (
                frame(message[:1], final=False, form=form) + frame(b"p", 9) + frame(message[1:], 0, form=form)
            )
        else:
            stream += frame(message, form=form)
    stream += frame(b"\x03" + b'{"status":"Success"}') + frame(struct.pack("!H", 1000), 8)
    decoder, out, err, pings, closed = decode(stream, cuts)
    assert (out, err) == (expected[1], expected[2])
    assert pings == [b"p"] * sum(split for *_rest, split in parts)
    assert closed
    assert decoder.status_complete
    assert exit_code(parse_status(decoder.status)) == 0


def test_a_large_frame_is_handed_out_before_it_is_complete():
    decoder = Decoder()
    stream = frame(b"\x01" + b"x" * 1_000_000)
    assert sum(map(len, decoder.feed(memoryview(stream[:500])).stdout)) == 500 - 10 - 1


def test_an_empty_message_on_the_error_channel_is_no_status():
    decoder = Decoder()
    decoder.feed(memoryview(frame(b"\x01") + frame(b"\x02") + frame(b"\x03") + frame(b"\x03{")))
    assert bytes(decoder.status) == b"{"


def test_nothing_is_read_after_the_close():
    decoder = Decoder()
    batch = decoder.feed(memoryview(frame(b"\x01a") + frame(b"", 8) + frame(b"\x01b")))
    assert (b"".join(batch.stdout), batch.closed) == (b"a", True)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x82\x81aaaa.",  # masked
        b"\xc2\x01a",  # a reserved bit: compression, which we never offer
        b"\x83\x01a",  # an unknown data opcode
        b"\x8b\x00",  # an unknown control opcode
        b"\x89\x7e\x00\x80" + b"x" * 128,  # a ping of 128 bytes
        b"\x80\x01a",  # a continuation of nothing
        b"\x02\x01\x01\x82\x01\x01",  # a new message in the middle of another
    ],
)
def test_frames_against_the_rules_are_refused(stream):
    with pytest.raises(ProtocolError):
        Decoder().feed(memoryview(stream))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "Success"}, 0),
        (
            {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": "42"}]},
            },
            42,
        ),
        ({"status": "Failure", "reason": "NonZeroExitCode", "details": {}}, None),
        ({"status": "Failure", "reason": "InternalError"}, None),
        (
            {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode"}]},
            },
            None,
        ),
    ],
)
def test_exit_code(status, code):
    assert exit_code(parse_status(json.dumps(status).encode())) == code


@pytest.mark.parametrize("text", [b"", b"upstream error", b"[]", b'{"a": 1}', b"\xff\xfe"])
def test_what_is_no_status_is_a_failure(text):
    assert exit_code(parse_status(text)) is None


def test_query_keeps_every_argument_apart():
    argv = ["sh", "-c", 'echo "$1"', "a b&command=rm", "ü/%2e", "", "\n", "*"]
    pairs = parse_qsl(query(argv, "main", stdin=True), keep_blank_values=True)
    assert [value for key, value in pairs if key == "command"] == argv
    assert {key: value for key, value in pairs if key != "command"} == {
        "container": "main",
        "stdin": "true",
        "stdout": "true",
        "stderr": "true",
    }


def test_a_name_that_is_not_utf8_is_refused_as_argument():
    with pytest.raises(ExecError, match="UTF-8"):
        query(["cat", b"\xff".decode(errors="surrogateescape")], "", stdin=False)


def test_bounded_passes_values_as_arguments_only():
    wrapped = bounded(["cat", "$(id)"], 7)
    assert wrapped[3:] == ["kubeferry", "7", "cat", "$(id)"]


@given(st.integers(0, 3 * MESSAGE_SIZE))
def test_messages_are_the_input_in_pieces(size):
    data = bytes(size)
    parts = list(messages(data))
    assert b"".join(part[1:] for part in parts) == data
    assert all(part[0] == 0 and len(part) <= MESSAGE_SIZE for part in parts)
