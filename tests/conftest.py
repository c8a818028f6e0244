"""Shared set-up of the suite: one thread a process, and the list of what was not seen here."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.requirements import NOT_SEEN


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NOT_SEEN:
        terminalreporter.section("not seen here")
        for name, reasons in sorted(NOT_SEEN.items()):
            for why in sorted(reasons):
                terminalreporter.write_line(f"{name}: {why}")
