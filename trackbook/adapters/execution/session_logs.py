"""The output of local sessions for readers, from the sessions' files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from trackbook.adapters.execution import folders, logs, output_log
from trackbook.adapters.execution.output_log import Kept, Piece

T = TypeVar("T")
_LOOK = 0.1  # seconds between looks at a log that somebody follows
_CUT_PAUSE, _CUT_LOOKS = 0.01, 20
"""Seconds between looks at a log that is being cut, and how often."""


class SessionLogs:
    """The output of local sessions, from their files."""

    def __init__(self, data: Path) -> None:
        self._data = data

    async def extent(self, session: str) -> Kept | None:
        """Return which bytes are there, None before the session's command ran."""
        try:
            log = folders.log_file(self._data, session)
            logs.want(log)
            found = await _read_consistently(lambda: output_log.find_kept(log))
            return found or output_log.head_alone(log)
        except (FileNotFoundError, ValueError):
            return None

    async def read(self, session: str, offset: int, limit: int) -> Piece:
        """Return up to `limit` bytes from `offset`, or from the first one behind it that is kept."""
        log = folders.log_file(self._data, session)
        return await _read_consistently(lambda: output_log.read(log, offset, limit)) or Piece(offset, b"")

    async def follow(self, session: str, offset: int) -> AsyncIterator[Piece]:
        """Yield what is there and what comes, looked for while somebody follows."""
        while True:
            found = await self.extent(session)
            piece = await self.read(session, offset, 65536) if found and found.end > offset else None
            if piece and piece.data:
                offset = piece.end
                yield piece
            else:
                await asyncio.sleep(_LOOK)


async def _read_consistently(look: Callable[[], T | None]) -> T | None:
    """Look until the log is not being cut, for a moment: its writer may have died while it did."""
    for pause in (0, *[_CUT_PAUSE] * _CUT_LOOKS):
        await asyncio.sleep(pause)
        if (found := look()) is not None:
            return found
    return None
