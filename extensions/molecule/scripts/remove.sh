# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
# shellcheck shell=sh
#
# Removes the names $2 ... below the directory $1.
set -eu
cd -- "$1"
shift
rm -rf -- "$@"
echo end
