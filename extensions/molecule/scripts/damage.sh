# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
# shellcheck shell=sh
#
# Does one harm to each of a few files of the seeded tree in the directory $1, and leaves size and times as they were.
set -eu
cd -- "$1"

unchanged() {
  stat -c @%Y "$1"
}

root=$(unchanged .)
large=$(unchanged large)
many=$(unchanged many)
folder=$(unchanged folder)
byte=$(dd if=large bs=1 skip=1234567 count=1 2>/dev/null | od -An -tu1)
# shellcheck disable=SC2059
printf "\\$(printf %03o $((255 - byte)))" | dd of=large bs=1 seek=1234567 conv=notrunc 2>/dev/null
touch -d "$large" large

rm many/7
chmod 0600 many/8
chown 1234 many/9
touch -d @1400000000 many/10
echo more >many/extra
ln -snf elsewhere folder
touch -h -d "$folder" folder
touch -d "$many" many
touch -d "$root" .
echo end
