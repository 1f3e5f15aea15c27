"""One attempt of a serving task: from its launch until the service is healthy or has failed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import structlog
from msgspec.structs import replace

from trackbook.adapters.backendai.api import service_calls, session_calls
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.service_calls import Service
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.service import plan as service_plan
from trackbook.adapters.backendai.service import progress, rolling_update
from trackbook.adapters.backendai.service.cleanup import take_down
from trackbook.adapters.backendai.service.log import ServiceLog
from trackbook.adapters.backendai.service.lookup import Refusal
from trackbook.adapters.backendai.service.progress import Progress
from trackbook.adapters.backendai.service.reconcile import NotYet, ServiceReconciler
from trackbook.adapters.backendai.session import observation, plan
from trackbook.adapters.backendai.session.context import ExecutorContext
from trackbook.adapters.execution.back_off import BackOff
from trackbook.adapters.execution.outcome import Verdict
from trackbook.adapters.execution.tasks import until_done
from trackbook.engine.job import ReportTaskStarted, ReportTaskStatus
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
ADDRESS = "service.json"
"""The file in the task's outputs that says how the service is reached: url, service, id."""
_FIRST_PAUSE, _LONGEST_PAUSE, _AGAIN = 0.3, 15.0, 5.0


class ServiceAttempt:
    """Has what the executor asks of an attempt; `run` returns once the end is noted and handed to the reporter.

    The service keeps running when the task has ended well. What this attempt made is taken down where it ends
    otherwise; a service that was there before runs again what it ran.
    """

    def __init__(self, spec: SessionSpec, context: ExecutorContext) -> None:
        self.spec = spec
        self._context = context
        self._connection = context.connection
        self._cluster = context.connection.cluster
        self._asked = False
        self._wake = asyncio.Event()
        self._reported = ("", "")
        self._started: ReportTaskStarted | None = None
        self._sessions: dict[str, Session] = {}
        self._output = ServiceLog(context.attempt_states.log(spec))
        self._address: dict[str, str] = {}
        self._at = asyncio.get_running_loop().time

    def request_end(self) -> None:
        """Have it ended, unless it is healthy by now."""
        self._asked = True
        self._wake.set()

    def report_start_again(self) -> None:
        """Report the start once more."""
        if self._started:
            self._context.reports.send(self.spec, self._started)

    async def run(self) -> None:
        """Have the service, wait until it is healthy, and report that; what goes wrong here is tried again."""
        await until_done(self._run, self._failed_to_follow, _AGAIN)

    async def _run(self) -> None:
        self._conclude(await self._serve())

    def _failed_to_follow(self) -> None:
        _log.exception("a service can't be followed, trying again", session=self.spec.session)

    # From the launch to the end -----------------------------------------------------------------------------

    async def _serve(self) -> Verdict:
        wanted, faults = service_plan.read(self.spec.service or {})
        if faults:
            return Verdict("failed", "; ".join(fault.message for fault in faults), "permanent")
        reconciler = ServiceReconciler(self.spec, wanted, self._context)
        deadline = self._at() + self._cluster.service_timeout
        ended = await self._place(reconciler, deadline)
        return ended or await self._follow(reconciler, deadline)

    async def _place(self, reconciler: ServiceReconciler, deadline: float) -> Verdict | None:
        """Have the service begun; return the verdict where it can't be."""
        since = self._at()
        back_off = BackOff(_FIRST_PAUSE, min(_LONGEST_PAUSE, self._cluster.poll_interval))
        while True:
            self._wake.clear()
            try:
                if self._asked:
                    return await self._withdraw(reconciler)
                await reconciler.begin()
            except Refusal as error:
                return Verdict("failed", f"the service could not be made: {error}", "permanent")
            except ValueError as error:
                return Verdict("failed", f"the service could not be made: {error}", "permanent")
            except NotYet as error:
                if self._at() > deadline:
                    return Verdict("failed", f"the service could not be made: {error}", "infrastructure")
                self._report_status("PENDING", str(error))
                since = self._at()
            except ClusterError as error:
                tried = self._at() - since
                if error.kind == "permanent" or _no_proxy(error) or tried > self._cluster.unreachable_timeout:
                    return self._refused(error, tried)
                self._report_status(self._reported[0] or "PENDING", str(error))
            else:
                self._start()
                return None
            await back_off.pause(self._wake)

    def _refused(self, error: ClusterError, tried: float) -> Verdict:
        if _no_proxy(error):
            hint = "the scaling group has no app proxy, without which a cluster serves no models"
            return Verdict("failed", f"the service could not be made: {error} ({hint})", "operator")
        words = observation.refusal_verdict(error, after=tried if error.kind != "permanent" else 0)
        return Verdict("failed", words.message.replace("the session", "the service", 1), words.fault)

    async def _follow(self, reconciler: ServiceReconciler, deadline: float) -> Verdict:
        seen, since = Progress("PENDING"), self._at()
        back_off = BackOff(_FIRST_PAUSE * 2, self._cluster.poll_interval, 1.5)
        while True:
            self._wake.clear()
            if self._asked:
                return await self._withdraw(reconciler)
            try:
                seen = await self._look(reconciler)
                since = self._at()
            except ClusterError as error:
                if self._at() - since > self._cluster.unreachable_timeout:
                    words = f"the service can't be watched any more; it may be there: {error}"
                    return Verdict("lost", words, "unknown")
                self._report_status(self._reported[0], str(error))
            else:
                if seen.ready and await self._leave_address(deadline):
                    return Verdict("succeeded")
                if seen.failed:
                    return await self._failed(reconciler, seen.failed)
                self._report_status(seen.status, seen.message)
            if self._at() > deadline:
                seconds = f"{self._cluster.service_timeout:.0f}"
                words = (
                    f"the service was not healthy after {seconds} seconds (service_timeout): {self._reported[1]}"
                )
                return await self._failed(reconciler, words)
            await back_off.pause(self._wake, at_most=max(0.1, deadline - self._at()))

    async def _look(self, reconciler: ServiceReconciler) -> Progress:
        version = await self._connection.version()
        id = reconciler.state.id  # noqa: A001
        service = await service_calls.read(self._connection.client, version, id)
        rollout = None
        if service and service_calls.has_revisions(version):
            rollout = await service_calls.rollout(self._connection.client, id)
        if service:
            await self._see_replicas(service)
            self._address = {"url": service.url, "service": service.name, "id": service.id}
        replicas = reconciler.wanted.replicas
        seen = progress.progress(service, rollout, reconciler.state.revision, replicas, self._sessions)
        if seen.failed or service is None:
            return seen
        if rolling_update.is_stuck(reconciler.state, service):
            return Progress("ERROR", failed="the model answers its health check in no new replica")
        if await reconciler.advance(service):
            return seen
        return Progress("PREPARING", f"replicas are replaced one by one; {seen.message}")

    async def _leave_address(self, deadline: float) -> bool:
        """Put the address into the task's outputs, for the tasks behind it; whether that is done, or late."""
        try:
            spec = self.spec
            folder = await self._context.pipeline_folders.prepare(
                spec.pipeline, plan.folders_for(spec), spec.pipeline_name
            )
            path = f"{plan.outputs(self.spec)}/{ADDRESS}"
            text = msgspec.json.format(msgspec.json.encode(self._address)) + b"\n"
            await Storage(self._connection.client).write_small(folder, path, text)
        except ClusterError as error:
            self._report_status("RUNNING", f"the service's address can't be put into the task's outputs: {error}")
            return self._at() > deadline
        return True

    async def _see_replicas(self, service: Service) -> None:
        """Read the sessions of the replicas, and what they have written."""
        wanted = {route.session for route in service.routes if route.session}
        wanted |= {each for each, session in self._sessions.items() if not session.final}
        found = await asyncio.gather(*(self._connection.by_id.read(each) for each in wanted))
        for sessions in found:
            for session in sessions[:1]:
                known = self._sessions.get(session.id)
                if session.final and not (known and known.final):
                    known = await self._with_reason(session)
                self._sessions[session.id] = known if known and known.final else session
                if session.status == "RUNNING" or session.final:
                    await self._output.catch_up(self._connection.client, session.id)

    async def _with_reason(self, session: Session) -> Session:
        """Return a session that has ended with its containers, which may know why."""
        found = await session_calls.sessions_with_ids(self._connection.client, [session.id], containers=True)
        return found[0] if found else session

    # The end -------------------------------------------------------------------------------------------------

    async def _withdraw(self, reconciler: ServiceReconciler) -> Verdict:
        left = await self._undo(reconciler)
        return Verdict("cancelled", f"the service was stopped on request{left}")

    async def _failed(self, reconciler: ServiceReconciler, why: str) -> Verdict:
        for session in self._sessions:  # what a replica wrote is lost with it
            await self._output.catch_up(self._connection.client, session)
        return Verdict("failed", f"{why}{await self._undo(reconciler)}", "infrastructure")

    async def _undo(self, reconciler: ServiceReconciler) -> str:
        """Take down what this attempt made, set back what it changed; return in words what could not be."""
        self._report_status("TERMINATING", "")
        until, back_off = self._at() + self._cluster.unreachable_timeout, BackOff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                await self._undone(reconciler)
            except (ClusterError, NotYet) as error:
                if self._at() > until:
                    return f"; {error}"
                await back_off.pause()
            else:
                return ""

    async def _undone(self, reconciler: ServiceReconciler) -> None:
        version = await self._connection.version()
        found = await reconciler.find(version)
        if found is None:
            return
        if found.tag == self.spec.session or (reconciler.state.made and found.id == reconciler.state.id):
            await take_down(self._connection, version, found, self._context.terminator)
        else:
            await reconciler.roll_back(found)

    def _conclude(self, verdict: Verdict) -> None:
        if self._started:
            verdict = replace(verdict, started_at=self._started.at)
        report = verdict.report(self.spec, self._output.tail, self._address)
        self._context.reports.send_end(self.spec, self._context.attempt_states.note_end(self.spec, report))

    # Reports --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._started is None:
            self._started = ReportTaskStarted(self.spec.task, self.spec.attempt, datetime.now(UTC))
            self.report_start_again()

    def _report_status(self, status: str, why: str) -> None:
        if (status, why) != self._reported:
            self._reported = (status, why)
            self._context.reports.send(
                self.spec, ReportTaskStatus(self.spec.task, self.spec.attempt, status, why)
            )


def _no_proxy(error: ClusterError) -> bool:
    """Whether the manager says that the scaling group has no app proxy: a 503 of 23.09, with nothing done."""
    words = error.message.lower()
    return "coordinator configured" in words or "not ready to start model service" in words
