"""What tests measured, printed at the end of a run. Nothing of it is asserted.

A parallel run has a process for each worker; each sends its part to the one that prints.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

_MOST = 1000
"""Characters of a failure's cause that are printed at once; all of it stands at the end."""
_LINES: dict[str, list[str]] = {}
_COUNTS: dict[str, Counter[str]] = {}


def add_line(section: str, line: str) -> None:
    """Print a line in a section of the report."""
    _LINES.setdefault(section, []).append(line)


def add_count(section: str, name: str, number: int = 1) -> None:
    """Add to a number in a section of the report."""
    _COUNTS.setdefault(section, Counter())[name] += number


class Summary:
    """A pytest plugin that gathers the parts and prints them, and names each failure when it happens."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name a failure at once: a run that is ended before its end has no list of them."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and reporter is not None:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else report.longreprtext
            reporter.ensure_newline()
            reporter.write_line(f"{report.when} of {report.nodeid} failed: {why[:_MOST]}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send this worker's part."""
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["summary_lines"] = _LINES
            output["summary_counts"] = {section: dict(counts) for section, counts in _COUNTS.items()}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in a worker's part."""
        output: dict[str, Any] = getattr(node, "workeroutput", {})
        for section, lines in output.get("summary_lines", {}).items():
            _LINES.setdefault(section, []).extend(lines)
        for section, counts in output.get("summary_counts", {}).items():
            _COUNTS.setdefault(section, Counter()).update(counts)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print all parts."""
        for section in sorted(_LINES.keys() | _COUNTS.keys()):
            terminalreporter.section(section)
            for line in _LINES.get(section, ()):
                terminalreporter.write_line(line)
            for name, number in sorted(_COUNTS.get(section, Counter()).items()):
                terminalreporter.write_line(f"{name}: {number}")
