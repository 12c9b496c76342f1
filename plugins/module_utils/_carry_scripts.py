# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The shell scripts by which files go from one place to another with no byte passing this machine.

FEED reads orders on its standard input and makes a stream of them; TAKE works that stream off. What joins the two is a
pipe where both places are in one pod. They are constants, as those of `_scripts` are, with the same `$1` and `$2`.
"""

from __future__ import annotations

from ._pieces_scripts import _COPY, _NAMED, _ORDERS
from ._scripts import _LINGER, _START

NAMES_BLOCK = 512
"""Bytes in whose multiples names are handed over: BusyBox's `head -c` takes more from a pipe than it passes on."""

_FEED = (
    _NAMED
    + """
blocks() { dd bs=65536 iflag=fullblock count="$1" 2>/dev/null; }
names() { dd bs=512 iflag=fullblock count="$2" 2>/dev/null | head -c "$1"; }
feed() {
  exec 4>&1
  while read -r word first second third && [ "$word" != end ]; do
    case $word in
      tar)
        printf 'tar %s\\n' "$third"
        { names "$first" "$second" | xargs -0 -s 120000 tar "$@" -cf - ; cat /dev/zero 2>/dev/null; } | blocks "$third"
        ;;
      part)
        printf 'data 65536 %s %s\\n' "$first" "$second"
        got=
        if regular "$name"; then
          said=$(dd bs=65536 skip="$first" count="$second" conv=sync <"$name" 2>&1 >&4)
          got=${said%% records in*}; got=${got##*[!0-9+]}
        fi
        missing=$((second - (${got:-0})))
        if [ "$missing" -gt 0 ]; then dd if=/dev/zero bs=65536 count="$missing" 2>/dev/null; fi
        ;;
      *)
        case $word in file | new) named "$first" ;; esac
        printf '%s\\n' "$word${first:+ $first}${second:+ $second}${third:+ $third}"
        ;;
    esac
  done
  printf 'end\\n'
}
"""
)
"""Orders are the lines of the WRITE script of `_pieces_scripts`, which go through as they are, except for these two:

`part SKIP COUNT` in place of `data` sends blocks of the file of the last `file` or `new`, filled up with zeros.
`tar LENGTH NAMES COUNT` is followed by NAMES blocks of 512 bytes, of which LENGTH bytes are names. It sends an archive
of these files in COUNT blocks of 64 KiB, filled up with zeros or cut."""

_TAKE = (
    """
drain() { printf 'failed\\n'; exit 73; }
"""
    + _COPY
    + """
take() {
  while read -r word first second third && [ "$word" != end ]; do
    case $word in
"""
    + _ORDERS
    + """
      tar) dd bs=65536 iflag=fullblock count="$first" 2>/dev/null | { unpack; cat >/dev/null; } ;;
    esac
    case $word in data | tar) printf 'took\\n' ;; esac
  done
  if [ "$word" != end ]; then drain; fi
  printf 'end\\n'
}
unpack() { (cd -- "$TREE" && tar -xpf - --numeric-owner); }
"""
)
"""Works off a stream in the directory that it is in, with the function's `$3` as the run's work directory. Prints
`took` after each `data` and `tar`, and `end` after the last, or `failed`, with the reason on standard error."""

IN_ONE_POD = (
    _START
    + _FEED
    + _TAKE
    + """
TO=$3 WORK=$4; TREE=$TO/$WORK/tree; export TREE
shift 4
feed "$@" | { cd -- "$TO" && take "$TO" - "$WORK" || drain; }
"""
    + _LINGER
)
"""Brings files from the directory `$1` to `$3`, into its work directory `$4`. Further arguments are options of tar."""
