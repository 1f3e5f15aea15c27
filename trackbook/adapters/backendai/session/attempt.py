"""One attempt's session from its launch to its reported end."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import structlog
from msgspec.structs import replace

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.api.storage import Item
from trackbook.adapters.backendai.session import deadlines, exit_record, observation
from trackbook.adapters.backendai.session.command_stop import LOOK_EVERY, CommandStop
from trackbook.adapters.backendai.session.context import ExecutorContext
from trackbook.adapters.backendai.session.deadlines import Clocks
from trackbook.adapters.backendai.session.exit_artifacts import ExitArtifacts
from trackbook.adapters.backendai.session.launch import Launched, SessionLauncher
from trackbook.adapters.backendai.session.observation import Observation
from trackbook.adapters.backendai.session.output import Output
from trackbook.adapters.execution import logs
from trackbook.adapters.execution.back_off import BackOff, wait
from trackbook.adapters.execution.outcome import Verdict
from trackbook.adapters.execution.tasks import until_done
from trackbook.engine.job import ReportTaskStarted, ReportTaskStatus
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0
_AGAIN = 5.0
UNREACHABLE = "UNREACHABLE"
"""The status of a session whose manager does not answer, or not to us; it may well run on."""
_FENCED_WITHIN = 5.0


class Attempt:
    """Implements `watch.Watched`; `run` returns once the end is known, noted and handed to the reporter."""

    def __init__(self, spec: SessionSpec, context: ExecutorContext, *, fresh: bool) -> None:
        self.spec = spec
        self.id = ""
        self._context = context
        self._launcher = SessionLauncher(spec, context, fresh=fresh)
        self._artifacts = ExitArtifacts(spec, context)
        self._observed = Observation()
        self._clocks = Clocks(context.cluster, asyncio.get_running_loop().time())
        self._verdict: Verdict | None = None
        self._wake = asyncio.Event()
        self._reported: tuple[str, str] = ("", "")
        self._started: ReportTaskStarted | None = None
        self._command_ended = False
        self._missed = 0
        self._stop = CommandStop(spec, context.pipeline_folders, context.cluster.stop_timeout)
        self._ending: asyncio.Task[Session | None] | None = None
        self._fencing: asyncio.Task[None] | None = None
        self._began_anyway = False
        self._output = Output(context.attempt_states.log(spec), self._artifacts.read_output)
        self._copying: asyncio.Task[None] | None = None

    # What is seen -------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the command can be running."""
        return self._observed.running

    @property
    def may_have_begun(self) -> bool:
        """Whether the command may have begun: a busy 23.09 says PREPARING of sessions that run, even for good."""
        session = self._observed.session
        return session is not None and not session.final and session.status not in ("PENDING", "SCHEDULED")

    def observe(self, session: Session | None) -> None:
        """Take what the manager says; that it knows no such session counts when it says so twice."""
        if session is None:
            self._missed += 1
            self._observed = replace(self._observed, gone=self._missed > 1)
        else:
            self._missed = 0
            self._observed = observation.with_session(self._observed, session)
            self._clocks.observe(session, asyncio.get_running_loop().time())
            self._report_session(self._observed.session or session)
        self._wake.set()

    def observe_records(self, found: dict[str, Item]) -> bool:
        """Look for an exit record that came unheard, for the heartbeat, and for output."""
        name, now = exit_record.name(self.spec), asyncio.get_running_loop().time()
        heartbeat, output = found.get(f"{name}.alive"), found.get(f"{name}.log")
        self._clocks.note_listing(heartbeat, now)
        if f"{name}.exit" in found:
            self.look_for_end()
            return False
        if output and output.size != self._output.offset:
            self.copy_output()
        return self._clocks.wants_reading(heartbeat, now)

    async def read_records(self) -> None:
        """Read by their paths the heartbeat, and whether there is an exit record. Raises ClusterError."""
        heartbeat = await self._context.pipeline_folders.read(self.spec, "alive")
        if await self._context.pipeline_folders.read(self.spec, "exit", 0, 1) is not None:
            self.look_for_end()
        self._clocks.read(heartbeat, asyncio.get_running_loop().time())

    def report_unreachable(self, why: str) -> None:
        """Report that nobody can say how the session is; what is seen of it next is reported again."""
        if self._verdict is None:
            self._report_status(UNREACHABLE, why)

    def look_for_end(self) -> None:
        """Look for the exit record."""
        self._command_ended = True
        self._wake.set()

    def copy_output(self) -> None:
        """Copy what the command has written since, in the background, unless the end is known: that copies it."""
        if self._verdict is None and self.running and (self._copying is None or self._copying.done()):
            self._copying = asyncio.create_task(self._copy_output())

    def follow_output(self) -> None:
        """Copy the output if somebody reads it."""
        if logs.is_wanted(self._context.attempt_states.log(self.spec)):
            self.copy_output()

    async def _copy_output(self) -> None:
        with contextlib.suppress(ClusterError):
            await self._output.catch_up()

    def request_end(self) -> None:
        """Have the session ended."""
        self._want_end(replace(self._observed, asked=True))

    def report_start_again(self) -> None:
        """Report the start once more."""
        if self._started:
            self._context.reports.send(self.spec, self._started)

    def _want_end(self, observed: Observation) -> None:
        """Take up that the session is to be ended."""
        if observed != self._observed:
            self._observed = observed
            self._clocks.note_end_wanted(asyncio.get_running_loop().time())
            self._wake.set()

    def _report_session(self, session: Session) -> None:
        if session.final:
            return
        self._report_status(*observation.status_and_why(session))
        if self._observed.running and self._started is None and not self._observed.fenced:
            at = session.history.get("RUNNING")
            began = datetime.fromisoformat(at).astimezone(UTC) if at else datetime.now(UTC)
            self._started = ReportTaskStarted(self.spec.task, self.spec.attempt, began)
            self.report_start_again()
            logs.offer(self._context.attempt_states.log(self.spec))

    def _report_status(self, status: str, why: str) -> None:
        if (status, why) != self._reported:
            self._reported = (status, why)
            link = self._context.cluster.session_link(self.id) if self.id else ""
            report = ReportTaskStatus(self.spec.task, self.spec.attempt, status, why, link)
            self._context.reports.send(self.spec, report)

    # From the launch to the end -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Make or find the session, watch it, and report its end; whatever goes wrong here is tried again."""
        await until_done(self._run, self._failed, _AGAIN)

    async def _run(self) -> None:
        try:
            if self.id:
                self._context.watch.add(self)
            elif self._verdict is None and self._observed == Observation(asked=self._observed.asked):
                await self._place()
            await self._follow()
            await self._conclude()
        finally:
            self._stop.cancel()
            self._context.watch.remove(self.id)

    def _failed(self) -> None:
        _log.exception("a session can't be followed, trying again", session=self.spec.session)

    async def _place(self) -> None:
        """Have a session, or know why there is none."""
        began, back_off = asyncio.get_running_loop().time(), BackOff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            self._wake.clear()
            try:
                if self._observed.asked:
                    return self._take(await self._launcher.withdraw())
                return self._take(await self._launcher.launch(lambda: self._observed.asked))
            except ClusterError as error:
                tried = asyncio.get_running_loop().time() - began
                if tried > self._context.cluster.unreachable_timeout:
                    self._verdict = (
                        None if self._observed.asked else observation.refusal_verdict(error, after=tried)
                    )
                    self._observed = replace(self._observed, given_up=str(error))
                    return None
                self._report_status(self._reported[0], str(error))
            except ValueError as error:
                self._verdict = Verdict("failed", f"the session could not be made: {error}", "permanent")
                return None
            await back_off.pause(self._wake)

    def _take(self, launched: Launched) -> None:
        self._verdict = launched.verdict
        if launched.observed:
            self._observed = replace(
                launched.observed, asked=self._observed.asked, because=self._observed.because
            )
        if launched.id:
            self.id = launched.id
            if self._observed.session:
                self.observe(self._observed.session)
            self._context.watch.add(self)

    async def _follow(self) -> None:
        """Wait until the end is known."""
        while self._verdict is None:
            self._wake.clear()
            if self._observed.record is None and (self._command_ended or self._observed.ended):
                await self._look()
            self._verdict = observation.verdict(self._observed)
            if self._verdict is not None:
                return
            now = asyncio.get_running_loop().time()
            self._want_end(deadlines.apply(self._observed, self._clocks, self._context.watch.away, now))
            if self.id and (self._observed.asked or self._observed.because):
                self._end_session()
            if not self._wake.is_set():
                tick = self._clocks.tick
                await wait(self._wake, min(LOOK_EVERY, tick) if self._stop.waits else tick)

    async def _look(self) -> None:
        """Look for what the session has left, and for the one that claimed the attempt if that is another."""
        self._command_ended = False
        seen = await self._artifacts.look(self._observed)
        self._observed = replace(
            self._observed,
            record=seen.record,
            claim=seen.claim,
            no_record=seen.no_record,
            folder_removed=seen.folder_removed,
        )
        self._command_ended = self._command_ended or self._artifacts.unread
        claim = self._observed.claim
        if self._observed.record is None and claim and claim.session and claim.session != self.id:
            other = await self._launcher.find_other(claim.session)
            if other and other.observed and other.observed.session and not other.observed.session.final:
                self._launcher.unsure = True
                self._context.watch.remove(self.id)
                self._take(other)

    def _end_session(self) -> None:
        """Have the session ended, and keep its command from beginning where it has not begun.

        A command that runs is stopped first, so that it can save its work; one that is silent can't be.
        """
        if self.running and not self._observed.silent and self._ending is None:
            self._stop.begin(self._wake)
        if self._stop.waits:
            self._command_ended = True  # look for its record
            return
        if self._ending is None or self._ending.done():
            self._ending = self._context.terminator.end(self.id, begun=self._began_anyway)
            self._ending.add_done_callback(self._session_ended)
        if self._fencing is None and not self.running and not self._observed.claim:
            self._fencing = asyncio.create_task(self._fence())

    async def _keep_from_returning(self) -> None:
        """See to it that a session which was ended before it began runs nothing, even if it begins still."""
        session = self._observed.session
        if session is None or not session.final or self._observed.has_run or self._observed.record:
            return
        self._context.terminator.guard(session)
        if self._fencing is None and not self._observed.fenced and not self._observed.claim:
            self._fencing = asyncio.create_task(self._fence())
        if self._fencing:
            await asyncio.wait([self._fencing], timeout=_FENCED_WITHIN)

    async def _fence(self) -> None:
        with contextlib.suppress(ClusterError):
            if await self._context.pipeline_folders.claim(self.spec):
                self._observed = replace(self._observed, fenced=True)
                self._wake.set()
            else:
                self._began_anyway = True
                if not self._observed.ended:
                    self._context.terminator.end(self.id, begun=True)

    def _session_ended(self, task: asyncio.Task[Session | None]) -> None:
        if task.cancelled() or task.exception():
            return
        if task.result() is None:
            self._missed += 1
        self.observe(task.result())

    # The end -------------------------------------------------------------------------------------------------

    async def _conclude(self) -> None:
        verdict = self._verdict
        assert verdict is not None
        await self._keep_from_returning()
        if self._copying:
            self._copying.cancel()
            await asyncio.gather(self._copying, return_exceptions=True)
        if self._fencing:  # what was cancelled while it was being scheduled may start after all (23.09)
            await asyncio.wait({self._fencing}, timeout=self._context.cluster.stop_timeout)
        if self._began_anyway and verdict.outcome == "failed":
            verdict = Verdict("lost", f"{verdict.message}; its command began all the same", "infrastructure")
        await self._artifacts.complete(self._output, self._observed)
        left = await self._artifacts.result(self._observed.record)
        report = verdict.report(self.spec, self._output.tail, result=lambda: left)
        if self._observed.record and self._observed.record.lacks_code:
            self._context.archives.was_bad(self.spec)
        self._context.reports.send_end(self.spec, self._context.attempt_states.note_end(self.spec, report))
        if self.id and not self._observed.ended:
            begun = self._observed.record is not None or self._began_anyway
            self._context.terminator.end(self.id, patience=not self._observed.given_up, begun=begun)
        if self._launcher.unsure or (self._observed.given_up and not self.id):
            self._context.terminator.end_named(self._launcher.name, by=self._context.cluster.unreachable_timeout)
