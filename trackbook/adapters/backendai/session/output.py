"""The local copy of a session's output: followed while it runs, completed at its end, bounded like local logs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO

from trackbook.adapters.backendai.session.exit_record import SessionRecord
from trackbook.adapters.execution import logs
from trackbook.adapters.execution.output_log import NOTE, cut_file

LIMIT = 16 * 2**20
_PIECE = 2**20
_LINE = 80
"""Bytes that the line about what is left out takes at most."""

Read = Callable[[int, int], Awaitable[bytes | None]]
"""Reads so many bytes of the output from an offset on."""


class Output:
    """Once full, the file has the first half of `limit` bytes, what is left out in words, and the latest quarter.

    What an earlier executor copied is continued if nothing is left out of it, else it is copied again.
    One copy is made at a time: two that read from the same offset would both write what they read.
    """

    def __init__(self, path: Path, read: Read, limit: int = LIMIT) -> None:
        self._path = path
        self._read = read
        self._limit = limit
        self.offset = 0
        self._size = 0
        self._head = 0
        self._tail_from = 0
        self._left_out = 0
        self._fresh = True
        self._copying = asyncio.Lock()
        with contextlib.suppress(OSError):
            if path.stat().st_size <= limit // 2 and NOTE[:12] not in (copied := path.read_bytes()):
                self.offset = self._size = len(copied)
                self._fresh = False

    async def catch_up(self, until: int | None = None) -> None:
        """Copy what came since, all of it or up to an offset. Raises ClusterError."""
        async with self._copying:
            await self._catch_up(until)

    async def _catch_up(self, until: int | None) -> None:
        while until is None or self.offset < until:
            data = await self._read(self.offset, _PIECE if until is None else min(_PIECE, until - self.offset))
            if not data:
                return
            self._write(data)
            self.offset += len(data)
            if until is None and len(data) < _PIECE:
                return

    async def complete(self, record: SessionRecord) -> None:
        """Copy the rest, with what the exit record has of it. Raises ClusterError."""
        async with self._copying:
            await self._complete(record)

    async def _complete(self, record: SessionRecord) -> None:
        begins = record.size - len(record.tail)
        if self.offset > record.size:  # it began again in between
            self._skip(0)
            self.offset = 0
        if self.offset < begins:
            await self._catch_up(min(begins, max(self.offset, self._limit // 2)))
            if (
                record.size > self._limit and begins - self.offset > self._limit // 4
            ):  # its beginning and end will do
                self._skip(begins - self._limit // 4 - self.offset)
                self.offset = begins - self._limit // 4
            await self._catch_up(begins)
        self.finish(record)

    def finish(self, record: SessionRecord) -> None:
        """Add what the exit record has, whatever is missing before it."""
        begins = record.size - len(record.tail)
        if self.offset < begins:
            self._skip(begins - self.offset)
            self.offset = begins
        self._write(record.tail[self.offset - begins :])
        self.offset = record.size

    def add(self, text: str) -> None:
        """Add what another source has of the output, where there is nothing."""
        if not self._size:
            self._write(text.encode())

    def tail(self) -> str:
        """Return the end of the output (see `logs.tail`)."""
        return logs.tail(self._path)

    def _skip(self, count: int) -> None:
        """Leave bytes out that can't be had any more."""
        self._cut(count)

    def _write(self, data: bytes) -> None:
        piece = self._limit // 4
        with contextlib.suppress(OSError):  # a full disk must not end a session
            for start in range(0, len(data), piece):
                part = data[start : start + piece]
                if self._size + len(part) > self._limit:
                    self._cut(0)
                with self._open() as file:
                    file.seek(self._size)
                    file.write(part)
                self._size += len(part)

    def _cut(self, missing: int) -> None:
        """Drop the middle of what there is, or say that `missing` bytes never came."""
        with self._open() as file:
            head = self._head if self._tail_from else min(self._size, self._limit // 2)
            start = self._tail_from or head
            keep = 0 if missing else min(self._limit // 4 - _LINE, self._size - start)
            file.seek(self._size - keep)
            tail = file.read(keep)
            self._left_out += self._size - keep - start + missing
            line = NOTE % self._left_out
            cut_file(self._path).write_bytes(b"%20d %20d %20d\n" % (head, self._left_out, self._left_out))
            file.truncate(head)
            file.seek(head)
            file.write(line + tail)
        self._head = head
        self._tail_from = head + len(line)
        self._size = self._tail_from + len(tail)

    def _open(self) -> IO[bytes]:
        if self._fresh:
            self._fresh = False
            self._path.parent.mkdir(parents=True, exist_ok=True)
            cut_file(self._path).unlink(missing_ok=True)
            return self._path.open("w+b")
        return self._path.open("r+b")
