# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The shell scripts by which files go from one place to another with no byte passing this machine.

FEED reads orders on its standard input and makes a stream of them; TAKE works that stream off. What joins the two is a
pipe where both places are in one pod, else TLS 1.3 with a key made for this one connection. They are constants, as
those of `_scripts` are, with the same `$1` and `$2`.
"""

from __future__ import annotations

from ._pieces_scripts import _COPY, _COUNTED, _NAMED, _ORDERS, _PART
from ._scripts import _LINGER, _START, _VERDICT, _WHOLE

NAMES_BLOCK = 512
"""Bytes in whose multiples names are handed over: BusyBox's `head -c` takes more from a pipe than it passes on."""

_FEED = (
    _NAMED
    + _PART
    + _COUNTED
    + _WHOLE
    + """
blocks() { said=$(dd bs=65536 iflag=fullblock count="$1" 2>&1 >&3); counted "$1" "$said"; }
names() { dd bs=512 iflag=fullblock count="$2" 2>/dev/null | head -c "$1"; }
pack() { xargs -0 -s 120000 sh -c "$WHOLE"'exec tar $OPTIONS -cf - "$@"' sh "$1"; }
order() { printf '%s\\n' "$MARK $*"; }
spill() { while printf '%65535s\\n' ''; do :; done 2>/dev/null; exit 73; }
feed() {
  exec 3>&1
  OPTIONS=$*; export OPTIONS
  while read -r mark word first second third && [ "$mark $word" != "$MARK end" ]; do
    if [ "$mark" != "$MARK" ]; then spill; fi
    case $word in
      tar)
        order tar "$third"
        { names "$first" "$second" | pack "$first"; cat /dev/zero 2>/dev/null; } | blocks "$third" || spill
        ;;
      part)
        if [ -n "$FROM" ]; then order copy "$first" "$second"; continue; fi
        order data 65536 "$first" "$second"
        part "$first" "$second" || spill
        ;;
      *)
        case $word in file | new) named "$first" || spill ;; esac
        order "$word${first:+ $first}${second:+ $second}${third:+ $third}"
        ;;
    esac
  done
  if [ "$mark $word" != "$MARK end" ]; then spill; fi
  order end
}
"""
)
"""Orders are the lines of the WRITE script of `_pieces_scripts`, which go through as they are, except for these two:

`part SKIP COUNT` in place of `data` sends blocks of the file of the last `file` or `new`, filled up with zeros. Where
FROM is set, the other side is told to copy them itself from that directory.
`tar LENGTH NAMES COUNT` is followed by NAMES blocks of 512 bytes, of which LENGTH bytes are names. It sends an archive
of these files in COUNT blocks of 64 KiB, filled up with zeros or cut.

Every line begins with MARK, as in WRITE. Where a command is killed and fewer bytes have gone out than were announced,
`spill` makes up for them until a line without the mark ends it all: the other side would wait for them else."""

_TAKE = (
    """
give_up() { printf '%s\\n' "$1"; exit 73; }
"""
    + _VERDICT
    + _COPY
    + _COUNTED
    + """
take() {
  while read -r mark word first second third && [ "$mark $word" != "$MARK end" ]; do
    if [ "$mark" != "$MARK" ]; then give_up broken; fi
    case $word in
"""
    + _ORDERS
    + """
      copy)
        origin=$FROM/${name#"$3"/tree/}
        if [ -n "$FROM" ] && regular "$origin"; then
          copy bs=65536 skip="$first" seek="$first" count="$second" <"$origin"
        fi
        ;;
      tar)
        said=$({ dd bs=65536 iflag=fullblock count="$first" 2>&4 | { unpack; cat; } >/dev/null 4>&-; } 4>&1)
        counted "$first" "$said" || give_up broken
        ;;
    esac
    case $word in copy | data | tar) printf 'took\\n' ;; esac
  done
  if [ "$mark $word" != "$MARK end" ]; then give_up broken; fi
  printf 'end\\n'
}
unpack() { (cd -- "$TREE" && tar -xpf - --numeric-owner); }
"""
)
"""Works off a stream in the directory that it is in, with the function's `$3` as the run's work directory. Prints
`took` after each `data` and `tar`, and `end` after the last; or `failed`, with the reason on standard error, or
`broken`. Each line of the stream begins with MARK, as in WRITE."""

IN_ONE_POD = (
    _START
    + _FEED
    + _TAKE
    + """
TO=$3 WORK=$4 MARK=$5 FROM=$PWD; TREE=$TO/$WORK/tree; export TREE
shift 5
feed "$@" | { cd -- "$TO" && take "$TO" - "$WORK" || drain; }
"""
    + _LINGER
)
"""Brings files from the directory `$1` to `$3`, into its work directory `$4`, with `$5` as the mark of orders. Further
arguments are options of tar."""

ALONE = "alone"
"""The line by which RECEIVE tells that nobody has connected."""

IDENTITY = "kubeferry"
CIPHER = "TLS_AES_128_GCM_SHA256"
"""The one that the key is for. OpenSSL prefers others, and then has no use for the key."""

