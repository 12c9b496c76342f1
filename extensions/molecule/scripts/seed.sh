# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
# shellcheck shell=sh
#
# Fills the directory $1 with the three files of the simplest case, and a tree whose names and types aren't tame.
set -eu
umask 022
cd -- "$1"
rm -rf 10 a tree
mkdir -p a tree/many tree/names tree/empty tree/deep/1/2/3/4/5/6/7/8/9

printf 'ten\n' >./10
printf 'eleven\n' >a/11
head -c 100000 /dev/urandom >a/51
chown 1001:2001 10
chown 1002:2002 a a/11
chmod 0640 10
chmod 0750 a
chmod 0600 a/11

cd tree
number=0
while [ "$number" -lt 300 ]; do
  number=$((number + 1))
  echo "this is number $number" >"many/$number"
done
head -c 5242880 /dev/urandom >large
truncate -s 1048576 sparse
: >nothing
echo far >deep/1/2/3/4/5/6/7/8/9/down

for name in 'new
line' 'back\slash' 'literal\x20' ' leading' 'trailing ' -rf -- '*' '[a]?' a:colon "quote'\"" "\$(id)" 'ünïcödé' \
  "$(printf 'not-\377-utf-8')" "$(printf '%0255d' 0)"; do
  echo "$name" >"names/$name"
done

ln -s nowhere/at/all dangling
ln -s /etc/passwd absolute
ln -s loop loop
ln -s many folder
ln -s "$(printf 'names/not-\377-utf-8')" "$(printf 'link-\376')"
chown -h 1004:2004 dangling
ln large names/large-again
ln large large-once-more

echo tool >set-id
chown 1003:2003 set-id
chmod 6755 set-id
mkdir set-id-folder sticky closed
chown 0:2003 set-id-folder
chmod 2775 set-id-folder
chmod 1777 sticky
echo secret >closed/file
chmod 0400 closed/file
chown -R 1005:2005 closed
chmod 0500 closed
echo none >no-rights
chmod 0 no-rights
mkfifo fifo
chown 1006 fifo
chmod 0622 fifo

cd ..
touch -d @1000000000 10
touch -d @1100000000 a/11
touch -d @1 tree/nothing
touch -h -d @1200000000 tree/dangling
touch -d @4102444800 tree/large
touch -d @1300000000 tree/empty tree/closed tree/deep/1 tree a
echo end
