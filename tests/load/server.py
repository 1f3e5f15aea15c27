"""The command line with sessions that are no processes: what remains of a load is the engine's own work."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from trackbook.adapters.local.backend import LocalBackend
from trackbook.cli.main import main
from trackbook.engine.job import ReportTaskEnded, ReportTaskStarted
from trackbook.engine.ports import ReportSink, SessionSpec


class InstantExecutor:
    """Implements `trackbook.engine.ports.Executor`: each session succeeds at once and is forgotten."""

    warnings: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._sink: ReportSink | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, report: ReportSink) -> None:
        """Send reports to `report` from now on."""
        self._sink = report

    async def launch(self, spec: SessionSpec) -> None:
        """Report the start, and the end once the start is on the log: a commit each."""
        task = asyncio.create_task(self._run(spec))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, spec: SessionSpec) -> None:
        assert self._sink is not None
        started = datetime.now(UTC)
        await self._sink(spec.job, ReportTaskStarted(spec.task, spec.attempt, started))
        ended = ReportTaskEnded(spec.task, spec.attempt, "succeeded", datetime.now(UTC), started, 0)
        await self._sink(spec.job, ended)

    async def stop(self, spec: SessionSpec) -> None:
        """Do nothing: a session has ended before it can be stopped."""

    async def close(self, *, cancel: bool = False) -> None:
        """Report nothing more."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _instant(_backend: LocalBackend) -> InstantExecutor:
    return InstantExecutor()


if __name__ == "__main__":
    LocalBackend.executor = _instant  # type: ignore[method-assign,assignment]
    main()
