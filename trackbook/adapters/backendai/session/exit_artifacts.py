"""What a session leaves in the pipeline's folder: exit record, claim and output."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from msgspec.structs import replace

from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.session import exit_record
from trackbook.adapters.backendai.session.context import ExecutorContext
from trackbook.adapters.backendai.session.exit_record import SessionRecord
from trackbook.adapters.backendai.session.observation import Observation
from trackbook.adapters.backendai.session.output import Output
from trackbook.adapters.execution import result
from trackbook.adapters.execution.result import Result
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
_LOOKS = (0.3, 0.7, 1.5)
"""Seconds between looks for what should be there: another host's file may be seen late, and a manager stores the
output of a session after it has ended it (23.09; until then it asks the agent, which knows it no more: 500)."""
_LOGS_TIMEOUT = 5.0


class ExitArtifacts:
    """Reads what one attempt's session left."""

    def __init__(self, spec: SessionSpec, context: ExecutorContext) -> None:
        self._spec = spec
        self._context = context
        self._unread_since: float | None = None

    @property
    def unread(self) -> bool:
        """Whether the last look failed, so that it has to be made again."""
        return self._unread_since is not None

    async def look(self, observed: Observation) -> Observation:
        """Add the exit record; where the session has ended without one, that there is none, and the claim."""
        try:
            found = await self._record()
            if found is None and observed.ended:
                observed = await self._without_record(observed)
            else:
                observed = replace(observed, record=found)
        except ClusterError as error:
            return self._unread(observed, error)
        self._unread_since = None
        return observed

    async def _without_record(self, observed: Observation) -> Observation:
        claim = None
        if await self._context.pipeline_folders.is_claimed(self._spec):
            claim = exit_record.read_claim(
                await self._context.pipeline_folders.read(self._spec, "claim/by") or b""
            )
            if not observed.asked and not observed.fenced:
                for pause in _LOOKS:
                    await asyncio.sleep(pause)
                    found = await self._record()
                    if found:
                        return replace(observed, record=found)
        removed = claim is None and await self._context.pipeline_folders.is_removed(self._spec.pipeline)
        return replace(observed, claim=claim, no_record=True, folder_removed=removed)

    async def _record(self) -> SessionRecord | None:
        data = await self._context.pipeline_folders.read(self._spec, "exit")
        try:
            return exit_record.read_record(data) if data is not None else None
        except ValueError as error:
            raise ClusterError(self._context.cluster.name, "infrastructure", "record", str(error)) from None

    def _unread(self, observed: Observation, error: ClusterError) -> Observation:
        """Give up on the record of an ended session when it could not be read for long."""
        now = asyncio.get_running_loop().time()
        self._unread_since = self._unread_since or now
        if observed.ended and now - self._unread_since > self._context.cluster.unreachable_timeout:
            _log.warning("an exit record can't be read", session=self._spec.session, why=str(error))
            return replace(observed, no_record=True)
        _log.debug("an exit record can't be read yet", session=self._spec.session, why=str(error))
        return observed

    async def read_output(self, start: int, size: int) -> bytes | None:
        """Return a part of the session's output."""
        return await self._context.pipeline_folders.read(self._spec, "log", start, size)

    async def _logs(self, session: str) -> str:
        """Return what the manager has of an ended session's output, as far as it can be asked."""
        for pause in (*_LOOKS, None):
            try:
                return await session_calls.logs(self._context.connection.client, session, timeout=_LOGS_TIMEOUT)
            except ClusterError as error:
                if error.status < 500 or pause is None:
                    break
            await asyncio.sleep(pause)
        return ""

    async def result(self, record: SessionRecord | None) -> Result:
        """Return what the command left as its result, by its exit record."""
        if record is None or record.result is None:
            return Result()
        if record.result > result.LIMIT:
            return result.unusable(result.TOO_LARGE)
        problem = "the exit record says that it is there, and it is not"
        for pause in (*_LOOKS, 0.0):
            try:
                data = await self._context.pipeline_folders.read_output(self._spec, result.FILE, result.LIMIT + 1)
                if data is not None:
                    return result.parse(data)
            except ClusterError as error:
                problem = str(error)
            await asyncio.sleep(pause)
        return result.unusable(problem)

    async def complete(self, output: Output, observed: Observation) -> None:
        """Have our copy of the output whole, as far as it can be had."""
        try:
            if observed.record is not None:
                await output.complete(observed.record)
            elif observed.claim is not None or observed.has_run:
                with contextlib.suppress(ClusterError):  # the folder may be gone; the manager has a copy
                    await output.catch_up()
                if not output.offset and observed.session:
                    output.add(await self._logs(observed.session.id))
        except ClusterError as error:
            _log.warning("a session's output is not whole", session=self._spec.session, why=str(error))
            if observed.record is not None:
                output.finish(observed.record)
