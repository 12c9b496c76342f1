# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from browserkit import browser, look, publisher, server

__all__ = ["browser", "look", "publisher", "server"]
