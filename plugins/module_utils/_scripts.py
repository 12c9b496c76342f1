# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The shell scripts that run at an endpoint.

They are constants: every value comes as an argument or on standard input, so that no name can be taken for code.

They keep to POSIX sh and to what a bare BusyBox has. `$1` is always the directory and `$2` a mark that
is printed before any output of the script's own, so that a banner on standard output can be told from
it. Lists of names are NUL-separated and every name starts with `./`, so that none is an option.
"""

from __future__ import annotations

NO_DIRECTORY = 66
"""Exit status when the directory can't be entered (EX_NOINPUT of sysexits.h)."""

BUSY = 75
"""Exit status when another run holds the target (EX_TEMPFAIL of sysexits.h)."""

INSIDE = 76
"""Exit status when another run holds a directory above the target, which is the last line."""

FOREIGN = 77
"""Exit status when the work directory holds what no copy has put there; its name is the last line (EX_NOPERM)."""

_START = """
LC_ALL=C; TZ=UTC0; export LC_ALL TZ
umask 077
cd -- "$1" || exit 66
printf '%s\\n' "$2"
"""

_GATHER = """
gather() { if command -v dd >/dev/null 2>&1; then dd ibs=32k obs=64k 2>/dev/null; else cat; fi; }
"""
"""An exec stream is slowest at small pieces, and BusyBox's tar writes each header by itself."""

_LINGER = """
read -r word
exit 0
"""
"""Output that a slow reader hasn't taken when a command ends can be lost, with status 0 (kubernetes/kubernetes#124571).

So a script with much to say reads its list of names as `$3` bytes, and stays until a line says that all arrived."""

TOOLS = (
    "sh cat chmod chown df find head id ln mkdir mv readlink rm rmdir stat tar touch xargs flock rsync openssl "
    "md5sum sha1sum sha256sum sha512sum dd tr wc"
).split()

PROBE = """
LC_ALL=C; export LC_ALL
printf '%s\\n' "$2"
path=$1; shift 2
# There are file systems that tell of no links at all.
removed() { case $(cd -P -- "$path" && readlink /proc/self/cwd) in *' (deleted)') ;; *) return 1 ;; esac; }
if [ -b "$path" ]; then echo kind=block
elif [ -d "$path" ] && [ "$(stat -L -c %h -- "$path" 2>/dev/null)" = 0 ] && removed; then echo kind=removed
elif [ -d "$path" ]; then echo kind=dir
elif [ -e "$path" ] || [ -L "$path" ]; then echo kind=other
else echo kind=missing; fi
if [ -r "$path" ] && [ -x "$path" ]; then echo readable=1; fi
if [ -w "$path" ]; then echo writable=1; fi
work=$path/.kubeferry
if [ -L "$work" ] || { [ -e "$work" ] && [ ! -d "$work" ]; }; then echo foreign=1; fi
for left in "$work"/* "$work"/.[!.]*; do
  case ${left##*/} in '*' | '.[!.]*' | lock | busy | held | run-*) ;; *) echo foreign=1; break ;; esac
done
for tool; do
  if command -v "$tool" >/dev/null 2>&1; then echo "tool=$tool"; fi
done
above() (
  cd -P -- "$path" 2>/dev/null || exit
  up=. rest=$PWD
  set --
  while [ -n "${rest#/}" ]; do up=$up/..; set -- "$@" "$up"; rest=${rest%/*}; done
  [ "$#" -eq 0 ] || stat -c %d:%i -- "$@" 2>/dev/null
)
echo "uid=$(id -u)"
caps() { while read -r key value; do case $key in CapEff:) echo "$value" ;; esac; done </proc/self/status; }
echo "caps=$(caps 2>/dev/null)"
echo "boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
echo "inode=$(stat -L -c %d:%i -- "$path" 2>/dev/null)"
echo above=$(above)
mounts() { while read -r id parent device root point rest; do printf '%s ' "$point"; done </proc/self/mountinfo; }
echo "real=$(cd -P -- "$path" 2>/dev/null && pwd -P)"
echo "mounts=$(mounts 2>/dev/null)"
echo "fine=$(stat -c %y -- "$path" 2>/dev/null)"
echo "bytes=$(df -Pk -- "$path" 2>/dev/null | tail -n 1)"
echo "inodes=$(df -Pi -- "$path" 2>/dev/null | tail -n 1)"
case $(tar --version 2>/dev/null) in *GNU*) echo tool=gnutar ;; esac
case $(getfattr --version 2>/dev/null) in getfattr*) command -v setfattr >/dev/null && echo tool=gnuattr ;; esac
case $(sha256sum --help 2>&1) in
  'BusyBox v1.3'[6-9]* | 'BusyBox v1.'[4-9]*) grep -q sha_ni /proc/cpuinfo 2>/dev/null && echo tool=quicksha ;;
esac
echo end=1
"""
"""Prints `key=value` lines about the directory; further arguments are the tools to look for."""

