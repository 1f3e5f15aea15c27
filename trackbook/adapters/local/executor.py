"""The local executor: sessions as processes of this machine, each beside a launcher of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from trackbook.adapters.execution import folders
from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.adapters.execution.reporter import Reporter
from trackbook.adapters.local import attempt_state, cleanup, outcome
from trackbook.adapters.local.code_copies import CodeCopies
from trackbook.adapters.local.plan import Planner
from trackbook.adapters.local.spawner import Spawner, SpawnerGone
from trackbook.engine.job import ReportTaskStarted
from trackbook.engine.ports import Blobs, ReportSink, SessionSpec
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_START_HELD_BACK = 0.05
"""Seconds before a start is reported: a shorter task is told of once, at its end, and saves a commit."""
_LAUNCHES = 4
"""How often a launcher may die before its claim until the session counts as failed."""
_LOOKS = 3
"""How often a session that dies between two looks is looked at in one go."""
_LOOK_AGAIN = 0.5
"""Seconds until a living session is looked at again that can't be watched: no descriptors are left, say."""


class _Running(msgspec.Struct):
    """A session that has a slot. `file` is its launcher's pipe, or its pidfd where it was adopted."""

    spec: SessionSpec
    folder: Path
    file: int = -1
    adopted: bool = False
    text: bytes = b""
    problem: str = ""
    started_at: datetime | None = None
    timer: asyncio.TimerHandle | None = None


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
        self._running: dict[str, _Running] = {}
        self._code_copies = CodeCopies(blobs, self._copied)
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
        self._signal(spec)

    async def close(self, *, cancel: bool = False) -> None:
        """Let go of the sessions, or stop them all and wait until they are gone and reported (or the sink is)."""
        self._closing = True
        if cancel:
            await self._stop_all()
        for running in self._running.values():
            self._unwatch(running)
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

    # Where a session stands, and what follows -----------------------------------------------------------------

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
                self._adopt(spec, folder, handle)
            elif state.name == "new":
                self._queue[spec.session] = spec
                self._launch_waiting()
            elif state.record:
                self._ended(spec, state.record)
            else:
                self._cleanups[spec.session] = asyncio.get_running_loop().create_task(
                    self._clean_up(spec, folder)
                )
            return
        _log.warning("a running session can't be watched yet, trying again", session=spec.session)
        asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again, spec)

    def _look_again(self, spec: SessionSpec) -> None:
        """Look at a living session that could not be watched, unless another look has settled it."""
        settled = spec.session in self._running or self._is_waiting(spec) or self._is_ending(spec)
        if not (self._closing or settled):
            self._look(spec, fresh=False)

    def _adopt(self, spec: SessionSpec, folder: Path, handle: int) -> None:
        running = _Running(
            spec, folder, handle, adopted=True, started_at=attempt_state.read_claim(folder).started_at
        )
        self._running[spec.session] = running
        asyncio.get_running_loop().add_reader(handle, self._launcher_ended, running)
        self._report_start(running)

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

    def _copied(self, spec: SessionSpec, problem: str) -> None:
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
        listen, speak = os.pipe()
        os.set_blocking(listen, False)
        try:
            self._spawner.send(folder, speak, plan)
        except BaseException:
            os.close(listen)
            raise
        finally:
            os.close(speak)
        running = self._running[spec.session] = _Running(spec, folder, listen)
        asyncio.get_running_loop().add_reader(listen, self._read_launcher, running)
        failpoint("executor.launch.spawned")

    def _spawner_ready(self) -> None:
        self._planner.private_root = self._spawner.offer.private_root
        self._planner.own_work = self._spawner.offer.own_work
        before, self.warnings = self.warnings, self._planner.warnings(self._spawner.offer.problem)
        for warning in self.warnings:
            if warning not in before:
                _log.warning(warning)
        for running in list(self._running.values()):
            if not running.adopted and not (running.folder / "claim").exists():
                self._unwatch(running)  # its request may lie unread in the socket of the spawner that died
                del self._running[running.spec.session]
                self._queue[running.spec.session] = running.spec
        self._launch_waiting()

    def _read_launcher(self, running: _Running) -> None:
        """Take what a launcher says. It only makes things quick: the truth is on the disk."""
        data = os.read(running.file, 65536)
        *lines, running.text = (running.text + data).split(b"\n")
        for line in lines:
            self._take_word(running, line[:1], line[1:].decode(errors="replace"))
        if not data or any(line[:1] in {b"E", b"T"} for line in lines):
            self._launcher_ended(running)

    def _take_word(self, running: _Running, kind: bytes, text: str) -> None:
        if kind == b"S":
            running.started_at = datetime.fromisoformat(text)
            loop = asyncio.get_running_loop()
            running.timer = loop.call_later(_START_HELD_BACK, self._report_start, running)
        elif kind == b"X":
            running.problem = text
        elif kind == b"D":
            _log.error(
                "a session's exit record can't be written, trying again", session=running.spec.session, why=text
            )

    def _launcher_ended(self, running: _Running) -> None:
        """The launcher has ended, or never came to be: give the slot on and see what it left."""
        spec = running.spec
        self._unwatch(running)
        del self._running[spec.session]
        state = attempt_state.examine(running.folder)
        if state.name == "new":
            self._try_again(spec, running.problem)
        else:
            self._attempts.pop(spec.session, None)
            self._look(spec, fresh=False)
        self._launch_waiting()
        self._idle.set()

    def _unwatch(self, running: _Running) -> None:
        asyncio.get_running_loop().remove_reader(running.file)
        os.close(running.file)
        if running.timer:
            running.timer.cancel()

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
                return self._signal(spec)
            else:
                return self._signal(spec)
        except OSError as error:  # a full disk: nothing ran, and the report says so
            _log.error("a session can't be claimed", session=spec.session, error=str(error))
        return self._ended(spec, record)

    def _signal(self, spec: SessionSpec) -> None:
        """Have a living launcher stop its session."""
        folder = self._folder(spec)
        attempt_state.mark(folder, "stop")
        state = attempt_state.examine(folder)
        handle = attempt_state.watch(folder, state.pid) if state.name == "alive" else None
        if handle is not None:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            os.close(handle)

    async def _clean_up(self, spec: SessionSpec, folder: Path) -> None:
        """Take down what a dead launcher left running, then record and report the session as lost."""
        killed = await asyncio.to_thread(cleanup.kill, spec.session)
        left = f", and {killed} processes that it left were killed" if killed else ""
        record = ExitRecord(
            ended_at=now(),
            started_at=attempt_state.read_claim(folder).started_at,
            lost=True,
            message=f"the session's launcher died before the command's end was known{left}; it is not run again",
        )
        try:
            attempt_state.leave_record(folder, record)
        except OSError as error:  # the claim alone says as much
            _log.error("a lost session can't be recorded", session=spec.session, error=str(error))
        self._ended(spec, record)
        del self._cleanups[spec.session]

    def _report_start(self, running: _Running) -> None:
        if running.started_at:
            spec = running.spec
            self._reports.send(spec, ReportTaskStarted(spec.task, spec.attempt, running.started_at))

    def _ended(self, spec: SessionSpec, record: ExitRecord) -> None:
        self._reports.send_end(spec, outcome.report(spec, record, self._folder(spec)))
        if spec.code:
            self._code_copies.remove(self._folder(spec))
