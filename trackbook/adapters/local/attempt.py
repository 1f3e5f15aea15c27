"""An attempt that has a slot: its launcher is watched until it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog

from trackbook.adapters.local import attempt_state
from trackbook.engine.ports import SessionSpec

_log = structlog.get_logger(__name__)
_START_HELD_BACK = 0.05
"""Seconds before a start is reported: a shorter task is reported once, at its end, and saves a commit."""


class Attempt:
    """Watches a launcher by `file`: the pipe that it writes to, or its pidfd if the session is `adopted`.

    `started` is called when the command has run for a moment, `ended` once, when the launcher has ended or never
    came to be. What the launcher says only makes things quick: the truth is on disk. `problem` says why it could
    not run the command.
    """

    def __init__(
        self,
        spec: SessionSpec,
        folder: Path,
        file: int,
        started: Callable[[Attempt], None],
        ended: Callable[[Attempt], None],
        *,
        adopted: bool = False,
    ) -> None:
        self.spec, self.folder, self.adopted = spec, folder, adopted
        self.started_at: datetime | None = attempt_state.read_claim(folder).started_at if adopted else None
        self.problem = ""
        self._file, self._started, self._ended = file, started, ended
        self._text = b""
        self._timer: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(file, self._end if adopted else self._read)

    def unwatch(self) -> None:
        """Stop watching; the session keeps running."""
        asyncio.get_running_loop().remove_reader(self._file)
        os.close(self._file)
        if self._timer:
            self._timer.cancel()

    def _end(self) -> None:
        self.unwatch()
        self._ended(self)

    def _read(self) -> None:
        data = os.read(self._file, 65536)
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self._take(line[:1], line[1:].decode(errors="replace"))
        if not data or any(line[:1] in {b"E", b"T"} for line in lines):
            self._end()

    def _take(self, kind: bytes, text: str) -> None:
        if kind == b"S":
            self.started_at = datetime.fromisoformat(text)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_START_HELD_BACK, self._started, self)
        elif kind == b"X":
            self.problem = text
        elif kind == b"D":
            _log.error(
                "a session's exit record can't be written, trying again", session=self.spec.session, why=text
            )