_CLOCK = """
printf '%s|%s\\0' "$(: | stat -L -c '%Z|%z' /proc/self/fd/0 2>/dev/null)" "$(stat -c '%i %d' . 2>/dev/null)"
"""
"""Prints the time, which is that of a pipe made just now (date has no nanoseconds in BusyBox), the directory's inode
and device, and an empty byte."""

_ACCOUNT = """
exec 4>&1
"""
"""Before commands that are to be accounted for: what they print goes on to descriptor 4, and their exit statuses, each
with a name, to descriptor 3. Any of them may be killed, and the rest of the pipe would take that for the end."""

_BROKEN = """
case $statuses in *' '1[0-9]*|*' '[2-9]*) exit 1 ;; esac
"""
"""After those: who reads what a killed command left half-printed would wait for the rest."""

SCAN = (
    _START
    + _GATHER
    + """
FORMAT=$4; export FORMAT
"""
    + _CLOCK
    + _ACCOUNT
    + """
statuses=$(
  {
    { head -c "$3"; echo "head $?" >&3; } |
    {
      xargs -0 sh -c 'find "$@" -path ./.kubeferry -prune -o -print0; echo "find $?" >&3' sh
      echo "xargs $?" >&3
    } |
    {
      xargs -0 -r sh -c '
  printf "%s\\0" "$#" "$@" ""
  stat -c "$FORMAT" "$@"
  printf "\\0"
  for name; do
    if [ -r "$name" ] || [ -L "$name" ] || [ ! -f "$name" ] || { true <"$name"; } 2>/dev/null; then continue; fi
    printf "%s\\0" "$name"
  done
  printf "\\0"
' sh
      echo "rows $?" >&3
    } |
    { gather; echo "gather $?" >&3; } >&4
  } 3>&1
)
printf 'end\\0%s\\0' "$statuses"
"""
    + _BROKEN
    + _LINGER
)
"""Walks down from the names on standard input. Prints the time, and for each batch of names: their count, the names, an
empty name, the lines of stat for those that still exist, an empty name, the files that can't be read, and an empty
name. At the end come the exit statuses, as lines of a name and a number; find's are several where there are many names.

Which directories can't be read, find says on standard error: of BusyBox's `[ -r` nothing is known for sure but what it
denies to files, and that is tried, as it knows neither capabilities nor access control lists."""

WALK_STATUSES = ("head", "find", "xargs", "rows", "gather")

FORMAT = "%f %s %u %g %d %i %h %t %T %b %B %Z %Y|%z|%y"
"""stat's format of a scan: mode in hex, size, owner, group, device, inode, links, device numbers in hex, blocks and
their size, time of the last change and of the last modification; both again in words, which have the nanoseconds."""

LOOK = SCAN.replace('find "$@" -path ./.kubeferry -prune -o -print0', 'find "$@" -prune -print0')
"""The same for just the names given, without walking down."""

FLUSH = (
    _START
    + _CLOCK
    + """
number=$(stat -f -c %t . 2>/dev/null)
printf '%s ' "$number"
case " $3 " in *" ${number:-none} "*) sync -f . 2>/dev/null && printf flushed ;; esac
"""
)
"""Has the file system write out what programs have written. Prints the time before, as in a walk, the number that tells
of which kind the file system is, and a word when it was done: only for those in `$3`. Nothing can end it while the
volume is written to; and BusyBox's `timeout` leaves a process that nobody waits for where the container's first one
doesn't."""

LINKS = (
    _START
    + """
head -c "$3" | xargs -0 -r sh -c 'for name; do printf "%s\\0" "$name"; readlink -n "$name"; printf "\\0"; done' sh
printf 'end\\0'
"""
    + _LINGER
)
"""The targets of the symbolic links on standard input: name and target in turn."""

