"""Send reports to the engine, repeating each until it is accepted."""

from __future__ import annotations

import asyncio

import structlog

from trackbook.adapters.execution.back_off import BackOff
from trackbook.engine.job import Report, ReportTaskEnded
from trackbook.engine.ports import ReportSink, SessionSpec, StoreUnanswered
from trackbook.errors import UserError
from trackbook.events.clock_jump import clock_jump
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 5.0


class Reporter:
    """Keeps nothing on disk: what a crash leaves unreported is reported when the session is launched again."""

    def __init__(self) -> None:
        self.sink: ReportSink | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[str] = set()

    def has_end(self, spec: SessionSpec) -> bool:
        """Whether the session's end is being reported."""
        return spec.session in self._ends

    def send(self, spec: SessionSpec, report: Report) -> None:
        """Report in the background; reports may overtake one another."""
        task = asyncio.get_running_loop().create_task(self._repeat(spec, report))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def send_end(self, spec: SessionSpec, report: Report) -> None:
        """Report the session's end, unless that is being done."""
        if spec.session not in self._ends:
            self._ends.add(spec.session)
            self.send(spec, report)
            if isinstance(report, ReportTaskEnded) and report.started_at:
                jump = clock_jump((report.ended_at - report.started_at).total_seconds(), report.run_time)
                if jump is not None:
                    _log.warning(
                        "the clock jumped while a task ran", session=spec.session, seconds=round(jump, 3)
                    )

    async def _repeat(self, spec: SessionSpec, report: Report) -> None:
        back_off = BackOff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not await self._try(spec, report):
            await back_off.pause()
        failpoint("executor.report.after")
        if isinstance(report, ReportTaskEnded):
            self._ends.discard(spec.session)

    async def _try(self, spec: SessionSpec, report: Report) -> bool:
        assert self.sink
        try:
            failpoint("executor.report.before")
            await self.sink(spec.job, report)
        except Exception as problem:  # the sink may fail in any way, and the report must not be lost
            known = isinstance(problem, UserError | StoreUnanswered)  # a broker that is away needs no traceback
            _log.warning(
                "a report was not taken, trying again",
                session=spec.session,
                error=str(problem),
                exc_info=not known,
            )
            return False
        return True

    async def close(self, *, wait: float) -> None:
        """Stop reporting; what is on its way gets `wait` seconds to be taken."""
        if wait and self._tasks:
            await asyncio.wait(self._tasks, timeout=wait)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
