# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A real Kubernetes cluster for tests: built from source, run as plain processes, removed without a trace."""