XATTRS = (
    _START
    + _ACCOUNT
    + """
statuses=$(
  {
    { head -c "$3"; echo "head $?" >&3; } |
    {
      xargs -0 -r sh -c 'getfattr -h -d -m - -e hex --absolute-names -- "$@"; echo "getfattr $?" >&3' sh
      echo "xargs $?" >&3
    } >&4
  } 3>&1
)
printf '# end\\n%s\\0' "$statuses"
"""
    + _BROKEN
    + _LINGER
)
"""The extended attributes of the names on standard input, where there are any, as `getfattr --dump` prints them, and
the exit statuses as in a walk."""

_WHOLE = """
WHOLE='
have=0 want=${1:-none}
if [ "$#" -gt 0 ]; then shift; fi
for name; do have=$((have + ${#name} + 1)); done
if [ "$have" != "$want" ]; then exit 255; fi
'
"""
"""How a command begins that xargs gives names to, all at once: first of all how many bytes they are.

When what passes on a list of names is killed, xargs takes the rest for a name, which may be that of another file."""

NAMES_BYTES = 96_000
"""Bytes of names that one command is given: the argument that one process may have is 128 KiB on some systems."""

XATTR_STATUSES = ("head", "getfattr", "xargs")

DIGEST = (
    _START
    + """
SUM=$4; TOOL=$5; export SUM TOOL
head -c "$3" | xargs -0 -r sh -c '
  printf "%s\\0" "$#" "$@" ""
  stat -c "%i %Z|%z|%n" "$@" 2>/dev/null
  printf "\\0"
  case $TOOL in
    openssl) openssl dgst "-$SUM" -r "$@" ;;
    *) "$TOOL" "$@" ;;
  esac
  printf "\\0"
  stat -c "%i %Z|%z|%n" "$@" 2>/dev/null
  printf "\\0"
' sh
printf 'end\\0'
"""
    + _LINGER
)
"""Digests of the regular files on standard input, with the algorithm `$4` and the tool `$5`. For each batch: the
count of names, the names, an empty name, which inode each name leads to and when that was changed last, an empty byte,
the tool's lines (none for a file that can't be read), an empty byte, and the inodes once more, with an empty byte."""

PULL = (
    _START
    + _GATHER
    + """
if [ "$4" = gather ]; then head -c "$3" | xargs -0 -r tar ${5:+"$5"} -cf - | gather
else head -c "$3" | xargs -0 -r tar ${5:+"$5"} -cf -; fi
printf '%-511s\\n' "$2"
"""
    + _LINGER
)
"""Archives of the regular files on standard input, and a block that starts with the mark after the last one.

With `$4` "gather" they are gathered; the contents of a large file tar hands over in large pieces by itself. `$5` is an
option of tar's: GNU tar takes a backslash in a name for the start of an escape, unless it is told not to."""

