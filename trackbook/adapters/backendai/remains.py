"""What a session leaves in the pipeline's folder: its exit record, its claim, and its output."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from msgspec.structs import replace

from trackbook.adapters.backendai import api, record
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.observe import Known
from trackbook.adapters.backendai.output import Output
from trackbook.adapters.backendai.parts import Parts
from trackbook.adapters.backendai.record import Record
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
_LOOKS = (0.3, 0.7, 1.5)
"""Seconds between looks for what should be there: another host's file may be seen late, and a manager stores the
output of a session after it has ended it (23.09; until then it asks the agent, which knows it no more: 500)."""
_LOGS_TIMEOUT = 5.0


class Remains:
    """Reads what one attempt's session left."""

    def __init__(self, spec: SessionSpec, parts: Parts) -> None:
        self._spec = spec
        self._parts = parts
        self._unread_since: float | None = None

    @property
    def unread(self) -> bool:
        """Whether the last look failed, so that it has to be made again."""
        return self._unread_since is not None

    async def look(self, known: Known) -> Known:
        """Add the exit record; where the session has ended without one, that there is none, and the claim."""
        try:
            found = await self._record()
            if found is None and known.ended:
                known = await self._without_record(known)
            else:
                known = replace(known, record=found)
        except ClusterError as error:
            return self._unread(known, error)
        self._unread_since = None
        return known

    async def _without_record(self, known: Known) -> Known:
        claim = None
        if await self._parts.shelf.is_claimed(self._spec):
            claim = record.read_claim(await self._parts.shelf.read(self._spec, "claim/by") or b"")
            if not known.asked and not known.fenced:
                for pause in _LOOKS:
                    await asyncio.sleep(pause)
                    found = await self._record()
                    if found:
                        return replace(known, record=found)
        removed = claim is None and await self._parts.shelf.is_removed(self._spec.pipeline)
        return replace(known, claim=claim, no_record=True, folder_removed=removed)

    async def _record(self) -> Record | None:
        data = await self._parts.shelf.read(self._spec, "exit")
        try:
            return record.read_record(data) if data is not None else None
        except ValueError as error:
            raise ClusterError(self._parts.cluster.name, "infrastructure", "record", str(error)) from None

    def _unread(self, known: Known, error: ClusterError) -> Known:
        """Give up on the record of an ended session when it could not be read for long."""
        now = asyncio.get_running_loop().time()
        self._unread_since = self._unread_since or now
        if known.ended and now - self._unread_since > self._parts.cluster.unreachable_timeout:
            _log.warning("an exit record can't be read", session=self._spec.session, why=str(error))
            return replace(known, no_record=True)
        _log.debug("an exit record can't be read yet", session=self._spec.session, why=str(error))
        return known

    async def read_output(self, start: int, size: int) -> bytes | None:
        """Return a part of the session's output."""
        return await self._parts.shelf.read(self._spec, "log", start, size)

    async def _logs(self, session: str) -> str:
        """Return what the manager has of an ended session's output, as far as it can be asked."""
        for pause in (*_LOOKS, None):
            try:
                return await api.logs(self._parts.link.client, session, timeout=_LOGS_TIMEOUT)
            except ClusterError as error:
                if error.status < 500 or pause is None:
                    break
            await asyncio.sleep(pause)
        return ""

    async def complete(self, output: Output, known: Known) -> None:
        """Have our copy of the output whole, as far as it can be had."""
        try:
            if known.record is not None:
                await output.complete(known.record)
            elif known.claim is not None or known.has_run:
                with contextlib.suppress(ClusterError):  # the folder may be gone; the manager has a copy
                    await output.catch_up()
                if not output.offset and known.session:
                    output.add(await self._logs(known.session.id))
        except ClusterError as error:
            _log.warning("a session's output is not whole", session=self._spec.session, why=str(error))
            if known.record is not None:
                output.finish(known.record)
