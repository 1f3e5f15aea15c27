"""One attempt's session from its launch to its reported end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog
from msgspec.structs import replace

from trackbook.adapters.backendai import api, names, observe, plan, record
from trackbook.adapters.backendai.api import Session
from trackbook.adapters.backendai.ending import Undertaker
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.link import Link
from trackbook.adapters.backendai.notes import Notes
from trackbook.adapters.backendai.observe import Known, Verdict
from trackbook.adapters.backendai.output import Output
from trackbook.adapters.backendai.shelf import Shelf
from trackbook.adapters.backendai.storage import Item
from trackbook.adapters.backendai.watch import Watch
from trackbook.adapters.sessions.reporter import Reporter
from trackbook.engine.job import ReportTaskEnded, ReportTaskStarted, ReportTaskStatus
from trackbook.engine.ports import SessionSpec
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0
_RECORD_LOOKS = (0.0, 0.3, 1.0, 3.0)
"""Seconds between looks for a record that ought to be there: a file of another host may be seen late."""


class Parts:
    """What the attempts of an executor share."""

    def __init__(
        self, link: Link, shelf: Shelf, watch: Watch, notes: Notes, reports: Reporter, undertaker: Undertaker
    ) -> None:
        self.link = link
        self.shelf = shelf
        self.watch = watch
        self.notes = notes
        self.reports = reports
        self.undertaker = undertaker


class Attempt:
    """Implements `watch.Watched`; `run` returns once the end is known, noted and handed to the reporter."""

    def __init__(self, spec: SessionSpec, parts: Parts, *, fresh: bool) -> None:
        self.spec = spec
        self.id = ""
        self.pipeline = spec.pipeline
        self.job = spec.job
        self._parts = parts
        self._cluster = parts.link.cluster
        self._fresh = fresh
        self._posted = False
        self._known = Known()
        self._verdict: Verdict | None = None
        self._wake = asyncio.Event()
        self._told: tuple[str, str] = ("", "")
        self._started: ReportTaskStarted | None = None
        self._command_ended = False
        self._looked = 0
        self._began = asyncio.get_running_loop().time()
        self._asked_at = 0.0
        self._alive: tuple[Item | None, float] = (None, self._began)
        self._alive_at = self._began
        self.output = Output(parts.notes.log(spec), self._read_log)

    # What is seen -------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the command can be running."""
        return self._known.running

    def saw(self, session: Session | None) -> None:
        """Take what the manager says."""
        if session is None:
            self._known = replace(self._known, gone=True)
        else:
            self._known = observe.with_session(self._known, session)
            self._tell(self._known.session or session)
        self._wake.set()

    def saw_records(self, found: dict[str, Item]) -> None:
        """Look for an exit record that came unheard, and for the sign of life."""
        name = record.name(self.spec)
        now = asyncio.get_running_loop().time()
        alive = found.get(f"{name}.alive")
        if alive != self._alive[0]:
            self._alive = (alive, now)
        self._alive_at = now
        if f"{name}.exit" in found:
            self.command_ended()

    def command_ended(self) -> None:
        """Look for the exit record."""
        self._command_ended = True
        self._wake.set()

    def ask(self) -> None:
        """Have the session ended."""
        if not self._known.asked:
            self._asked_at = asyncio.get_running_loop().time()
            self._known = replace(self._known, asked=True)
            self._wake.set()

    def tell_again(self) -> None:
        """Report the start once more."""
        if self._started:
            self._parts.reports.send(self.spec, self._started)

    def _tell(self, session: Session) -> None:
        if session.final:
            return
        told = observe.status_and_why(session)
        if told != self._told:
            self._told = told
            self._parts.reports.send(self.spec, ReportTaskStatus(self.spec.task, self.spec.attempt, *told))
        if self._known.running and self._started is None and not self._known.fenced:
            at = session.history.get("RUNNING")
            began = datetime.fromisoformat(at) if at else datetime.now(UTC)
            self._started = ReportTaskStarted(self.spec.task, self.spec.attempt, began.astimezone(UTC))
            self.tell_again()

    # From the launch to the end -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Make or find the session, watch it, and report its end."""
        try:
            await self._place()
            if self._verdict is None:
                await self._follow()
            await self._conclude()
        finally:
            self._parts.watch.remove(self.id)

    async def _place(self) -> None:
        """Have a session, or know why there is none."""
        tries = _Tries(self._cluster.unreachable_timeout)
        look = not self._fresh
        while True:
            try:
                if self._known.asked:
                    return await self._withdraw(look)
                if look and await self._find():
                    return None
                look = False
                return await self._create()
            except ClusterError as error:
                look = look or self._posted
                if error.kind == "permanent" or tries.over:
                    self._verdict = observe.refused(error, after=tries.seconds)
                    return None
                self._say(str(error))
            except ValueError as error:
                self._verdict = Verdict("failed", f"the session could not be made: {error}", "permanent")
                return None
            await self._pause(tries.pause())

    async def _create(self) -> None:
        spec, link = self.spec, self._parts.link
        startup, command = plan.startup(spec)
        version = await link.version()
        new = plan.new_session(spec, self._cluster, link.installation, version, startup)
        await self._parts.shelf.prepare(spec.pipeline, plan.needed(spec))
        if command:
            await self._parts.shelf.write(spec, "command", command)
        failpoint("executor.launch.before_spawn")
        if self._known.asked:
            return await self._withdraw(look=self._posted)
        try:
            self._posted = True
            id = await api.create_session(link.client, new)  # noqa: A001
        except ClusterError as error:
            if error.existing_session:
                return await self._adopt_existing(error.existing_session)
            if error.kind != "unknown":
                self._posted = not self._fresh
            raise
        failpoint("executor.launch.spawned")
        self._use(id)
        return None

    async def _adopt_existing(self, id: str) -> None:  # noqa: A002
        found = await self._parts.link.by_id.read(id)
        if found:
            self._adopt(found)
        else:
            message = "it says that there is a session of this name, which it doesn't know"
            raise ClusterError(self._cluster.name, "unknown", "no-session", message)

    async def _find(self) -> bool:
        """Look for a session, or what one has left; whether there was anything."""
        link = self._parts.link
        found = await link.by_name.read(names.session(link.installation, self.spec.session))
        if found:
            self._adopt(found)
            return True
        await self._look_for_record()
        if self._known.record is None:
            left = await self._parts.shelf.records(self.spec.pipeline, self.spec.job)
            if f"{record.name(self.spec)}.claim" not in left:
                return False
            self._known = replace(self._known, gone=True, no_record=True)
        return True

    def _adopt(self, found: list[Session]) -> None:
        """Take the session that runs, or the latest."""
        found = sorted(found, key=lambda each: each.final)
        if not plan.is_ours(found[0].tag, self.spec):
            message = "the cluster has a session of this name already, which was made for something else"
            self._verdict = Verdict("failed", message, "permanent")
            return
        self._use(found[0].id)
        self.saw(found[0])

    def _use(self, id: str) -> None:  # noqa: A002
        self.id = id
        self._parts.watch.add(self)

    async def _withdraw(self, look: bool) -> None:
        """See to it that the session will never run where there is none yet."""
        if look and await self._find():
            return
        if look:
            self._known = replace(self._known, fenced=await self._parts.shelf.claim(self.spec))
            if not self._known.fenced:
                self._known = replace(self._known, gone=True, no_record=True)
                await self._look_for_record()
        else:
            self._known = replace(self._known, fenced=True)
        failpoint("executor.withdraw.claimed")

    # Watching ------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Wait until the end is known."""
        while True:
            self._wake.clear()
            if self._known.record is None and (self._command_ended or self._known.ended):
                await self._look_for_record()
            self._verdict = observe.verdict(self._known)
            if self._verdict is not None:
                return
            if self.id and (self._known.asked or self._known.because):
                self._end_session()
            await self._pause(self._deadlines())

    async def _look_for_record(self) -> None:
        self._command_ended = False
        try:
            data = await self._parts.shelf.read(self.spec, "exit")
        except ClusterError as error:
            _log.debug("an exit record can't be read", session=self.spec.session, why=str(error))
            self._command_ended = True
            return
        if data is not None:
            self._known = replace(self._known, record=record.read_record(data))
        elif self._known.ended:
            self._known = replace(self._known, no_record=True)

    def _end_session(self) -> None:
        self._parts.undertaker.end(self.id).add_done_callback(self._session_ended)

    def _session_ended(self, task: asyncio.Task[Session | None]) -> None:
        if not task.cancelled():
            self.saw(task.result())

    def _deadlines(self) -> float:
        """Act on what took too long; return in how many seconds to look again."""
        return 5.0

    def _say(self, why: str) -> None:
        told = (self._told[0], why)
        if told != self._told:
            self._told = told
            self._parts.reports.send(self.spec, ReportTaskStatus(self.spec.task, self.spec.attempt, *told))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    # The end -------------------------------------------------------------------------------------------------

    async def _conclude(self) -> None:
        verdict = self._verdict
        assert verdict is not None
        found = self._known.record
        if found is not None:
            try:
                await self.output.complete(found)
            except ClusterError as error:
                _log.warning("the output is not whole", session=self.spec.session, why=str(error))
                self.output.finish(found)
        ended_at = verdict.ended_at or datetime.now(UTC)
        report = ReportTaskEnded(
            self.spec.task,
            self.spec.attempt,
            verdict.outcome,
            ended_at,
            min(verdict.started_at, ended_at) if verdict.started_at else None,
            verdict.exit_code,
            verdict.signal,
            verdict.message,
            "" if verdict.outcome == "succeeded" else self.output.tail(),
            verdict.fault,
        )
        self._parts.reports.send_end(self.spec, self._parts.notes.note_end(self.spec, report))
        if self.id and not self._known.ended:
            self._parts.undertaker.end(self.id)

    async def _read_log(self, start: int, size: int) -> bytes | None:
        return await self._parts.shelf.read(self.spec, "log", start, size)


class _Tries:
    """How long and how often something was tried."""

    def __init__(self, limit: float) -> None:
        self._since = asyncio.get_running_loop().time()
        self._limit = limit
        self._next = _FIRST_PAUSE

    @property
    def seconds(self) -> float:
        """For how long it was tried."""
        return asyncio.get_running_loop().time() - self._since

    @property
    def over(self) -> bool:
        """Whether it was tried long enough."""
        return self.seconds > self._limit

    def pause(self) -> float:
        """Return the seconds until the next try."""
        pause, self._next = self._next, min(_LONGEST_PAUSE, self._next * 2)
        return pause
