"""The container executor: sessions as containers of a Docker or Podman engine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import structlog

from trackbook.adapters.container import attempt_state
from trackbook.adapters.container.attempt import Attempt
from trackbook.adapters.container.client import Client
from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.launch import ExecutorContext
from trackbook.adapters.container.plan import Planner
from trackbook.adapters.execution import folders, outcome, result
from trackbook.adapters.execution.code_archive import Copies
from trackbook.adapters.execution.exit_record import ExitRecord
from trackbook.adapters.execution.logs import tail
from trackbook.adapters.execution.reporter import Reporter
from trackbook.adapters.execution.tasks import cancel as cancel_tasks
from trackbook.adapters.execution.tasks import spawn, until_done
from trackbook.engine.job import ReportTaskStarted, ReportTaskStatus
from trackbook.engine.ports import Blobs, ReportSink, SessionSpec
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_START_HELD_BACK = 0.05
"""Seconds before a start is reported: a shorter task is reported once, at its end, which saves a commit."""
_MOST_BY_TCP = 40
"""Sessions at once on an engine that is not at a socket: each keeps two connections, of which there are 100."""
_CLEANS_UP_WITHIN = 3.0
"""Seconds that closing waits for ended containers to be removed; what stays is found by the sweep."""
_AGAIN = 2.0
"""Seconds until a session is taken up again that a full disk, say, kept from its end."""


class ContainerExecutor:
    """Implements `trackbook.engine.ports.Executor`.

    `limit` sessions run at once (default: what the settings say), the others wait in the order of their launch;
    what ran before a start is adopted beside them. A session's output is kept up to `log_limit` bytes.
    `blobs` has the archives of code.
    """

    def __init__(
        self,
        data: Path,
        engine: Engine,
        installation: str,
        *,
        limit: int = 0,
        log_limit: int = 16 * 2**20,
        blobs: Blobs | None = None,
    ) -> None:
        self._data = data.resolve()
        self._limit = limit or engine.limit or 2 * (os.cpu_count() or 1)
        if not (engine.address() or "unix://").startswith("unix://"):
            self._limit = min(self._limit, _MOST_BY_TCP)
        self._client = Client(engine)
        planner = Planner(self._data, engine, installation)
        copies = Copies(blobs, for_all=bool(engine.user))
        self._context = ExecutorContext(
            self._data, engine, installation, self._client, planner, log_limit, copies
        )
        self._reports = Reporter()
        self._queue: dict[str, SessionSpec] = {}
        self._running: dict[str, Attempt] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self._cleanups: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closing = False

    # The port ------------------------------------------------------------------------------------------------

    async def start(self, report: ReportSink) -> None:
        """Make ready; the engine is first asked when a session needs it."""
        self._reports.sink = report

    async def launch(self, spec: SessionSpec) -> None:
        """Run the session once a slot is free; adopt it, or report its end again, if it was launched before."""
        attempt = self._running.get(spec.session)
        if attempt:
            self._report_start(attempt)
        elif spec.session not in self._queue and not self._reports.has_end(spec):
            self._look(spec)

    async def stop(self, spec: SessionSpec) -> None:
        """End the session's container; one whose command has not begun is taken, so that it never will."""
        failpoint("executor.stop.before")
        if self._reports.has_end(spec):
            return None
        self._queue.pop(spec.session, None)
        if spec.session not in self._running:
            if record := attempt_state.read(self._folder(spec)):
                return self._finish(self._attempt(spec), record)
            self._begin(spec)
        return await self._running[spec.session].stop()

    async def close(self, *, cancel: bool = False) -> None:
        """Release the sessions, or stop them all and wait until they are gone and reported (or the sink is)."""
        self._closing = True
        while cancel and (self._running or self._queue):
            self._changed.clear()
            for spec in [*self._queue.values(), *(attempt.spec for attempt in self._running.values())]:
                await self.stop(spec)
            if self._running:
                await self._changed.wait()
        self._queue.clear()
        await cancel_tasks(self._attempts)
        await cancel_tasks(self._cleanups, wait=_CLEANS_UP_WITHIN)
        self._running.clear()
        await self._client.close()
        await self._reports.close(wait=self._context.engine.grace if cancel else 0)

    # Where a session stands, and what follows ---------------------------------------------------------------

    def _folder(self, spec: SessionSpec) -> Path:
        return folders.session_folder(self._data, spec.session)

    def _look(self, spec: SessionSpec) -> None:
        """Report the session's end, continue with its container, or queue it for a slot."""
        folder = self._folder(spec)
        if record := attempt_state.read(folder):
            self._finish(self._attempt(spec), record)
        elif attempt_state.read_note(folder):
            self._begin(spec)
        else:
            self._queue[spec.session] = spec
            self._launch_waiting()

    def _launch_waiting(self) -> None:
        """Begin what waits, as far as there are slots."""
        while self._queue and len(self._running) < self._limit and not self._closing:
            self._begin(self._queue.pop(next(iter(self._queue))))

    def _attempt(self, spec: SessionSpec) -> Attempt:
        def tell(status: str, message: str) -> None:
            self._reports.send(spec, ReportTaskStatus(spec.task, spec.attempt, status, message))

        def began() -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(_START_HELD_BACK, lambda: self._report_start(self._running.get(spec.session)))

        return Attempt(spec, self._context, tell, began)

    def _begin(self, spec: SessionSpec) -> None:
        attempt = self._running[spec.session] = self._attempt(spec)
        spawn(self._run_to_end(attempt), self._attempts)

    async def _run_to_end(self, attempt: Attempt) -> None:
        """Bring a session to its end, give its slot on, and report."""

        def failed() -> None:  # by a full disk, say; whatever it is, the session must not be forgotten
            session = attempt.spec.session
            _log.exception("a session can't be brought to its end, trying again", session=session)

        record = await until_done(attempt.run, failed, _AGAIN)
        del self._running[attempt.spec.session]
        self._finish(attempt, record)
        self._changed.set()
        self._launch_waiting()

    def _finish(self, attempt: Attempt, record: ExitRecord) -> None:
        spec = attempt.spec
        log, outputs = folders.log_file(self._data, spec.session), folders.outputs(self._data, spec)
        verdict = outcome.verdict(record)
        report = verdict.report(spec, lambda: tail(log), result=lambda: result.read(outputs))
        self._reports.send_end(spec, report)
        spawn(attempt.clean_up(), self._cleanups)

    def _report_start(self, attempt: Attempt | None) -> None:
        if attempt and attempt.started_at:
            spec = attempt.spec
            self._reports.send(spec, ReportTaskStarted(spec.task, spec.attempt, attempt.started_at))
