"""A sink for an executor's reports, for tests."""

from __future__ import annotations

import asyncio

from trackbook.engine.job import Report, ReportTaskEnded, ReportTaskStarted


class Reports:
    """A sink that keeps the reports, and refuses the first `refusals` of them; waits `patience` seconds."""

    def __init__(self, patience: float = 20) -> None:
        self.patience = patience
        self.all: list[tuple[str, Report]] = []
        self.refusals = 0
        self._changed = asyncio.Condition()

    async def __call__(self, job: str, report: Report) -> None:
        """Take a report, or refuse it."""
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("the log is away")
        async with self._changed:
            self.all.append((job, report))
            self._changed.notify_all()

    def of(self, task: str, kind: type[Report]) -> list[Report]:
        """Return the task's reports of a kind, in the order they came."""
        return [report for _, report in self.all if report.task == task and isinstance(report, kind)]

    async def ended(self, task: str, count: int = 1) -> ReportTaskEnded:
        """Wait until the task's end was reported `count` times."""
        async with asyncio.timeout(self.patience), self._changed:
            await self._changed.wait_for(lambda: len(self.of(task, ReportTaskEnded)) >= count)
        report = self.of(task, ReportTaskEnded)[-1]
        assert isinstance(report, ReportTaskEnded)
        return report

    async def started(self, task: str, count: int = 1) -> None:
        """Wait until the task's start was reported `count` times."""
        async with asyncio.timeout(self.patience), self._changed:
            await self._changed.wait_for(lambda: len(self.of(task, ReportTaskStarted)) >= count)
