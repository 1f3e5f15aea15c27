"""The container executor: sessions as containers of a Docker or Podman engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from trackbook.adapters.container import records
from trackbook.adapters.container.beginning import Setting
from trackbook.adapters.container.client import Client
from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.course import Course
from trackbook.adapters.container.plan import Planner
from trackbook.adapters.container.records import Record
from trackbook.adapters.execution import folders
from trackbook.adapters.execution.code_archive import Copies
from trackbook.adapters.execution.reporter import Reporter
from trackbook.engine.job import ReportTaskStarted, ReportTaskStatus
from trackbook.engine.ports import Blobs, ReportSink, SessionSpec
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_START_HELD_BACK = 0.05
"""Seconds before a start is reported: a shorter task is told of once, at its end, and saves a commit."""
_MOST_BY_TCP = 40
"""Sessions at once on an engine that is not at a socket: each keeps two connections, of which there are 100."""
_TIDIES_WITHIN = 3.0
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
        self._setting = Setting(self._data, engine, installation, self._client, planner, log_limit, copies)
        self._reports = Reporter()
        self._queue: dict[str, SessionSpec] = {}
        self._running: dict[str, Course] = {}
        self._courses: set[asyncio.Task[None]] = set()
        self._tidying: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closing = False

    # The port ------------------------------------------------------------------------------------------------

    async def start(self, report: ReportSink) -> None:
        """Make ready; the engine is first asked when a session needs it."""
        self._reports.sink = report

    async def launch(self, spec: SessionSpec) -> None:
        """Run the session once a slot is free; adopt it, or report its end again, if it was launched before."""
        course = self._running.get(spec.session)
        if course:
            self._tell_start(course)
        elif spec.session not in self._queue and not self._reports.has_end(spec):
            self._look(spec)

    async def stop(self, spec: SessionSpec) -> None:
        """End the session's container; one whose command has not begun is taken, so that it never will."""
        failpoint("executor.stop.before")
        if self._reports.has_end(spec):
            return None
        self._queue.pop(spec.session, None)
        if spec.session not in self._running:
            if record := records.read(self._folder(spec)):
                return self._ended(self._course(spec), record)
            self._begin(spec)
        return await self._running[spec.session].stop()

    async def close(self, *, cancel: bool = False) -> None:
        """Let go of the sessions, or stop them all and wait until they are gone and reported (or the sink is)."""
        self._closing = True
        while cancel and (self._running or self._queue):
            self._changed.clear()
            for spec in [*self._queue.values(), *(course.spec for course in self._running.values())]:
                await self.stop(spec)
            if self._running:
                await self._changed.wait()
        self._queue.clear()
        await _end(self._courses, 0)
        await _end(self._tidying, _TIDIES_WITHIN)
        self._running.clear()
        await self._client.close()
        await self._reports.close(wait=self._setting.engine.grace if cancel else 0)

    # Where a session stands, and what follows ---------------------------------------------------------------

    def _folder(self, spec: SessionSpec) -> Path:
        return folders.session_folder(self._data, spec.session)

    def _look(self, spec: SessionSpec) -> None:
        """Report the session's end, go on with its container, or have it wait for a slot."""
        folder = self._folder(spec)
        if record := records.read(folder):
            self._ended(self._course(spec), record)
        elif records.read_note(folder):
            self._begin(spec)
        else:
            self._queue[spec.session] = spec
            self._pump()

    def _pump(self) -> None:
        """Begin what waits, as far as there are slots."""
        while self._queue and len(self._running) < self._limit and not self._closing:
            self._begin(self._queue.pop(next(iter(self._queue))))

    def _course(self, spec: SessionSpec) -> Course:
        def tell(status: str, message: str) -> None:
            self._reports.send(spec, ReportTaskStatus(spec.task, spec.attempt, status, message))

        def began() -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(_START_HELD_BACK, lambda: self._tell_start(self._running.get(spec.session)))

        return Course(spec, self._setting, tell, began)

    def _begin(self, spec: SessionSpec) -> None:
        course = self._running[spec.session] = self._course(spec)
        _do(self._carry(course), self._courses)

    async def _carry(self, course: Course) -> None:
        """Bring a session to its end, give its slot on, and report."""
        while True:
            try:
                record = await course.run()
                break
            except Exception:  # a full disk, say; whatever it is, the session must not be forgotten
                _log.exception("a session can't be brought to its end, trying again", session=course.spec.session)
            await asyncio.sleep(_AGAIN)
        del self._running[course.spec.session]
        self._ended(course, record)
        self._changed.set()
        self._pump()

    def _ended(self, course: Course, record: Record) -> None:
        log = folders.log_file(self._data, course.spec.session)
        self._reports.send_end(course.spec, records.report(course.spec, record, log))
        _do(course.tidy(), self._tidying)

    def _tell_start(self, course: Course | None) -> None:
        if course and course.started_at:
            spec = course.spec
            self._reports.send(spec, ReportTaskStarted(spec.task, spec.attempt, course.started_at))


def _do(what: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(what)
    among.add(task)
    task.add_done_callback(among.discard)


async def _end(tasks: set[asyncio.Task[None]], within: float) -> None:
    """Give tasks a time to end, then cancel them."""
    if tasks and within:
        await asyncio.wait(tasks, timeout=within)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
