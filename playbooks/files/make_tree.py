# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Make a tree of several hundred files with names and types that aren't tame, for kubeferry.pvc.demo.

usage: make_tree.py DIRECTORY
"""

from __future__ import annotations

import os
import random
import sys

FILES = 600
LARGE = 24 << 20
WHEN = 1_600_000_000
NAMES = (
    b"new\nline",
    b"back\\slash",
    b"literal \\x20",
    b"star * question ? [brackets]",
    b"co:lon",
    b"-rf",
    b" leading and trailing ",
    b"not utf-8 \xff\xfe",
    "Üñïçødé".encode(),
    b"l" * 255,
)


def main(root: bytes) -> None:
    chance = random.Random(1)  # noqa: S311 -- the same tree each time, so that a second demo has nothing to do
    os.makedirs(root, exist_ok=True)
    os.chdir(root)
    for number in range(FILES):
        write(b"data/%02d/%03d.bin" % (number % 20, number), chance.randbytes(chance.randrange(20_000)))
    for name in NAMES:
        write(b"names/" + name, name)
    for name in (b"10", b"a/11", b"a/51"):
        write(name, b"file %s of the original procedure\n" % name)
    write(b"large.bin", chance.randbytes(LARGE))
    write(b"empty.txt", b"")
    types(root)
    for directory, _directories, _files in os.walk(b".", topdown=False):
        os.utime(directory, (WHEN, WHEN))


def types(root: bytes) -> None:
    """Everything that isn't a plain file."""
    os.makedirs(b"empty directory", exist_ok=True)
    os.makedirs(b"types", exist_ok=True)
    for name, target in (
        (b"relative", b"../10"),
        (b"absolute", root + b"/10"),
        (b"dangling", b"nowhere"),
        (b"loop", b"loop"),
    ):
        if not os.path.lexists(b"types/" + name):
            os.symlink(target, b"types/" + name)
        os.utime(b"types/" + name, (WHEN, WHEN), follow_symlinks=False)
    if not os.path.exists(b"types/second name of large.bin"):
        os.link(b"large.bin", b"types/second name of large.bin")
    if not os.path.exists(b"types/fifo"):
        os.mkfifo(b"types/fifo")
    os.utime(b"types/fifo", (WHEN, WHEN))
    write(b"types/set-uid", b"#!/bin/sh\n", 0o4755)
    write(b"types/read-only", b"read-only\n", 0o444)
    if os.geteuid() == 0:
        os.chown(b"a/11", 999, 999)
        os.chown(b"a/51", 1000650000, 0)
        os.utime(b"a/51", (WHEN, WHEN))


def write(path: bytes, content: bytes, mode: int = 0o640) -> None:
    os.makedirs(os.path.dirname(path) or b".", exist_ok=True)
    if not os.path.exists(path):
        with open(path, "wb") as stream:
            stream.write(content)
        os.chmod(path, mode)
        os.utime(path, (WHEN, WHEN))


if __name__ == "__main__":
    main(os.path.abspath(os.fsencode(sys.argv[1])))
