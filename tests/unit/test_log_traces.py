"""Which errors are logged with a stack trace."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from trackbook.errors import UserError
from trackbook.runtime.process import log_output


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What this process logs for the time of a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log_output.configure()
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _fail(problem: Exception) -> None:
    raise problem


@pytest.mark.parametrize("library", [False, True], ids=["structlog", "logging"])
@pytest.mark.parametrize("passed", [False, True], ids=["current", "passed"])
def test_only_our_own_faults_have_a_stack_trace(written: io.StringIO, library: bool, passed: bool) -> None:
    """An error that a user can act on is logged in its words, any other with the place where it happened."""
    for problem in (UserError("the log is not there yet"), LookupError("a fault")):
        try:
            _fail(problem)
        except Exception as error:
            exc_info = error if passed else True
            if library:
                logging.getLogger("somewhere").exception("it failed", exc_info=exc_info)
            else:
                structlog.get_logger("somewhere").exception("it failed", exc_info=exc_info)
    words, trace = written.getvalue().split("it failed")[1:]
    assert "Traceback" not in words
    assert "the log is not there yet" in words
    assert "Traceback" in trace
    assert "LookupError: a fault" in trace