HOLD = (
    _START
    + """
if [ -L .kubeferry ]; then exit 73; fi
mkdir -p .kubeferry || exit 73
rest=$(pwd -P) up=.
while command -v flock >/dev/null 2>&1 && [ -n "${rest#/}" ]; do
  up=$up/.. rest=${rest%/*}
  if [ -f "$up/.kubeferry/lock" ] && (exec 7<"$up/.kubeferry/lock" && ! flock -n -s 7) 2>/dev/null; then
    rmdir .kubeferry 2>/dev/null
    printf '%s\\n' "${rest:-/}" >&2
    exit 76
  fi
done
# The holder before removes it at its end, which may be now. A shell ends where `exec` can't open something.
trap 'if [ ! -d .kubeferry ]; then exit 75; fi' 0
for left in .kubeferry/* .kubeferry/.[!.]*; do
  case ${left#.kubeferry/} in
    '*' | '.[!.]*' | lock | busy | held | run-*) ;;
    *) printf '%s\\n' "$left" >&2; exit 77 ;;
  esac
done
mine=.kubeferry/held/${3##*/}; locked=
if command -v flock >/dev/null 2>&1; then
  locked=.kubeferry/held/lock
  exec 9>>.kubeferry/lock || exit 73
  flock -n 9 || exit 75
  # The holder before removed the file while this one opened it: the lock is on nothing.
  [ "$(stat -c %i .kubeferry/lock)" = "$(stat -L -c %i /proc/self/fd/9)" ] || exit 75
  exec 8>>.kubeferry/busy || exit 73
  flock -n 8 || exit 75
  exec 8>&-
  # Who had the lock is dead. To rename what it left also shows to whoever watches the directory.
  if [ -e "$locked" ]; then mv -f -- "$locked" "$mine"; fi
fi
if ! mkdir .kubeferry/held 2>/dev/null && [ ! -e "$mine" ]; then
  seen=$(stat -c %Y .kubeferry/held); left=$5
  while [ "$left" -gt 0 ]; do
    sleep 1; left=$((left - 1))
    [ "$(stat -c %Y .kubeferry/held)" = "$seen" ] || exit 75
  done
  rm -rf .kubeferry/held && mkdir .kubeferry/held || exit 75
fi
: >"$mine" || exit 73
if [ -n "$locked" ]; then : >"$locked" || exit 73; fi
LARGE=$4; TO=$PWD/$3/parts; export LARGE TO
find .kubeferry -type d ! -perm -0700 -exec chmod u+rwx '{}' ';'
rm -rf -- "$3/old" && mkdir -p -- "$3/old" || exit 73
for left in .kubeferry/run-*; do
  for part in tree parts; do
    if [ -d "$left/$part" ] && [ ! -L "$left/$part" ]; then mv -- "$left/$part" "$3/old/${left##*/}.$part"; fi
  done
  if [ "$left" != ".kubeferry/${3##*/}" ]; then rm -rf -- "$left"; fi
done
rm -rf -- "$3/ops"; mkdir -p -- "$3/tree" "$3/parts" || exit 73
for left in "$3"/old/*; do
  if [ -d "$left" ]; then
    (cd -- "$left" && find . -type f -size "+$LARGE" -exec sh -c '
      for name; do mkdir -p -- "$TO/${name%/*}" && mv -f -- "$name" "$TO/$name"; done' sh '{}' +)
  fi
done
rm -rf -- "$3/old"
patience=
if (echo | read -t 1 -r word) 2>/dev/null; then patience="-t $6"; fi
trap - 0
printf 'held\\n'
while read $patience -r word && [ "$word" != done ]; do
  if [ "$word" = keep ]; then break; fi
  if [ -d .kubeferry/held ]; then touch .kubeferry/held; fi
done
if [ -e .kubeferry/busy ] && { exec 8>>.kubeferry/busy; } 2>/dev/null; then flock 8; fi
if [ "$word" = done ] || [ -z "$(find .kubeferry -type f -size "+$LARGE" | head -n 1)" ]; then rm -rf -- .kubeferry
else rm -rf .kubeferry/held; fi
printf 'ended\\n'
"""
)
"""Take the directory for this run, with `$3` as its place to work in, until a line or the end of standard input comes.
A run that holds a directory above is looked for when the work directory has been made: one that comes later sees that.
The lock is the kernel's, so it ends with this process, whatever ends it. A container runtime that was restarted never
tells a command that its input has ended: where `read` can wait for a limited time, the hold also ends after `$6`
seconds without a line.

Large files (of more than `$4` blocks of 512 bytes) that a dead run, or this one before its connection broke, had on
their way are put aside in `parts`; all else of theirs goes, also out of directories that an ordinary user has shut. At
`done` the work directory is removed; else it stays for the next run, if there is such a file in it.

What changes the tree holds another lock, `busy`, to its own end, which may come long after that of the connection. It
is waited for before the directory is given free, and asked for by the next run.

Without flock a directory stands for the lock, which is touched at every line that comes. Looked at for `$5` seconds and
not touched, it is a dead run's. No clock is asked, as that of the volume's server may differ from the container's. Who
has the kernel's lock makes the directory as well, for those that have no flock, with a file `lock` in it."""

ADOPT = (
    _START
    + """
WORK=$4; export WORK
head -c "$3" | xargs -0 -r sh -c '
  for name; do
    case $name in *//) name=${name%//} ;; *) exit 255 ;; esac
    part=$WORK/parts/${name#./} tree=$WORK/tree/${name#./}
    if [ -f "$part" ] && [ ! -L "$part" ] && [ "$(stat -c %h -- "$part")" = 1 ]; then
      rm -rf -- "$tree"; mkdir -p -- "${tree%/*}" && chmod 600 -- "$part" && mv -- "$part" "$tree"
    fi
    if [ -f "$tree" ] && [ ! -L "$tree" ]; then printf "%s\\0%s\\0" "$name" "$(stat -c %s -- "$tree")"; fi
  done
' sh
printf 'end\\0'
"""
    + _LINGER
)
"""Takes up what was put aside of the files on standard input. Prints the name and size of each that there is.

What has a second name isn't taken up, as that would get its mode, and be changed, with it.

Each name on standard input has `//` at its end, which one that was cut hasn't."""

