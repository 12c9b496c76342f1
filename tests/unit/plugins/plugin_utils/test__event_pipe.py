# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import fcntl
import os
import time

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._event_pipe import (
    KEPT_BYTES,
    PIPE_BYTES,
    EventPipe,
)


@pytest.fixture
def pipe():
    read, write = os.pipe()
    made = EventPipe(write)
    yield made, read
    made.close()
    os.close(read)


def drain(read):
    os.set_blocking(read, False)
    parts = []
    while True:
        try:
            part = os.read(read, 1_048_576)
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def test_lines_go_through(pipe):
    made, read = pipe
    made.write(b"one\n")
    made.write(b"two\n")
    assert drain(read) == b"one\ntwo\n"


def test_a_full_pipe_never_blocks_and_says_what_was_lost(pipe):
    made, read = pipe
    line = b"x" * 9_999 + b"\n"
    began = time.monotonic()
    written = 400
    for _number in range(written):
        made.write(line)
    assert time.monotonic() - began < 1
    assert written - made.lost == pytest.approx((PIPE_BYTES + KEPT_BYTES) / len(line), abs=5)
    got = drain(read)
    made.write(b"after\n")
    got += drain(read)
    made.write(b"and later\n")
    got += drain(read)
    lines = got.splitlines(keepends=True)
    # Every line is whole, and the word about the loss stands where the loss was.
    *kept, word, after, later = lines
    assert set(kept) == {line}
    assert len(kept) + made.lost == written
    assert word == b'["lost", %d]\n' % made.lost
    assert (after, later) == (b"after\n", b"and later\n")


def test_the_end_of_a_run_finds_room(pipe):
    made, read = pipe
    for _number in range(400):
        made.write(b"x" * 9_999 + b"\n")
    made.make_room()
    made.write(b"the end\n")
    got = drain(read)
    made.write(b"")
    got += drain(read)
    assert got.endswith(b"the end\n")


def test_what_does_not_go_in_is_left_in_a_file(pipe, tmp_path):
    made, read = pipe
    for number in range(150):
        made.write(b"%05d" % number + b"x" * 9_994 + b"\n")
    made.close(0.05, tmp_path / "rest")
    whole = drain(read) + (tmp_path / "rest").read_bytes()
    assert [int(line[:5]) for line in whole.splitlines()] == list(range(150))


def test_a_reader_that_is_gone(pipe):
    made, read = pipe
    os.dup2(os.open(os.devnull, os.O_RDONLY), read)
    made.write(b"one\n")
    made.write(b"two\n")
    assert made.broken


def test_a_fork_does_not_hold_the_pipe_open(pipe):
    made, read = pipe
    child = os.fork()
    if not child:
        time.sleep(20)
        os._exit(0)
    try:
        made.write(b"last\n")
        made.close()
        os.set_blocking(read, True)
        assert os.read(read, 100) == b"last\n"
        assert os.read(read, 100) == b""  # the end, although the child lives
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_the_pipe_is_large(pipe):
    made, _read = pipe
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        assert fcntl.fcntl(made._descriptor, fcntl.F_GETPIPE_SZ) == PIPE_BYTES
