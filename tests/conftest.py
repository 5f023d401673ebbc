"""What holds for all tests."""

from __future__ import annotations

import pytest

from tests import services


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which servers were missing, if any were."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    line = services.summary(reasons)
    if line:
        terminalreporter.write_line(line)
