"""Copy code for sessions before they begin and delete the copies after their end, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from trackbook.adapters.execution.code_archive import BadCode, Copies
from trackbook.adapters.execution.code_cleanup import discard_copy
from trackbook.adapters.execution.tasks import spawn
from trackbook.engine.ports import Blobs, SessionSpec

_log = structlog.get_logger(__name__)


class CodeCopies:
    """The sessions that are getting their copies.

    `done` is called with each session and why it can't have its copy, '' where it has it.
    """

    def __init__(self, blobs: Blobs | None, done: Callable[[SessionSpec, str], None]) -> None:
        self._copies = Copies(blobs)
        self._done = done
        self._specs: dict[str, SessionSpec] = {}
        self._making: set[asyncio.Task[None]] = set()
        self._removing: set[asyncio.Task[None]] = set()

    def __contains__(self, session: str) -> bool:
        return session in self._specs

    def __len__(self) -> int:
        return len(self._specs)

    def __iter__(self) -> Iterator[SessionSpec]:
        return iter(tuple(self._specs.values()))

    def begin(self, spec: SessionSpec, folder: Path) -> None:
        """Make the copy of a session in its folder."""
        self._specs[spec.session] = spec
        spawn(self._copy(spec, folder), self._making)

    def drop(self, session: str) -> bool:
        """Let a session have no copy any more; False where none is being made."""
        return self._specs.pop(session, None) is not None

    def remove(self, folder: Path) -> None:
        """Delete the copy of a session that has ended."""
        spawn(discard_copy(folder), self._removing)

    async def close(self) -> None:
        """Begin nothing more; what a thread still writes is found by the next start."""
        self._specs.clear()
        for task in self._making:
            task.cancel()
        await asyncio.gather(*self._making, *self._removing, return_exceptions=True)

    async def _copy(self, spec: SessionSpec, folder: Path) -> None:
        problem = ""
        try:
            await self._copies.place(spec, folder)
        except (BadCode, OSError) as error:
            problem = f"the code can't be unpacked: {error}"
        except Exception as error:  # whatever it is, the session must not wait for ever
            _log.exception("a session's code can't be fetched", session=spec.session)
            problem = f"the code can't be fetched: {error!r}"
        if self.drop(spec.session):
            self._done(spec, problem)
        else:
            await discard_copy(folder)