_TLS = (
    f"TLS='-quiet -tls1_3 -ciphersuites {CIPHER} -psk_identity {IDENTITY}'"
    """
session() {
  printf '%s\\n%s\\n%s\\n' '-----BEGIN SSL SESSION PARAMETERS-----' "$1" '-----END SSL SESSION PARAMETERS-----'
}
watch() {
  seen='' still=0 most=$2
  while sleep 1 >/dev/null 2>&1 && kill -0 "$1" 2>/dev/null; do
    now=$(cat "/proc/$1/io" 2>/dev/null)
    if [ "$now" != "$seen" ]; then
      if [ -n "$seen" ]; then most=$3; fi
      seen=$now still=0
    fi
    if [ -n "$now" ]; then still=$((still + 1)); fi
    if [ "$still" -gt "$most" ]; then "$4" "$1"; fi
  done
}
ended() { kill "$@" 2>/dev/null; wait "$@" 2>/dev/null; }
"""
)
"""The key comes as a line on standard input and goes to openssl through a pipe, so it is in no list of arguments, no
environment and no file. `watch` ends the process `$1` by the command `$4` where it reads and writes nothing, at first
for `$2` seconds, later on for `$3`."""

SEND = (
    _START
    + _FEED
    + _TLS
    + """
TO=$3 FIRST=$4 LATER=$5 MARK=$6 FROM=
shift 6
IFS= read -r key
feed "$@" 2>/dev/null | {
  exec 3<&0
  openssl s_client $TLS -connect "$TO" -psk_session /proc/self/fd/9 \\
    -verify_return_error -verify_hostname none.invalid -no-CAfile -no-CApath <&3 >/dev/null 9<<EOF &
$(session "$key")
EOF
  client=$!
  watch "$client" "$FIRST" "$LATER" kill &
  watcher=$!
  wait "$client" 2>/dev/null
  ended "$watcher"
}
printf 'ended\\n'
"""
    + _LINGER
)
"""Sends from the directory `$1` to the address and port `$3`, until the other side hangs up, with `$6` as the mark of
orders. Further arguments are options of tar. What it says on standard error is openssl's alone: FEED only complains
that nobody takes its stream.

A server that doesn't have the key can't go on without a certificate, and none has the name that is asked for."""

RECEIVE = (
    _START
    + _NAMED
    + _TAKE
    + _TLS
    + """
AT=$4 PORT=$5 FIRST=$6 LATER=$7 MARK=$2 FROM=; TREE=$PWD/$3/tree; export TREE
IFS= read -r key
refuse() { printf 'refused %s\\n' "$1"; exit 73; }
seen() {
  for table in /proc/net/tcp /proc/net/tcp6; do
    if [ -r "$table" ]; then
      while read -r _number here _there state _rest; do
        case $here:$state in *:"$PORT":$1) return 0 ;; esac
      done <"$table"
    fi
  done
  return 1
}
listening() { seen 0A; }
connected() { seen '0[1-9]'; }
stop() {
  if kill -0 "$1" 2>/dev/null && ! connected; then (printf 'alone\\n') 2>/dev/null; fi
  kill "$1" 2>/dev/null
}
if listening; then refuse "port $AT is taken"; fi
folder=$(mktemp -d 2>/dev/null) || folder=$(mktemp -d -p /dev/shm 2>/dev/null) || refuse 'mktemp: no place for a pipe'
trap 'rm -rf -- "$folder"' EXIT
mkfifo "$folder/in" "$folder/idle" 2>/dev/null || refuse 'mkfifo: no pipe'
exec 3<&0 4<>"$folder/in"
openssl s_server $TLS -nocert -naccept 1 -accept "$AT" -psk_session /proc/self/fd/9 \\
  <>"$folder/idle" >"$folder/in" 2>"$folder/said" 3<&- 4<&- 9<<EOF &
$(session "$key")
EOF
server=$!
exec 5<"$folder/in" 4<&-
tries=0
until listening; do
  tries=$((tries + 1))
  if ! kill -0 "$server" 2>/dev/null || [ "$tries" -gt 50 ]; then
    ended "$server"
    read -r said <"$folder/said"
    refuse "$said"
  fi
  sleep 0.1 2>/dev/null || sleep 1
done
printf 'listening\\n'
{ read -r word <&3; stop "$server"; } &
reader=$!
watch "$server" "$FIRST" "$LATER" stop &
watcher=$!
(take "$1" - "$3" <&5)
ended "$server" "$watcher"
wait "$reader"
exit 0
"""
)
"""Receives into the directory `$1`, with `$3` as its work directory, at the address and port `$4`; `$5` is the port in
hex, as the kernel lists it. Says `listening` when a connection may come, or `refused` and why none can. The port is
closed after one connection, and when a line or the end of standard input comes; then it says `alone` if nobody has
connected. What holds the input open while a
connection lives is a pipe that nobody writes to: openssl is busy where there is an end."""
