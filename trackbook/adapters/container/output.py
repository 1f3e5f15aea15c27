"""Copy a container's output into a log of bounded size, which can be continued after a crash."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path

from trackbook.adapters.container.client import Client, EngineAway, EngineRefused
from trackbook.adapters.execution.back_off import BackOff
from trackbook.adapters.execution.bounded_log import Log
from trackbook.adapters.execution.output_log import cut_file

_CUT = re.compile(rb"\n\[trackbook: (\d+) bytes of output are left out here\]\n")
_GONE = 404
_AGAIN = 0.5
"""Seconds until an output that broke off is asked for again."""
_TRIES = 6
"""How often it is tried to complete a log, over 10 seconds: an engine that is started again is back by then."""


class SessionLog(Log):
    """The log of sessions, opened again where it stands: `received` counts the bytes that it was given before.

    An engine keeps all of a container's output and sends it from its beginning; so many bytes are passed over.
    """

    def __init__(self, path: Path, limit: int) -> None:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), limit, folder)
        self._size = os.fstat(self._file).st_size
        self.received = self._size
        head = self._limit // 2
        if self._size > head and (cut := _CUT.match(os.pread(self._file, 80, head))):
            self._tail_from = head + cut.end()
            self.left_out = int(cut[1])
            self._dropped = _read_dropped(path, self.left_out)
            self.received += self.left_out - len(cut[0])

    def write(self, data: bytes) -> None:
        """Append; what a full disk refuses is left out and counted."""
        self.received += len(data)
        super().write(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
        os.close(self._folder)


def _read_dropped(path: Path, left_out: int) -> int:
    """Return how many bytes the last cut says are dropped; all that is left out where it can't be read."""
    with suppress(OSError, ValueError, IndexError):
        return int(cut_file(path).read_bytes().split()[1])
    return left_out


class Passing:
    """Passes over what a log has of a stream that begins again, and writes the rest."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._skip = log.received

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._skip < len(data):
            self._log.write(data[self._skip :])
        self._skip = max(0, self._skip - len(data))


async def follow(client: Client, name: str, log: SessionLog) -> None:
    """Write a container's output as it comes, until cancelled; where the engine breaks off, resume later."""
    while True:
        passing = Passing(log)
        with suppress(EngineAway, EngineRefused):
            async for piece in client.output(name, follow=True):
                passing.write(piece)
        await asyncio.sleep(_AGAIN)


async def complete(client: Client, name: str, log: SessionLog) -> str:
    """Write what the log lacks of an ended container's output; return why that can't be had, or ''.

    Following alone is not enough: Docker leaves out a last line without an end, now and then.
    """
    problem = ""
    for pause in BackOff(0.2, 5.0, 3.0, at_once=True).pauses(_TRIES):
        await asyncio.sleep(pause)
        passing = Passing(log)
        try:
            async for piece in client.output(name, follow=False):
                passing.write(piece)
        except EngineRefused as refused:
            problem = str(refused)
            if refused.status == _GONE:
                break
        except EngineAway as away:
            problem = str(away)
        else:
            return ""
    return problem
