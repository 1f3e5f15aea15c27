"""Ending sessions for sure: through all states in which a manager refuses or hangs, for as long as it takes."""

from __future__ import annotations

import asyncio

import structlog

from trackbook.adapters.backendai import api
from trackbook.adapters.backendai.api import Session
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.link import Link

_log = structlog.get_logger(__name__)
_TIMEOUT = 8.0
"""Seconds that a request to end a session may take: a manager with a dead agent answers after 5, forced never."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.3, 30.0
_FORCEABLE = frozenset({"RUNNING", "RUNNING_DEGRADED", "TERMINATING", "ERROR", "RESTARTING"})
"""In these no container is being made any more, which would run on, unseen, behind a forced end (23.09)."""


class Undertaker:
    """Ends sessions in the background; each is asked for until the manager says that it has ended, or knows it not."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._ending: dict[str, asyncio.Task[Session | None]] = {}

    def end(self, session: str) -> asyncio.Task[Session | None]:
        """Have the session of that id ended; the task's result is the manager's last word on it."""
        task = self._ending.get(session)
        if task is None:
            task = self._ending[session] = asyncio.create_task(self._end(session))
            task.add_done_callback(lambda _: self._ending.pop(session, None))
        return task

    async def settle(self, seconds: float) -> None:
        """Wait until all have ended, for so long at most."""
        if self._ending:
            await asyncio.wait(list(self._ending.values()), timeout=seconds)

    async def close(self) -> None:
        """Leave those that have not ended to the next start, which finds them."""
        tasks = list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, session: str) -> Session | None:
        loop = asyncio.get_running_loop()
        force_at = loop.time() + self._link.cluster.stop_timeout
        pause = _FIRST_PAUSE
        seen: Session | None = None
        while True:
            try:
                forced = loop.time() > force_at and seen is not None and seen.status in _FORCEABLE
                if seen is None or seen.status != "TERMINATING" or forced:
                    await api.destroy(self._link.client, session, forced=forced, timeout=_TIMEOUT)
            except ClusterError as error:  # refused while it starts or ends, or without an answer: look
                _log.debug("a session can't be ended yet", session=session, why=str(error))
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)
            try:
                found = await self._link.by_id.read(session)
            except ClusterError as error:
                _log.debug("a session can't be read", session=session, why=str(error))
                continue
            seen = found[0] if found else None
            if seen is None or seen.final:
                return seen
