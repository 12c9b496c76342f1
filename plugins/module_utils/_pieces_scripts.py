# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The shell scripts that handle files in pieces: constants, as those of `_scripts` are, with the same `$1` and `$2`.

Each works off lines on its standard input, which `read` takes byte by byte, so that data can follow. A name comes as an
argument of printf's `%b`, since a line holds no newline, and leads nowhere out of the directory. Offsets and counts are
in blocks.

`dd` does all the reading: BusyBox's `head -c` goes byte by byte, and takes more from a pipe than it passes on.
"""

from __future__ import annotations

from ._scripts import _DRAIN, _LINGER, _START

BLOCK = 1 << 16
"""Bytes that dd reads or writes at a time; a power of two, so that pieces are whole blocks. A pipe holds as much."""

_NAMED = """
named() {
  name=$(printf '%b.' "$1") && name=${name%.} && case $name/ in */../*) false ;; ./*) ;; *) false ;; esac
}
regular() { [ -f "$1" ] && [ ! -L "$1" ]; }
"""

PIECES = (
    _START
    + _NAMED
    + """
SUM=$3; TOOL=$4
full() { tr -d '\\000' | head -c 1 | wc -c; }
piece() { dd bs=65536 skip=$((number * length)) count="$length" <"$name" 2>/dev/null; }
digest() {
  case $TOOL in
    openssl) openssl dgst "-$SUM" -r ;;
    *) "$TOOL" ;;
  esac
}
can=
if [ "$(printf '\\000\\n' | full 2>/dev/null)" = 1 ]; then can=1; fi
while read -r length compare count doubted name && [ "$length" != end ]; do
  if named "$name" && regular "$name" && [ -r "$name" ]; then
    set -- $(stat -c '%s %b' "$name")
    printf '%s %s\\n' "$1" "$2"
    if [ "$2" -eq 0 ] && [ "$doubted" -eq 0 ]; then count=0
    elif [ $(($2 * 512)) -ge "$1" ]; then count=$compare; fi
    number=0
    while [ "$number" -lt "$count" ] && [ $((number * length * 65536)) -lt "$1" ]; do
      if [ "$number" -lt "$compare" ] || [ -z "$can" ]; then piece | digest
      elif [ "$(piece | full)" = 0 ]; then echo zeros
      else echo data
      fi
      number=$((number + 1))
    done
  fi
  printf '\\0'
done
printf 'end\\0'
"""
    + _LINGER
)
"""Tells about each file of a line `LENGTH COMPARE COUNT DOUBTED NAME` its size in bytes and what it takes up in units
of 512 bytes, then a line for each piece of LENGTH blocks, and a NUL: all that comes for what is no readable file.

COMPARE lines are of the digest tool `$4` for algorithm `$3`. Of a sparse file there are more, COUNT altogether, that
say just `zeros` or `data` where the tools for that work. Of one that takes up nothing there are none, unless DOUBTED
is 1.
"""

BLOCKS = (
    _START
    + _NAMED
    + """
SUM=$3; TOOL=$4
digests() {
  case $TOOL in
    openssl) openssl dgst "-$SUM" -r "$@" ;;
    *) "$TOOL" "$@" ;;
  esac
}
folder=
trap 'rm -rf -- "$folder"' EXIT
trap 'exit 1' HUP INT PIPE TERM
if command -v split >/dev/null 2>&1; then folder=$(mktemp -d -p /dev/shm 2>/dev/null); fi
while read -r length skip count name && [ "$length" != end ]; do
  if named "$name" && [ -n "$folder" ] && regular "$name" && [ -r "$name" ]; then
    dd bs=65536 skip="$skip" count="$count" <"$name" 2>/dev/null |
      (cd -- "$folder" && split -a 2 -b "$((length * 65536))" - b) &&
      digests "$folder"/b* 2>/dev/null
    rm -f -- "$folder"/b*
  fi
  printf '\\0'
done
printf 'end\\0'
"""
    + _LINGER
)
"""Tells about each line `LENGTH SKIP COUNT NAME` the digests of what lies in COUNT blocks of 64 KiB from block SKIP on,
LENGTH of them at a time, and a NUL. What is told is a line of the tool `$4` for each, or nothing.

One command digests all of them, which lie in memory meanwhile: one command for each takes ten times as long."""

_PART = """
part() {
  got=
  if regular "$name"; then
    said=$(dd bs=65536 skip="$1" count="$2" conv=sync <"$name" 2>&1 >&3)
    if [ $? -gt 128 ]; then return 1; fi
    got=${said%% records in*}; got=${got##*[!0-9+]}
  fi
  missing=$(($2 - (${got:-0})))
  if [ "$missing" -gt 0 ]; then dd if=/dev/zero bs=65536 count="$missing" 2>/dev/null; fi
}
"""
"""Sends `$2` blocks of a file from block `$1` on to the standard output, which is open as 3 as well. As dd fills up a
short block with zeros and says how many there were (`5+1 records in`), so many come whatever becomes of the file. Where
dd is killed, nobody knows how many came, and it fails."""

READ = (
    _START
    + _NAMED
    + _PART
    + """
exec 3>&1
while read -r word skip count && [ "$word" != end ]; do
  if [ "$word" = file ]; then named "$skip" || exit 73; continue; fi
  part "$skip" "$count" || exit 73
done
printf 'end\\n'
"""
    + _LINGER
)
"""Sends the blocks of `part SKIP COUNT` of the file of the last `file NAME`."""

_COPY = """
copy() { said=$(dd "$@" conv=notrunc of="$name" 2>&1) || drain "$said"; }
"""

_COUNTED = """
counted() {
  case $2 in *"
$1+0 records out"*) ;; *) false ;; esac
}
"""
"""`counted COUNT SAID`: whether dd passed on so many whole blocks, by what it said. When killed it says nothing."""

_ORDERS = """
    file | new)
      named "$first" || drain 'a name that leads out of the directory'
      present=$name; name=$3/tree/${name#./}
      if [ "$word" = new ]; then rm -rf -- "$name"; fi
      mkdir -p -- "${name%/*}" || drain
      regular "$name" || { rm -rf -- "$name" && : >"$name"; } || drain
      ;;
    keep) if regular "$present"; then copy bs=65536 skip="$first" seek="$first" count="$second" <"$present"; fi ;;
    clear) copy if=/dev/zero bs=65536 seek="$first" count="$second" ;;
    data)
      copy bs="$first" seek="$second" count="$third" iflag=fullblock
      counted "$third" "$said" || give_up broken
      ;;
    size)
      said=$(dd if=/dev/null bs=1 seek="$first" count=0 of="$name" 2>&1) || drain "$said"
      touch -d "$second" -- "$name"
      ;;
"""

WRITE = (
    _START
    + _DRAIN
    + _NAMED
    + _COPY
    + _COUNTED
    + """
MARK=$2
while read -r mark word first second third && [ "$mark $word" != "$MARK end" ]; do
  if [ "$mark" != "$MARK" ]; then give_up broken; fi
  case $word in
"""
    + _ORDERS
    + """
  esac
done
printf 'end\\n'
"""
)
"""Works on received files below the work directory `$3`. Each line begins with the mark `$2`: when a command is killed
that takes data off the standard input, the rest of it would be taken for lines else, and whoever wrote the file could
say what becomes of others. `file NAME` makes it unless it is there, `new NAME` in any
case. `keep SKIP COUNT` takes blocks from the file of that name in the tree, `clear SKIP COUNT` writes zeros,
`data SIZE SKIP COUNT` is followed by COUNT blocks of SIZE bytes, and `size BYTES TIME` cuts or lengthens the file, and
dates it.

The first failure ends it with its reason, as what follows on standard input isn't lines."""
