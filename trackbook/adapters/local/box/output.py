"""A session's log: bounded, its beginning and its end kept, readable while it grows."""

from __future__ import annotations

import os


class Log:
    """Writes output to a file that never exceeds `limit` bytes.

    Once full, the file keeps its first half and the last quarter, a line between them says how much was left out,
    and writing goes on behind that. A reader sees the file become shorter then, as with a log that is rotated.
    """

    def __init__(self, file: int, limit: int) -> None:
        self._file = file
        self._limit = max(limit, 1024)
        self._size = 0
        self._tail_from = 0
        self.left_out = 0

    def write(self, data: bytes) -> None:
        """Append; what a full disk refuses is left out and counted, since output must never end a task."""
        piece = self._limit // 4
        for start in range(0, len(data), piece):
            self._write(data[start : start + piece])

    def _write(self, data: bytes) -> None:
        try:
            if self._size + len(data) > self._limit:
                self._cut()
            written = 0
            while written < len(data):
                step = os.pwrite(self._file, data[written:], self._size)
                written += step
                self._size += step
        except OSError:
            self.left_out += len(data)

    def _cut(self) -> None:
        head, keep = self._limit // 2, self._limit // 4
        start = self._tail_from or head
        tail = os.pread(self._file, keep, self._size - keep)
        self.left_out += self._size - keep - start
        line = b"\n[trackbook: %d bytes of output are left out here]\n" % self.left_out
        os.ftruncate(self._file, head)
        os.pwrite(self._file, line + tail, head)
        self._tail_from = head + len(line)
        self._size = self._tail_from + len(tail)
