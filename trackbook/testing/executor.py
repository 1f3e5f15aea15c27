"""An executor without processes: what each session does is scripted, and every request is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from trackbook.engine.job import Outcome, Report, ReportTaskEnded, ReportTaskStarted
from trackbook.engine.ports import ReportSink, SessionSpec


class Play(Struct, frozen=True):
    """What a session does: ends at once as said, or runs until it is stopped or `finish` is called."""

    exit_code: int | None = 0
    signal: int | None = None
    outcome: Outcome | None = None
    message: str = ""
    tail: str = ""
    hold: bool = False
    silent: bool = False
    """Whether its start is left out of the reports, as an executor may for a short one."""
    service: dict[str, str] = {}
    """How what it serves is reached, as of a serving task."""
    result: Any = None
    """The JSON value that it leaves as its result."""


class _Session(Struct):
    spec: SessionSpec
    play: Play
    started_at: datetime | None = None
    end: ReportTaskEnded | None = None


class ScriptedExecutor:
    """Implements `trackbook.engine.ports.Executor` in memory.

    `script` says what a session does (default: it succeeds at once). Sessions outlive `close()`, and the next
    `start()` adopts them, as processes are adopted. `runs` counts how often each session's command ran.
    """

    def __init__(self, script: Callable[[SessionSpec], Play] = lambda _: Play(), *, limit: int = 1000) -> None:
        self._script = script
        self._limit = limit
        self._sink: ReportSink | None = None
        self._sessions: dict[str, _Session] = {}
        self._queue: dict[str, SessionSpec] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.launches: list[SessionSpec] = []
        self.stops: list[SessionSpec] = []
        self.runs: dict[str, int] = {}

    @property
    def live(self) -> set[str]:
        """The sessions that run now."""
        return {name for name, session in self._sessions.items() if session.end is None}

    async def start(self, report: ReportSink) -> None:
        """Send reports to `report` from now on."""
        self._sink = report

    async def launch(self, spec: SessionSpec) -> None:
        """Run the session as scripted; report again what is known of one that was launched before."""
        self.launches.append(spec)
        session = self._sessions.get(spec.session)
        if session is None:
            self._queue[spec.session] = spec
            self._pump()
        elif session.end:
            self._tell(spec.job, session.end)
        elif session.started_at and not session.play.silent:
            self._tell(spec.job, ReportTaskStarted(spec.task, spec.attempt, session.started_at))

    async def stop(self, spec: SessionSpec) -> None:
        """End the session as cancelled; one that was not launched never will be."""
        self.stops.append(spec)
        self._queue.pop(spec.session, None)
        session = self._sessions.setdefault(spec.session, _Session(spec, Play(hold=True)))
        if session.end is None:
            ran = session.started_at is not None
            self._end(
                session, Play(exit_code=None, signal=15 if ran else None, outcome="cancelled", message="stopped")
            )
        else:
            self._tell(spec.job, session.end)

    def finish(self, session: str, play: Play | None = None) -> None:
        """End a session that holds, as `play` says (default: it succeeds)."""
        held = self._sessions[session]
        if held.end is None:
            self._end(held, play or Play())

    async def close(self, *, cancel: bool = False) -> None:
        """Release the sessions, or end them all first."""
        if cancel:
            for spec in list(self._queue.values()):
                await self.stop(spec)
            for session in list(self._sessions.values()):
                if session.end is None:
                    await self.stop(session.spec)
            await asyncio.gather(*self._tasks)
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sink = None

    def _pump(self) -> None:
        while self._queue and len(self.live) < self._limit:
            spec = self._queue.pop(next(iter(self._queue)))
            play = self._script(spec)
            session = self._sessions[spec.session] = _Session(spec, play, datetime.now(UTC))
            self.runs[spec.session] = self.runs.get(spec.session, 0) + 1
            if not play.silent and session.started_at:
                self._tell(spec.job, ReportTaskStarted(spec.task, spec.attempt, session.started_at))
            if not play.hold:
                self._end(session, play)

    def _end(self, session: _Session, play: Play) -> None:
        spec = session.spec
        outcome = play.outcome or ("succeeded" if play.exit_code == 0 else "failed")
        message = play.message
        if outcome == "failed" and not message:
            message = f"the command ended with exit code {play.exit_code}"
        session.end = ReportTaskEnded(
            spec.task,
            spec.attempt,
            outcome,
            datetime.now(UTC),
            session.started_at,
            play.exit_code,
            play.signal,
            message,
            play.tail,
            service=play.service,
            result=play.result,
        )
        self._tell(spec.job, session.end)
        self._pump()

    def _tell(self, job: str, report: Report) -> None:
        task = asyncio.get_running_loop().create_task(self._repeat(job, report))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repeat(self, job: str, report: Report) -> None:
        pause = 0.001
        while self._sink:
            try:
                return await self._sink(job, report)
            except Exception:
                await asyncio.sleep(pause)
                pause = min(1.0, pause * 2)
        return None
