"""The executor on a Backend.AI cluster: each session is one of the cluster's."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import structlog

from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.service.attempt import ServiceAttempt
from trackbook.adapters.backendai.session.attempt import Attempt
from trackbook.adapters.backendai.session.attempt_state import AttemptStates
from trackbook.adapters.backendai.session.code_archives import Archives
from trackbook.adapters.backendai.session.context import ExecutorContext
from trackbook.adapters.backendai.session.enqueue import Enqueuer
from trackbook.adapters.backendai.session.pipeline_folder import PipelineFolders
from trackbook.adapters.backendai.session.terminator import Terminator
from trackbook.adapters.backendai.session.watch import Watch
from trackbook.adapters.execution.reporter import Reporter
from trackbook.engine.ports import Blobs, ReportSink, SessionSpec
from trackbook.failpoints import failpoint

_log = structlog.get_logger(__name__)
_RELEASE_TIMEOUT = 2.0
"""Seconds that a closing executor gives to sessions whose command has ended to be gone."""


class BackendAIExecutor:
    """Implements `trackbook.engine.ports.Executor`.

    `limit` sessions are with the cluster at once (default: all, how many run is the cluster's to say), the others
    wait here in the order of their launch. `blobs` has the archives of code.
    """

    def __init__(
        self,
        cluster: Cluster,
        data: Path,
        installation: str,
        *,
        limit: int | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        self._cluster = cluster
        self._connection = ClusterConnection(cluster, installation)
        self._attempt_states = AttemptStates(data.resolve())
        self._reports = Reporter()
        self._pipeline_folders = PipelineFolders(self._connection, data)
        self._watch = Watch(self._connection, self._pipeline_folders)
        self._terminator = Terminator(self._connection)
        self._context = ExecutorContext(
            self._connection,
            self._pipeline_folders,
            self._watch,
            self._attempt_states,
            self._reports,
            self._terminator,
            Enqueuer(self._connection),
            Archives(self._pipeline_folders, blobs),
        )
        self._attempts: dict[str, Attempt | ServiceAttempt] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: deque[str] = deque()
        self._limit = limit
        self._closing = False

    async def start(self, report: ReportSink) -> None:
        """Begin to watch the cluster, whether it can be reached yet or not."""
        self._reports.sink = report
        self._watch.start()

    async def launch(self, spec: SessionSpec) -> None:
        """Run the session; adopt it, or report its end again, if it was launched before."""
        attempt = self._attempts.get(spec.session)
        if attempt:
            attempt.report_start_again()
        elif not self._report_end(spec):
            self._take(spec, fresh=self._attempt_states.begin(spec))

    async def stop(self, spec: SessionSpec) -> None:
        """End the session; one that has not begun will never run."""
        failpoint("executor.stop.before")
        attempt = self._attempts.get(spec.session)
        if attempt is None:
            if self._report_end(spec):
                return
            self._attempt_states.begin(spec)
            attempt = self._take(spec, fresh=False)  # somebody else may have launched it
        attempt.request_end()
        if spec.session in self._waiting:
            self._waiting.remove(spec.session)
            self._run(attempt)

    async def close(self, *, cancel: bool = False) -> None:
        """Release the sessions, or end them all and wait until they are gone and reported (or the sink is)."""
        self._closing = True
        if cancel:
            for attempt in list(self._attempts.values()):
                await self.stop(attempt.spec)
            if self._running:
                await asyncio.wait(list(self._running.values()))
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._watch.close()
        await self._terminator.close(wait=self._cluster.stop_timeout if cancel else _RELEASE_TIMEOUT)
        await self._reports.close(wait=5.0 if cancel else 0)
        await self._connection.close()

    def _report_end(self, spec: SessionSpec) -> bool:
        """Report the session's end if it is known; whether it is."""
        if self._reports.has_end(spec):
            return True
        end = self._attempt_states.end(spec)
        if end is not None:
            self._reports.send_end(spec, end)
        return end is not None

    def _take(self, spec: SessionSpec, *, fresh: bool) -> Attempt | ServiceAttempt:
        attempt: Attempt | ServiceAttempt
        if spec.service is None:
            attempt = Attempt(spec, self._context, fresh=fresh)
        else:
            attempt = ServiceAttempt(spec, self._context)
        self._attempts[spec.session] = attempt
        if self._limit and len(self._running) >= self._limit:
            self._waiting.append(spec.session)
        else:
            self._run(attempt)
        return attempt

    def _run(self, attempt: Attempt | ServiceAttempt) -> None:
        session = attempt.spec.session
        task = self._running[session] = asyncio.create_task(attempt.run())
        task.add_done_callback(lambda task: self._done(session, task))

    def _done(self, session: str, task: asyncio.Task[None]) -> None:
        del self._running[session]
        self._attempts.pop(session, None)
        if not task.cancelled() and task.exception():
            _log.error("a session is watched no more", session=session, exc_info=task.exception())
        while self._waiting and not self._closing and (not self._limit or len(self._running) < self._limit):
            self._run(self._attempts[self._waiting.popleft()])
