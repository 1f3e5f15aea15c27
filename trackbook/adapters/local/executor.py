"""The local executor: sessions as processes of this machine, each beside a launcher of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from trackbook.adapters.execution import folders
from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.adapters.execution.reporter import Reporter
from trackbook.adapters.local import attempt_state, cleanup, outcome
from trackbook.adapters.local.attempt import Attempt
from trackbook.adapters.local.code_copies import CodeCopies
from trackbook.adapters.local.plan import Planner
from trackbook.adapters.local.spawner import Spawner, SpawnerGone
from trackbook.adapters.local.terminator import terminate
from trackbook.engine.job import ReportTaskStarted
from trackbook.engine.ports import Blobs, ReportSink, SessionSpec
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_LAUNCHES = 4
"""How often a launcher may die before its claim until the session counts as failed."""
_LOOKS = 3
"""How often a session that dies between two looks is looked at in one go."""
_LOOK_AGAIN = 0.5
"""Seconds until a living session is looked at again that can't be watched: no descriptors are left, say."""


class LocalExecutor:
    """Implements `trackbook.engine.ports.Executor`.

    `limit` sessions run at once (default: twice the cores), the others wait in the order of their launch. `grace`
    is the seconds between TERM and KILL. `pass_environment` names variables of the server that tasks see; they
    see no others. `durable=False` saves the claim's fsync, and a session may then run twice after a power cut.
    `blobs` has the archives of code.
    """

    def __init__(
        self,
        data: Path,
        *,
        limit: int | None = None,
        grace: float = 5.0,
        pass_environment: Sequence[str] = (),
        log_limit: int = 16 * 2**20,
        durable: bool = True,
        blobs: Blobs | None = None,
    ) -> None:
        self._data = data.resolve()
        self._limit = limit or 2 * (os.cpu_count() or 1)
        self._grace = grace
        self._planner = Planner(self._data, grace, log_limit, durable, pass_environment)
        self._spawner = Spawner(self._limit, self._spawner_ready, self._launch_waiting)
        self._reports = Reporter()
        self._queue: dict[str, SessionSpec] = {}
        self._running: dict[str, Attempt] = {}
        self._code_copies = CodeCopies(blobs, self._on_code_copied)
        self._attempts: dict[str, int] = {}
        self._cleanups: dict[str, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()
        self._closing = False
        self._ignore_claim = "no-claim" in os.environ.get("TRACKBOOK_UNSAFE", "").split(",")
        self.warnings: list[str] = []

    @property
    def use_private_root(self) -> bool:
        """Whether a private root is tried for; set before `start`."""
        return self._spawner.private

    @use_private_root.setter
    def use_private_root(self, use: bool) -> None:
        self._spawner.private = use

    @property
    def private_root(self) -> bool:
        """Whether sessions have `/pipeline` at that very path."""
        return self._spawner.offer.private_root

    @property
    def shell(self) -> str:
        """The shell that runs commands."""
        return self._planner.shell

    @property
    def spawner_pid(self) -> int:
        """The process id of the spawner, 0 while there is none."""
        return self._spawner.pid

    def log_path(self, session: str) -> Path:
        """Return the file with a session's output. Raises ValueError for what is no session's name."""
        return folders.log_file(self._data, session)

    def outputs_dir(self, spec: SessionSpec) -> Path:
        """Return the folder that the session sees as /pipeline/outputs."""
        return folders.outputs(self._data, spec)

    # The port ------------------------------------------------------------------------------------------------

    async def start(self, report: ReportSink) -> None:
        """Start the spawner; raises RuntimeError if that fails. Launching what ran before adopts it."""
        self._reports.sink = report
        (self._data / "sessions").mkdir(parents=True, exist_ok=True)
        await self._spawner.start()

    async def launch(self, spec: SessionSpec) -> None:
        """Run the session once a slot is free; adopt it, or report its end again, if it was launched before."""
        running = self._running.get(spec.session)
        if running:
            self._report_start(running)
        elif not (self._is_waiting(spec) or self._is_ending(spec)):
            self._look(spec, fresh=self._is_new(spec))

    async def stop(self, spec: SessionSpec) -> None:
        """End the session and everything in it; one that has not begun is claimed, so that it never will."""
        failpoint("executor.stop.before")
        if self._is_ending(spec):
            return
        waited = self._queue.pop(spec.session, None) or self._code_copies.drop(spec.session)
        if waited or not self._folder(spec).joinpath("claim").exists():
            self._withdraw(spec, ExitRecord(ended_at=now(), stopped=True, message="stopped before it began"))
            return
        if spec.session not in self._running:
            self._look(spec, fresh=False)
        terminate(self._folder(spec))

    async def close(self, *, cancel: bool = False) -> None:
        """Release the sessions, or stop them all and wait until they are gone and reported (or the sink is)."""
        self._closing = True
        if cancel:
            await self._stop_all()
        for running in self._running.values():
            running.unwatch()
        self._running.clear()
        self._queue.clear()
        await self._code_copies.close()
        await self._spawner.close()
        await asyncio.gather(*self._cleanups.values(), return_exceptions=True)
        await self._reports.close(wait=self._grace if cancel else 0)

    async def _stop_all(self) -> None:
        while self._running or self._queue or self._code_copies:
            self._idle.clear()
            running = [each.spec for each in self._running.values()]
            for spec in [*self._queue.values(), *self._code_copies, *running]:
                await self.stop(spec)
            if self._running:
                await self._idle.wait()

    # The state of attempts, and what follows ------------------------------------------------------------------

    def _folder(self, spec: SessionSpec) -> Path:
        return folders.session_folder(self._data, spec.session)

    def _is_waiting(self, spec: SessionSpec) -> bool:
        """Whether the session waits for a slot, or has one and waits for its code."""
        return spec.session in self._queue or spec.session in self._code_copies

    def _is_ending(self, spec: SessionSpec) -> bool:
        """Whether the session's end is known and on its way to the engine."""
        return spec.session in self._cleanups or self._reports.has_end(spec)

    def _is_new(self, spec: SessionSpec) -> bool:
        """Whether the session was never seen on this disk: making its folder tells, and saves looking into it."""
        try:
            self._folder(spec).mkdir()
        except FileExistsError:
            return self._ignore_claim
        except OSError:  # a full disk, say: nothing is there, and beginning the session will tell
            return True
        return True

    def _look(self, spec: SessionSpec, *, fresh: bool) -> None:
        """Do what the session's folder asks for."""
        folder = self._folder(spec)
        for _ in range(_LOOKS):
            state = attempt_state.State("new") if fresh else attempt_state.examine(folder)
            if state.name == "alive":
                attempt_state.mark(
                    folder, "adopted"
                )  # from now on its launcher ends with the session, which is all we see
                handle = attempt_state.watch(folder, state.pid)
                if handle is None:
                    continue  # it died between the two looks: look again
                self._report_start(self._watch(spec, handle, adopted=True))
            elif state.name == "new":
                self._queue[spec.session] = spec
                self._launch_waiting()
            elif state.name == "ended" and state.record:
                self._finish(spec, state.record)
            else:
                cleaning = self._clean_up(spec, state.record)
                self._cleanups[spec.session] = asyncio.get_running_loop().create_task(cleaning)
            return
        _log.warning("a running session can't be watched yet, trying again", session=spec.session)
        asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again, spec)

    def _look_again(self, spec: SessionSpec) -> None:
        """Look at a living session that could not be watched, unless another look has settled it."""
        settled = spec.session in self._running or self._is_waiting(spec) or self._is_ending(spec)
        if not (self._closing or settled):
            self._look(spec, fresh=False)

    def _launch_waiting(self) -> None:
        """Begin what waits, as far as there are slots."""
        while self._queue and self._has_slot() and self._spawner.ready and not self._closing:
            spec = self._queue.pop(next(iter(self._queue)))
            if spec.code:
                self._code_copies.begin(spec, self._folder(spec))
            elif not self._try_begin(spec):
                return

    def _has_slot(self) -> bool:
        return len(self._running) + len(self._code_copies) < self._limit

    def _on_code_copied(self, spec: SessionSpec, problem: str) -> None:
        """Begin a session that has its copy of the code, or end it where it can't have one."""
        if problem:
            self._withdraw(spec, ExitRecord(ended_at=now(), message=problem))
        elif self._spawner.ready:
            self._try_begin(spec)
        else:
            self._queue = {spec.session: spec} | self._queue
        self._launch_waiting()
        self._idle.set()

    def _try_begin(self, spec: SessionSpec) -> bool:
        """Begin a session, or end one that can't be; False where it waits for another spawner."""
        try:
            self._begin(spec)
        except SpawnerGone:
            self._queue = {spec.session: spec} | self._queue
            return False
        except (ValueError, OSError) as error:
            message = f"the session could not be set up: {error}"
            self._withdraw(spec, ExitRecord(ended_at=now(), message=message))
        return True

    def _begin(self, spec: SessionSpec) -> None:
        failpoint("executor.launch.before_spawn")
        folder = self._folder(spec)
        plan = self._planner.plan(spec)
        attempt_state.write(folder / "spec.json", msgspec.json.encode(spec))
        self._watch(spec, self._spawner.launch(folder, plan))
        failpoint("executor.launch.spawned")

    def _watch(self, spec: SessionSpec, file: int, *, adopted: bool = False) -> Attempt:
        folder = self._folder(spec)
        attempt = Attempt(spec, folder, file, self._report_start, self._on_launcher_ended, adopted=adopted)
        self._running[spec.session] = attempt
        return attempt

    def _spawner_ready(self) -> None:
        self._planner.private_root = self._spawner.offer.private_root
        self._planner.own_work = self._spawner.offer.own_work
        before, self.warnings = self.warnings, self._planner.warnings(self._spawner.offer.problem)
        for warning in self.warnings:
            if warning not in before:
                _log.warning(warning)
        for running in list(self._running.values()):
            if not running.adopted and not (running.folder / "claim").exists():
                running.unwatch()  # its request may lie unread in the socket of the spawner that died
                del self._running[running.spec.session]
                self._queue[running.spec.session] = running.spec
        self._launch_waiting()

    def _on_launcher_ended(self, attempt: Attempt) -> None:
        """The launcher has ended, or never came to be: give the slot on and see what it left."""
        spec = attempt.spec
        del self._running[spec.session]
        state = attempt_state.examine(attempt.folder)
        if state.name == "new":
            self._try_again(spec, attempt.problem)
        else:
            self._attempts.pop(spec.session, None)
            self._look(spec, fresh=False)
        self._launch_waiting()
        self._idle.set()

    def _try_again(self, spec: SessionSpec, problem: str) -> None:
        """No claim: nothing ran. The spawner died, say, or no process could be had; not for ever, though."""
        self._attempts[spec.session] = tries = self._attempts.get(spec.session, 0) + 1
        if tries < _LAUNCHES:
            self._queue[spec.session] = spec
            return
        del self._attempts[spec.session]
        message = f"the session could not be launched in {tries} tries: {problem or 'its launcher died'}"
        self._withdraw(spec, ExitRecord(ended_at=now(), message=message))

    def _withdraw(self, spec: SessionSpec, record: ExitRecord) -> None:
        """End a session that has not begun; if a launcher was quicker, look after that one."""
        folder = self._folder(spec)
        try:
            if attempt_state.withdraw(folder, record):
                failpoint("executor.withdraw.claimed")
            elif spec.session not in self._running:
                self._look(spec, fresh=False)
                return terminate(self._folder(spec))
            else:
                return terminate(self._folder(spec))
        except OSError as error:  # a full disk: nothing ran, and the report says so
            _log.error("a session can't be claimed", session=spec.session, error=str(error))
        return self._finish(spec, record)

    async def _clean_up(self, spec: SessionSpec, record: ExitRecord | None) -> None:
        """Clean up after a lost attempt, and report it as lost."""
        self._finish(spec, await cleanup.clean_up(spec.session, self._folder(spec), record))
        del self._cleanups[spec.session]

    def _report_start(self, attempt: Attempt) -> None:
        if attempt.started_at:
            spec = attempt.spec
            self._reports.send(spec, ReportTaskStarted(spec.task, spec.attempt, attempt.started_at))

    def _finish(self, spec: SessionSpec, record: ExitRecord) -> None:
        report = outcome.report(spec, record, self._folder(spec), self.outputs_dir(spec))
        self._reports.send_end(spec, report)
        if spec.code:
            self._code_copies.remove(self._folder(spec))
