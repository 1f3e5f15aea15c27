"""Terminate sessions: retry through all states in which a manager refuses or hangs, until it confirms the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

import structlog

from trackbook.adapters.backendai.api import service_calls, session_calls
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.execution.back_off import BackOff

_log = structlog.get_logger(__name__)
_TIMEOUT = 8.0
"""Seconds that a request to end a session may take: a manager with a dead agent answers after 5, forced never."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.3, 30.0
_PATIENCE = 15.0
"""Seconds that a session whose command has ended gets to be ended by the manager."""
_FORCEABLE = frozenset({"RUNNING", "RUNNING_DEGRADED", "TERMINATING", "ERROR", "RESTARTING"})
"""In these no container is being made any more, which would run on, unseen, behind a forced end (23.09)."""
_STALE = frozenset({"PREPARING", "PULLING", "CREATING", "PREPARED"})
"""A 23.09 that lost a transaction may hold a running session for PREPARING for good, and refuse to end it."""
_RETURNS = "CANCELLED"
_RETURNED = (2.0, 5.0, 15.0, 40.0)
"""Seconds between looks at a cancelled session: 23.09 starts one all the same that it schedules just then."""


class Terminator:
    """Terminates sessions in the background, each until the manager reports its end or does not know it."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._connection = connection
        self._ending: dict[str, asyncio.Task[Session | None]] = {}
        self._naming: set[asyncio.Task[None]] = set()
        self._guarding: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        self._hurry = asyncio.Event()

    def end(self, session: str, *, patience: bool = False, begun: bool = False) -> asyncio.Task[Session | None]:
        """Have the session of that id ended; the task's result is the manager's last word on it.

        With `patience` it gets time to end by itself, as one whose command has ended does. `begun`, which may be
        known later than the first call: its command has, so that its end can be forced whatever the manager says.
        """
        if begun:
            self._begun.add(session)
        return self._ending.get(session) or self._begin(session, self._end(session, patience=patience))

    def end_replica(self, session: str) -> asyncio.Task[Session | None]:
        """Have a service's replica ended, as `end` does; on 23.09 once the scheduler has looked at its session.

        Of a session that is cancelled before that, 23.09.10 fails to note the end at the replica's route (its
        `status_data` is null, which `update_route` does not expect): the service stays DESTROYING for good.
        """
        return self._ending.get(session) or self._begin(session, self._end_replica(session))

    def _begin(self, session: str, ending: Coroutine[None, None, Session | None]) -> asyncio.Task[Session | None]:
        task = self._ending[session] = asyncio.create_task(ending)
        task.add_done_callback(lambda _: self._forget(session))
        return task

    def _forget(self, session: str) -> None:
        self._ending.pop(session, None)
        self._begun.discard(session)

    def end_named(self, name: str, *, by: float) -> None:
        """End whatever has that name, looked for until that can be asked, `by` so many seconds from now."""
        task = asyncio.create_task(self._end_named(name, by))
        self._naming.add(task)
        task.add_done_callback(self._naming.discard)

    def guard(self, session: Session) -> None:
        """See to it that a session which was cancelled before it started does not start after all."""
        if session.status == _RETURNS and session.id not in self._guarding:
            task = self._guarding[session.id] = asyncio.create_task(self._guard(session.id))
            task.add_done_callback(lambda _: self._guarding.pop(session.id, None))

    async def close(self, *, wait: float) -> None:
        """End what can be in so many seconds, and leave the rest to the next start, which finds it."""
        self._hurry.set()
        guards = list(self._guarding.values())
        for guard in guards:
            guard.cancel()
        await asyncio.gather(*guards, return_exceptions=True)
        tasks: list[asyncio.Task[Session | None] | asyncio.Task[None]] = [*self._naming, *self._ending.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=wait)
        tasks = [*self._naming, *self._ending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end_named(self, name: str, by: float) -> None:
        until = asyncio.get_running_loop().time() + by
        while asyncio.get_running_loop().time() < until:
            with contextlib.suppress(ClusterError):
                for session in await self._connection.by_name.read(name):
                    if not session.final:
                        self.end(session.id, patience=True)
                return
            await asyncio.sleep(_LONGEST_PAUSE)

    async def _guard(self, session: str) -> None:
        for pause in _RETURNED:
            await asyncio.sleep(pause)
            with contextlib.suppress(ClusterError):
                found = await self._connection.by_id.read(session)
                if found and not found[0].final:
                    _log.warning("a cancelled session has come back", session=session, status=found[0].status)
                    self.end(session)
                    return

    async def _ended_by_itself(self, session: str) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._hurry.wait()
                await asyncio.sleep(_FIRST_PAUSE)
        with contextlib.suppress(ClusterError):
            found = await self._connection.by_id.read(session)
            return not found or found[0].final
        return False

    async def _end_replica(self, session: str) -> Session | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._connection.cluster.stop_timeout):
                await self._looked_at(session)
        return await self._end(session, patience=False)

    async def _looked_at(self, session: str) -> None:
        back_off = BackOff(_FIRST_PAUSE, _LONGEST_PAUSE, 1.5)
        while True:
            with contextlib.suppress(ClusterError):
                found = await self._connection.by_id.read(session)
                unseen = bool(found) and found[0].status == "PENDING" and not found[0].status_data
                if not unseen or service_calls.has_revisions(await self._connection.version()):
                    return
            await back_off.pause()

    def _is_forceable(self, session: Session) -> bool:
        return session.status in _FORCEABLE or (session.id in self._begun and session.status in _STALE)

    async def _end(self, session: str, *, patience: bool) -> Session | None:
        if patience and await self._ended_by_itself(session):
            return None
        loop = asyncio.get_running_loop()
        force_at = loop.time() + self._connection.cluster.stop_timeout
        back_off = BackOff(_FIRST_PAUSE, _LONGEST_PAUSE, 1.5)
        seen: Session | None = None
        while True:
            try:
                forced = loop.time() > force_at and seen is not None and self._is_forceable(seen)
                if seen is None or seen.status != "TERMINATING" or forced:
                    await session_calls.destroy(self._connection.client, session, forced=forced, timeout=_TIMEOUT)
            except ClusterError as error:  # refused while it starts or ends, or without an answer: look
                _log.debug("a session can't be ended yet", session=session, why=str(error))
            await back_off.pause()
            try:
                found = await self._connection.by_id.read(session)
            except ClusterError as error:
                _log.debug("a session can't be read", session=session, why=str(error))
                continue
            seen = found[0] if found else None
            if seen is None or seen.final:
                if seen:
                    self.guard(seen)
                return seen
