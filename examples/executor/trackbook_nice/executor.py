"""The executor: launches attempts, watches their folders, reports how they end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from trackbook.adapters.execution import folders, result, tasks, variables
from trackbook.adapters.execution.back_off import BackOff
from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.adapters.execution.logs import tail
from trackbook.adapters.execution.outcome import verdict
from trackbook.adapters.execution.reporter import Reporter
from trackbook.engine.job import ReportTaskStarted
from trackbook.engine.ports import ReportSink, SessionSpec
from trackbook_nice import attempt_state
from trackbook_nice.attempt_state import Plan

_FIRST_LOOK, _LONGEST_PAUSE = 0.02, 0.5
"""Seconds between looks into the folder of an attempt that runs."""


class NiceExecutor:
    """Implements `trackbook.engine.ports.Executor`: `limit` attempts run at once, the others wait in order."""

    def __init__(self, data: Path, *, niceness: int, limit: int, grace: float) -> None:
        self._data = data.resolve()
        self._niceness, self._limit, self._grace = niceness, limit, grace
        self._reports = Reporter()
        self._waiting: dict[str, SessionSpec] = {}
        self._running: dict[str, SessionSpec] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, report: ReportSink) -> None:
        """Send reports to `report` from now on."""
        self._reports.sink = report

    async def launch(self, spec: SessionSpec) -> None:
        """Run the attempt once there is room; adopt it, or report its end again, if it was launched before."""
        if spec.session in self._running:
            self._report_start(spec)
        elif attempt_state.is_claimed(self._folder(spec)):
            self._follow(spec)
        elif spec.session not in self._waiting:
            self._waiting[spec.session] = spec
            self._launch_waiting()

    async def stop(self, spec: SessionSpec) -> None:
        """Stop the command; an attempt whose command has not begun is claimed, so that it never will."""
        folder = self._folder(spec)
        self._waiting.pop(spec.session, None)
        record = ExitRecord(ended_at=now(), stopped=True, message="stopped before it began")
        if (lock := attempt_state.claim(folder, record)) is None:
            attempt_state.ask_to_stop(folder)
        else:
            os.close(lock)
        self._follow(spec)

    async def close(self, *, cancel: bool = False) -> None:
        """Leave the sessions to the next executor; with `cancel`, stop them and wait until that is reported."""
        if cancel:
            for spec in [*self._waiting.values(), *self._running.values()]:
                await self.stop(spec)
            await asyncio.gather(*self._tasks)
        self._waiting.clear()
        await tasks.cancel(self._tasks)
        await self._reports.close(wait=self._grace if cancel else 0)

    def _folder(self, spec: SessionSpec) -> Path:
        return folders.session_folder(self._data, spec.session)

    def _launch_waiting(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            self._follow(self._waiting.pop(next(iter(self._waiting))))

    def _follow(self, spec: SessionSpec) -> None:
        """Bring an attempt to its end in the background, from wherever it is."""
        if spec.session not in self._running and not self._reports.has_end(spec):
            self._running[spec.session] = spec
            tasks.spawn(self._run(spec), self._tasks)

    async def _run(self, spec: SessionSpec) -> None:
        folder = self._folder(spec)
        record = attempt_state.read_record(folder)
        if record is None and not attempt_state.is_claimed(folder):
            record = await asyncio.to_thread(self._begin, spec, folder)
        if record is None:
            record = await self._watch(spec, folder)
        del self._running[spec.session]
        outputs = folders.outputs(self._data, spec)
        report = verdict(record).report(spec, lambda: tail(folder / "log"), result=lambda: result.read(outputs))
        self._reports.send_end(spec, report)
        self._launch_waiting()

    def _begin(self, spec: SessionSpec, folder: Path) -> ExitRecord | None:
        """Start the launcher, which has claimed the attempt when this returns; return why it can't be."""
        sources = folders.sources(spec).items()
        places = {name: folders.outputs(self._data, spec, source) for name, source in sources}
        places["outputs"] = folders.outputs(self._data, spec)
        environment = {f"PIPELINE_{name.upper()}": str(place) for name, place in places.items()}
        environment |= {"PATH": variables.PATH} | spec.variables | variables.of(spec)
        try:
            for path in (folder, *places.values()):
                path.mkdir(parents=True, exist_ok=True)
            attempt_state.write_plan(folder, Plan(spec.command, environment, self._niceness, self._grace))
            launcher = [sys.executable, "-m", "trackbook_nice.launcher", str(folder)]
            subprocess.run(launcher, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 - ours
        except (OSError, subprocess.CalledProcessError) as error:
            return ExitRecord(ended_at=now(), message=f"the session could not be launched: {error}")
        return None

    async def _watch(self, spec: SessionSpec, folder: Path) -> ExitRecord:
        """Return the exit record once there is one, or that of a lost attempt if its launcher died without it."""
        back_off, reported = BackOff(_FIRST_LOOK, _LONGEST_PAUSE), False
        while True:
            alive = attempt_state.has_launcher(folder)
            if record := attempt_state.read_record(folder):
                return record
            if not alive:
                words = "the launcher died before the command's end was known; it is not run again"
                return ExitRecord(
                    ended_at=now(), started_at=attempt_state.started_at(folder), lost=True, message=words
                )
            reported = reported or self._report_start(spec)
            await back_off.pause()

    def _report_start(self, spec: SessionSpec) -> bool:
        """Report that the command has begun; return whether it has."""
        at = attempt_state.started_at(self._folder(spec))
        if at:
            self._reports.send(spec, ReportTaskStarted(spec.task, spec.attempt, at))
        return at is not None
