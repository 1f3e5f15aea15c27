"""One attempt in its container: from its launch to its exit record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from trackbook.adapters.container import attempt_state, cleanup, outcome, output
from trackbook.adapters.container.client import EngineAway, EngineRefused, Seen
from trackbook.adapters.container.launch import Ended, ExecutorContext, Launch, point
from trackbook.adapters.execution import folders
from trackbook.adapters.execution.back_off import BackOff
from trackbook.adapters.execution.code_cleanup import discard_copy
from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Attempt:
    """Runs one attempt. `tell` is called with each status and its explanation, `began` once.

    Its state is on disk (see attempt_state.py) and at the engine, so that any process can continue it.
    """

    def __init__(
        self,
        spec: SessionSpec,
        context: ExecutorContext,
        tell: Callable[[str, str], None],
        began: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.started_at: datetime | None = None
        self._context = context
        self._client = context.client
        self._tell_status = tell
        self._began = began
        self._reported = ("", "")
        self._stopping: asyncio.Task[None] | None = None
        self._launch = Launch(spec, context, self._report_status)
        self._name, self._folder = self._launch.name, self._launch.folder

    # For the executor -------------------------------------------------------------------------------------------

    async def run(self) -> ExitRecord:
        """Run the attempt to its end and return its exit record, which is on disk. Raises OSError."""
        try:
            record = await self._watch(await self._launch.run())
        except Ended as ended:
            record = ended.record
        finally:
            if self._stopping:
                self._stopping.cancel()
        record = await asyncio.to_thread(attempt_state.leave, self._folder, record)
        point("recorded")
        return record

    async def stop(self) -> None:
        """End the session; an attempt whose command has not begun is claimed, so that it never will."""
        record = ExitRecord(ended_at=now(), stopped=True, message="stopped before it began")
        if await asyncio.to_thread(attempt_state.withdraw, self._folder, record):
            self._launch.withdrawn.set()
        elif self._stopping is None:
            await asyncio.to_thread(attempt_state.mark_stop, self._folder)
            self._stopping = asyncio.create_task(self._stop())

    async def clean_up(self) -> None:
        """Remove the ended session's container, and its copy of the code."""
        await cleanup.remove_container(self._client, self._name, self._folder)
        if self.spec.code:
            await discard_copy(self._folder)

    # From then on ----------------------------------------------------------------------------------------------

    async def _watch(self, seen: Seen | None) -> ExitRecord:
        """Return how the container ended, its log complete."""
        log = output.SessionLog(folders.log_file(self._context.data, self.spec.session), self._context.log_limit)
        following = asyncio.create_task(output.follow(self._client, self._name, log))
        try:
            while seen is not None and not seen.over:
                self._take_start(seen)
                seen = await self._outlast(self._next)
            following.cancel()
            if seen and (problem := await output.complete(self._client, self._name, log)):
                log.write(f"\n[trackbook: the rest of the output can't be had: {problem}]\n".encode())
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            log.close()
        point("ended")
        return outcome.conclude(seen, self.spec, self._folder, self.started_at)

    async def _next(self) -> Seen | None:
        """Return the container when it has ended, or when it may have."""
        await self._client.wait(self._name)
        seen = await self._client.inspect(self._name)
        if seen and not seen.over:
            await asyncio.sleep(_PAUSE)
        return seen

    def _take_start(self, seen: Seen) -> None:
        if self._reported[0]:
            self._report_status("RUNNING", "")
        if self.started_at is None and seen.started_at and not self._launch.withdrawn.is_set():
            self.started_at = seen.started_at
            self._began()

    async def _outlast(self, call: Callable[[], Awaitable[Seen | None]]) -> Seen | None:
        """Ask until the engine answers: a session that runs is never given up."""
        back_off = BackOff(_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                return await call()
            except (EngineAway, EngineRefused) as error:
                if back_off.is_longest:
                    self._report_status("UNREACHABLE", str(error))
            await back_off.pause()

    async def _stop(self) -> None:
        """Have the engine end the container, until it says that it did."""
        while True:
            try:
                return await self._client.stop(self._name, self._context.engine.grace)
            except (EngineAway, EngineRefused) as error:
                self._report_status("STOPPING", str(error))
            await asyncio.sleep(_LONGEST_PAUSE)

    def _report_status(self, status: str, message: str) -> None:
        if self._reported != (status, message):
            self._reported = (status, message)
            self._tell_status(status, message)
