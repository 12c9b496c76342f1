# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What holds for every test that pytest runs."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With KUBEFERRY_NO_SKIP=1 a skipped test is a failure: CI installs whatever a test asks for."""
    if os.environ.get("KUBEFERRY_NO_SKIP", "") in ("", "0"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line("KUBEFERRY_NO_SKIP=1: a test was skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