FAILED = "failed"
"""The line by which a script tells that it reads on for nothing.

A command that ends before it has taken all of its input is never heard of again (containerd). So it doesn't end, and
the other side closes the stream as soon as this line comes."""

BROKEN = "broken"
"""The same where a command was killed, or something was cut: the next attempt may go well."""

_VERDICT = """
drain() {
  if [ $? -gt 128 ]; then give_up broken; fi
  if [ -n "$1" ]; then printf '%s\\n' "$1" >&2; fi
  give_up failed
}
"""
"""`drain REASON` after a command that failed."""

_DRAIN = (
    """
give_up() { printf '%s\\n' "$1"; cat >/dev/null; exit 73; }
"""
    + _VERDICT
)

PUSH = (
    _START
    + _DRAIN
    + """
cd -- "$3/tree" && tar -xpf - || give_up failed
exit 0
"""
)
"""Unpack the archive on standard input in the work directory `$3`. Digests tell what arrived."""

APPLY = (
    _START
    + _DRAIN
    + _WHOLE
    + """
[ -d "$3" ] || drain
if command -v flock >/dev/null 2>&1; then exec 8>>.kubeferry/busy && flock -s 8 && [ -d "$3" ] || drain; fi
rm -rf -- "$3/ops" && mkdir -- "$3/ops" && tar -xpf - -C "$3/ops" || drain
LIVED='; if [ $? -gt 128 ]; then exit 255; fi'
each() { cat "$list" | xargs -0 -s 120000 sh -c "$WHOLE$1$LIVED; exit 0" sh || give_up "${2:-broken}"; }
pairs() { each 'while [ "$#" -gt 1 ]; do '"$1$LIVED; shift 2; done"; }
for list in "$3"/ops/*; do
  step=${list##*/}; step=${step#*.}; WITH=${step#*.} TO=${list%.mvto}.to/; export WITH TO
  case $step in
    to) ;;
    wipe) each 'rm -rf -- "$@" || exit 1' failed ;;
    rm) each 'rm -f -- "$@"' ;;
    rmdir) each 'rmdir -- "$@"' ;;
    mkdir) each 'mkdir -p -- "$@"' ;;
    ln) pairs 'ln -- "$1" "$2"' ;;
    mv) pairs '[ -d "$2" ] || mv -f -- "$1" "$2"' ;;
    mvto) each 'mv -f -- "$@" "$TO"' ;;
    make) tar -xpf - -C "$3/tree" <"$list" ;;
    dirs) tar -xpf - <"$list" ;;
    chown.*) each 'chown -h "$WITH" -- "$@"' ;;
    chmod.*) each 'chmod "$WITH" -- "$@"' ;;
    setfattr) setfattr -h --restore=- <"$list" ;;
    strip) pairs 'setfattr -h -x "$1" -- "$2"' ;;
    touch) pairs 'touch -h -d "$1" -- "$2"' ;;
    date) each 'touch -h -r "${TO%.to/}" -- "$@"' ;;
  esac
  if [ $? -gt 128 ]; then give_up broken; fi
done
exit 0
"""
)
# A list comes through a pipe: when a command that BusyBox's xargs has forked closes a file, it sets back the position
# that the two share, and the list begins anew. `mv` does nothing rather than move a file into a directory that could
# not be removed.
"""Unpack the archive of lists on standard input and work them off in the order of their names.

The step is the name's ending: `wipe`, `rm`, `rmdir` and `mkdir` take names, as do `chown.OWNER` and `chmod.MODE`; `ln`,
`mv`, `strip` and `touch` take pairs, `make` and `dirs` archives; `mvto` moves names into the directory that the link of
the same number leads to, and `date` gives them the time of the list itself. A list of names begins with how many bytes
the others are, which is at most NAMES_BYTES: what was cut is not acted upon. What fails is found by the next scan, and
a command that was killed ends it all, as does a `wipe` that leaves something: a directory would be moved into place
with it."""

FINISH = (
    _START
    + """
if [ -n "$4" ]; then
  dump=$(while IFS= read -r line && [ -n "$line" ]; do printf '%s\\n' "$line"; done)
  printf '%s\\n' "$dump" | setfattr -h --restore=-
fi
chmod "$3" .
tar -xpf -
"""
)
"""Set the attributes of the directory itself: its mode `$3`, and all from an archive with just its header. With `$4`, a
dump of its extended attributes comes before that, which an empty line ends."""
