# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
# shellcheck shell=sh
#
# Prints what there is to know about the names $2 ... below the directory $1, in Base64, since a name can be any bytes:
# mode, owner, group, modification time and name of each, sizes and contents of files, which of them are one file, and
# where symbolic links lead. Two trees are equal if this prints the same for both.
set -eu
LC_ALL=C
export LC_ALL
cd -- "$1"
shift
{
  find "$@" -print0 | sort -z | xargs -0 stat -c '%f %u %g %Y %n'
  find "$@" -type f -print0 | sort -z | xargs -0 -r stat -c %s
  find "$@" -type f -print0 | sort -z | xargs -0 -r sha256sum
  find "$@" -type f -print0 | sort -z | xargs -0 -r stat -c %i | awk '!($0 in n) { n[$0] = ++c } { print n[$0] }'
  find "$@" -type l -print0 | sort -z | xargs -0 -r -n 1 readlink
} | base64
echo end
