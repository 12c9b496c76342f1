# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Flip one byte in the middle of a file, keeping its size and times, as a bad disk would.

usage: flip_byte.py FILE
"""

from __future__ import annotations

import os
import sys


def main(path: str) -> None:
    before = os.stat(path)
    with open(path, "r+b") as stream:
        stream.seek(before.st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


if __name__ == "__main__":
    main(sys.argv[1])
