"""Reports that the engine does not take are repeated until it does."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from trackbook.adapters.execution.reporter import Reporter
from trackbook.engine.job import Report, ReportTaskStatus
from trackbook.engine.ports import SessionSpec, StoreUnanswered
from trackbook.errors import UserError

SPEC = SessionSpec("tb-j1-0-1", "j1", "p1", "pipeline", "a", 0, 1, "true")
REPORT = ReportTaskStatus("a", 1, "PULLING")


@pytest.mark.parametrize(
    ("problem", "unexpected"),
    [
        (StoreUnanswered("no answer for 20 s"), False),
        (UserError("the disk is full"), False),
        (KeyError("x"), True),
    ],
)
async def test_a_report_that_is_not_taken_is_repeated(problem: Exception, unexpected: bool) -> None:
    """What is said in words needs no traceback in the server's log; anything else has one."""
    taken: list[Report] = []
    answered, problems = asyncio.Event(), [problem]

    async def sink(_job: str, report: Report) -> None:
        if problems:
            raise problems.pop()
        taken.append(report)
        answered.set()

    reporter = Reporter()
    reporter.sink = sink
    with capture_logs() as logs:
        reporter.send(SPEC, REPORT)
        async with asyncio.timeout(60):
            await answered.wait()
    await reporter.close(wait=1)

    assert taken == [REPORT]
    assert [(each["error"], each["exc_info"]) for each in logs] == [(str(problem), unexpected)]
