"""Watch all sessions of a cluster: an event stream for hints, and one read of all sessions at intervals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Protocol

import structlog

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.events import CONNECTED, Hint, hints
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.api.storage import Item
from trackbook.adapters.backendai.session.deadlines import Away
from trackbook.adapters.backendai.session.pipeline_folder import PipelineFolders
from trackbook.adapters.execution.back_off import wait
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
_RECORDS_EVERY = 3
"""Polls of the sessions for each look at the records of their jobs."""
_AT_ONCE = 8
"""Sessions whose records are read by their paths at once."""
_FOLLOWED_EVERY = 2.0
"""Seconds between copies of an output that somebody reads."""
_BRIEFLY = 30.0
"""Seconds that a manager may be away, to restart say, until each session reports it."""
_BEGINS = frozenset({"kernel_started", "session_started"})
_SOON = (0.0, 0.3, 1.0)
"""Seconds between looks at a session that is said to begin: the manager says so before it has it so itself."""
_AGAIN = 5.0
"""Seconds after which a part of the watch that failed in a way that nobody foresaw begins again."""
_COMMAND_ENDED = frozenset({"session_success", "session_failure"})


class Watched(Protocol):
    """A session that is watched; `id` is the cluster's."""

    id: str
    spec: SessionSpec

    @property
    def running(self) -> bool:
        """Whether its command can be running."""
        ...

    @property
    def may_have_begun(self) -> bool:
        """Whether its command can have begun, whatever the manager says."""
        ...

    def observe(self, session: Session | None) -> None:
        """Take what the manager says; None where it knows no such session."""
        ...

    def observe_records(self, found: dict[str, Item]) -> bool:
        """Take what a listing of the job's records has; whether its own have to be read by their paths."""
        ...

    async def read_records(self) -> None:
        """Read its own records by their paths. Raises ClusterError."""
        ...

    def report_unreachable(self, why: str) -> None:
        """Take that the manager doesn't tell of its sessions, and why."""
        ...

    def follow_output(self) -> None:
        """Bring our copy of the output up to date where somebody reads it."""
        ...

    def look_for_end(self) -> None:
        """Hear that the command may have ended."""
        ...


class Watch:
    """Reads sessions on request, at intervals, and all of them whenever the event stream is opened."""

    def __init__(self, connection: ClusterConnection, pipeline_folders: PipelineFolders) -> None:
        self._connection = connection
        self._pipeline_folders = pipeline_folders
        self._watched: dict[str, Watched] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._reading: set[asyncio.Task[None]] = set()
        self._all = asyncio.Event()
        self.away: Away | None = None

    def start(self) -> None:
        """Begin to watch."""
        for work in (self._listen, self._poll, self._follow):
            self._tasks.append(asyncio.create_task(self._keep(work)))

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the watch for good: without it sessions would be seen to end no more."""
        while True:
            try:
                await work()
            except Exception:
                _log.exception("a cluster is not watched, trying again", cluster=self._connection.cluster.name)
            await asyncio.sleep(_AGAIN)

    async def close(self) -> None:
        """Watch no more."""
        tasks = [*self._tasks, *self._reading]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, watched: Watched) -> None:
        """Watch a session, and read it at once; the manager has just reported it, so it isn't away."""
        self.away = None
        self._watched[watched.id] = watched
        self.look(watched.id)

    def remove(self, id: str) -> None:  # noqa: A002
        """Watch the session no more."""
        self._watched.pop(id, None)

    def look(self, id: str) -> None:  # noqa: A002
        """Read a session soon."""
        self._spawn(self._look([id]))

    def _spawn(self, reading: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(reading)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _look_until_running(self, watched: Watched) -> None:
        for pause in _SOON:
            await asyncio.sleep(pause)
            if watched.running or watched.id not in self._watched:
                return
            await self._look([watched.id])

    async def _follow(self) -> None:
        """Have outputs copied that somebody reads; looking who does costs no request."""
        while True:
            await asyncio.sleep(_FOLLOWED_EVERY)
            for each in list(self._watched.values()):
                if each.running:
                    each.follow_output()

    async def _listen(self) -> None:
        prefix = names.prefix(self._connection.installation)
        async with contextlib.aclosing(hints(self._connection.client, prefix)) as stream:
            async for hint in stream:
                self._handle_hint(hint)

    def _handle_hint(self, hint: Hint) -> None:
        if hint.kind == CONNECTED:
            self._all.set()
        elif watched := self._watched.get(hint.session_id):
            if hint.kind in _COMMAND_ENDED:
                watched.look_for_end()
            elif hint.kind in _BEGINS:
                self._spawn(self._look_until_running(watched))
            else:
                self.look(hint.session_id)

    async def _poll(self) -> None:
        """Read all at intervals, and now where the stream has a gap; with the records at longer ones."""
        turn = 0
        while True:
            with_records = self._all.is_set() or turn % _RECORDS_EVERY == 0
            self._all.clear()
            turn += 1
            await self._look(list(self._watched))
            if with_records:
                await self._look_at_records()
            await wait(self._all, self._connection.cluster.poll_interval)

    async def _look(self, ids: Iterable[str]) -> None:
        """Read sessions and pass on their records. The manager's silence is noted."""
        ids = list(ids)
        if not ids:
            return
        try:
            found = await asyncio.gather(*(self._connection.by_id.read(id) for id in ids))  # noqa: A001
        except ClusterError as error:
            since = self.away.since if self.away else asyncio.get_running_loop().time()
            self.away = Away(since, str(error))
            if error.kind == "operator" or asyncio.get_running_loop().time() - since >= _BRIEFLY:
                for id in ids:  # noqa: A001
                    if watched := self._watched.get(id):
                        watched.report_unreachable(error.message)
            _log.info("a cluster doesn't tell of its sessions", cluster=error.cluster, why=error.message)
            return
        self.away = None
        for id, sessions in zip(ids, found, strict=True):  # noqa: A001
            if watched := self._watched.get(id):
                watched.observe(sessions[0] if sessions else None)

    async def _look_at_records(self) -> None:
        jobs: dict[tuple[str, str], list[Watched]] = {}
        for each in self._watched.values():
            if each.may_have_begun:
                jobs.setdefault((each.spec.pipeline, each.spec.job), []).append(each)
        unlisted: list[Watched] = []
        for (pipeline, job), running in jobs.items():
            try:
                found = await self._pipeline_folders.records(pipeline, job)
            except ClusterError as error:
                _log.debug("records can't be listed", job=job, why=str(error))
                continue
            unlisted += [each for each in running if each.observe_records(found)]
        gate = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._read(each, gate) for each in unlisted))

    @staticmethod
    async def _read(watched: Watched, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await watched.read_records()
            except ClusterError as error:
                _log.debug("records can't be read", session=watched.spec.session, why=str(error))
