# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The event server: what playbooks publish, kept and shown live on a page."""

from __future__ import annotations

__version__ = "0.2.0"
