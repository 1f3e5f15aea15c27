"""Stopping the command of a running session before the session is ended.

Agents kill batch sessions without SIGTERM, so what a command would save at its end is lost. The wrapper looks for
a request in the pipeline's folder: it sends SIGTERM, waits, kills what is left, and leaves its exit record.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.session.pipeline_folder import PipelineFolders
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
RECORD = "stop"
LOOK_EVERY = 2.0
"""Seconds between looks for the exit record of a command that is being stopped."""
_MARGIN = 10.0
"""Seconds, at most, that the wrapper has beside the grace: to see the request, and to write its record."""


class CommandStop:
    """Asks the wrapper once; `waits` until the command had its time. The exit record may be there sooner."""

    def __init__(self, spec: SessionSpec, pipeline_folders: PipelineFolders, stop_timeout: float) -> None:
        self._spec = spec
        self._pipeline_folders = pipeline_folders
        self._grace = int(stop_timeout / 2)
        self._margin = min(_MARGIN, stop_timeout / 2)
        self._waiting: asyncio.Task[None] | None = None

    def begin(self, wake: asyncio.Event) -> None:
        """Ask, unless that was done; `wake` is set when there is nothing more to wait for."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._stop())
            self._waiting.add_done_callback(lambda _: wake.set())

    @property
    def waits(self) -> bool:
        """Whether the command still has time to end by itself."""
        return self._waiting is not None and not self._waiting.done()

    def cancel(self) -> None:
        """Wait no more."""
        if self._waiting:
            self._waiting.cancel()

    async def _stop(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace + self._margin):
                try:
                    await self._pipeline_folders.write(self._spec, RECORD, f"{self._grace}\n".encode())
                except ClusterError as error:  # the session is ended at once then
                    _log.info("a command can't be asked to stop", session=self._spec.session, why=str(error))
                    return
                await asyncio.Event().wait()
