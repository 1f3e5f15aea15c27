"""Moments of a test by what other processes have written: a number of lines, not of seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

_LOOK_AGAIN = 0.002


class Steps:
    """Counts the lines of files that other processes append to."""

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._read = dict.fromkeys(files, 0)
        self._lines = 0

    @property
    def count(self) -> int:
        """How many lines there are now."""
        for file, read in self._read.items():
            if file.exists() and file.stat().st_size > read:
                with file.open("rb") as lines:
                    lines.seek(read)
                    new = lines.read()
                self._read[file] += len(new)
                self._lines += new.count(b"\n")
        return self._lines

    async def reach(self, number: int, otherwise: Callable[[], bool] = lambda: False) -> None:
        """Return once there are so many lines, or something else holds after which there may be no more."""
        while self.count < number and not otherwise():  # noqa: ASYNC110 - other processes write the files
            await asyncio.sleep(_LOOK_AGAIN)
