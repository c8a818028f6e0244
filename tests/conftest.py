"""Shared set-up of the suite: one thread a process, and the list of what was not seen here."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from tests.requirements import NOT_SEEN

# A busy machine may take its time over an example.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what the tests asked for and did not find; told by their reports, which come from every process."""
    found = set()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        name, mark, why = reason.removeprefix("Skipped: ").partition(NOT_SEEN)
        if mark:
            found.add(f"{name}: {why}")
    if found:
        terminalreporter.section("not seen here")
        for line in sorted(found):
            terminalreporter.write_line(line)
