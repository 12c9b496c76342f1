# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import tty

import pytest

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._progress_line import (
    ProgressLine,
    clock,
    columns,
    describe,
    one_line,
    size,
)

ROWS, COLUMNS = 8, 60
COPY = {"label": "source to staging", "phase": "copying", "bytes": 524_288, "bytes_total": 1_048_576, "files": 3,
        "files_total": 7, "bytes_per_second": 131_072, "seconds_left": 4.2}  # fmt: skip


class Terminal:
    """As much of a terminal as the line uses: what a person would see."""

    SEQUENCE = re.compile(r"\x1b(?:(7)|(8)|\[([\d;]*)([A-Za-z]))")

    def __init__(self) -> None:
        self.rows = [""] * ROWS
        self.row = self.column = 0
        self.saved = (0, 0)
        self.top, self.bottom = 0, ROWS - 1

    def feed(self, text: str) -> None:
        while text:
            if text[0] == "\x1b":
                found = self.SEQUENCE.match(text)
                assert found, text
                self.control(*found.groups())
                text = text[found.end() :]
                continue
            character, text = text[0], text[1:]
            if character == "\n":
                self.line_feed()
            elif character == "\r":
                self.column = 0
            else:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + character + line[self.column + 1 :]
                self.column += 1
                assert self.column < COLUMNS, "a line that wraps would be in Ansible's output"

    def line_feed(self) -> None:
        if self.row == self.bottom:
            del self.rows[self.top]
            self.rows.insert(self.bottom, "")
        elif self.row < ROWS - 1:
            self.row += 1

    def control(self, save, restore, numbers, letter) -> None:
        values = [int(number) for number in (numbers or "").split(";") if number]
        if save:
            self.saved = (self.row, self.column)
        elif restore:
            self.row, self.column = self.saved
        elif letter == "r":
            self.top, self.bottom = (values[0] - 1, values[1] - 1) if values else (0, ROWS - 1)
            self.row = self.column = 0
        elif letter == "H":
            self.row, self.column = values[0] - 1, values[1] - 1
        elif letter == "A":
            self.row = max(self.top, self.row - values[0])
        elif letter == "K":
            assert values == [2]
            self.rows[self.row] = ""
        else:
            raise AssertionError(letter)


@pytest.fixture
def screen(monkeypatch):
    """A pseudo terminal, and a function that returns what it shows after a text."""
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    tty.setraw(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.set_blocking(master, False)
    terminal = Terminal()

    def show() -> Terminal:
        try:
            terminal.feed(os.read(master, 65_536).decode())
        except BlockingIOError:
            pass
        return terminal

    def ansible(text: str) -> None:
        os.write(slave, text.replace("\n", "\r\n").encode())
        show()

    yield slave, show, ansible
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("before", [0, 2, ROWS - 1, 3 * ROWS], ids=lambda count: f"after {count} lines")
def test_ansible_prints_above_the_line(screen, before):
    slave, show, ansible = screen
    line = ProgressLine(slave)
    assert line.enabled
    printed = [f"before {number}" for number in range(before)]
    ansible("".join(f"{text}\n" for text in printed))
    for number in range(20):
        line.show([{**COPY, "files": number}])
        terminal = show()
        assert terminal.rows[-1].startswith("source to staging: copying  50 %")
        texts = [f"ok: [host {number}] => {{", f'    "msg": {number}', "}"]
        ansible("".join(f"{text}\n" for text in texts))
        printed += texts
        # Nothing of Ansible's is overwritten, missing or out of order.
        visible = [row.rstrip() for row in show().rows[:-1] if row.strip()]
        assert visible == printed[-len(visible) :]
        assert len(visible) >= min(len(printed), ROWS - 3)
        assert show().rows[-1].startswith("source to staging: copying")
    line.erase()
    terminal = show()
    assert terminal.rows[-1] == ""
    assert (terminal.top, terminal.bottom) == (0, ROWS - 1)
    ansible("PLAY RECAP\n")
    visible = [row.rstrip() for row in show().rows if row.strip()]
    assert visible[-2:] == [printed[-1], "PLAY RECAP"]


def test_the_line_comes_and_goes(screen):
    slave, show, ansible = screen
    line = ProgressLine(slave)
    for _time in range(3):
        line.show([COPY])
        assert show().rows[-1]
        line.show([])
        assert show().rows[-1] == ""
    ansible("one\ntwo\n")
    assert [row for row in show().rows if row][-2:] == ["one", "two"]


def test_nothing_from_a_name_moves_the_cursor(screen):
    slave, show, _ansible = screen
    line = ProgressLine(slave)
    line.show([{**COPY, "label": "a\x1b[2Jb\nc\x07d"}])
    assert show().rows[-1].startswith("a?[2Jb?c?d: copying")


def test_a_terminal_that_went_away_is_no_error(screen):
    slave, _show, _ansible = screen
    copy = os.dup(slave)
    line = ProgressLine(copy)
    os.close(copy)
    line.show([COPY])
    line.erase()
    assert not line.enabled


def test_no_terminal():
    read, write = os.pipe()
    assert not ProgressLine(write).enabled
    line = ProgressLine(write, force=True)
    line.show([COPY])
    line.show([{"label": "short", "phase": "checking"}])
    line.erase()
    first, second, blank, rest = os.read(read, 10_000).decode().split("\r")[1:]
    assert first.startswith("source to staging: copying")
    assert second.rstrip() == "short: checking"
    assert len(second) == len(first)
    assert (blank.strip(), rest) == ("", "")
    os.close(read)
    os.close(write)


def test_dumb_terminal(screen, monkeypatch):
    slave, _show, _ansible = screen
    monkeypatch.setenv("TERM", "dumb")
    assert not ProgressLine(slave).enabled


def test_words():
    assert (
        describe(COPY)
        == "source to staging: copying  50 %  512 KiB of 1.0 MiB  3/7 files  128 KiB/s  0:04 left"
    )
    assert describe({"label": "", "host": "h1", "phase": "hashing", "bytes": 10}) == "h1: hashing  10 B"
    assert one_line([COPY, COPY, COPY], 40) == "source to staging: copying  …  (+2 more)"
    assert len(one_line([COPY], 30)) == 30


@pytest.mark.parametrize(
    "mark", ["\x1b", "\x9b", "\xad", "\u061c", "\u200b", "\u2028", "\u202e", "\u2069", "\ufeff"]
)
def test_what_acts_on_the_line_or_can_not_be_seen_is_not_shown(mark):
    assert describe({"label": f"a{mark}b", "phase": "hashing"}) == "a?b: hashing"


@pytest.mark.parametrize("width", [2, 20, 29, 30, 31, 79])
def test_wide_letters_take_two_columns(width):
    wide = {**COPY, "label": "語" * 60}
    assert width - 1 <= columns(one_line([wide], width)) <= width
    assert columns("a語") == 3


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 * 1024, "150 KiB"), (2**50, "1024 TiB")],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3_599, "59:59"), (3_661, "1:01:01")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
