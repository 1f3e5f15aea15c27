"""A session's log: bounded, its beginning and its end kept, readable while it grows."""

from __future__ import annotations

import os


class Log:
    """Writes output to a file that never exceeds `limit` bytes.

    Once full, the file keeps its first half and the last quarter, a line between them says how much was left out,
    and writing continues behind that. The file `log.cut` in `folder` says where the line is, how many bytes were
    dropped there, and what number the line has, so that a reader knows at any time which bytes it has.
    """

    def __init__(self, file: int, limit: int, folder: int) -> None:
        self._file = file
        self._folder = folder
        self._limit = max(limit, 1024)
        self._size = 0
        self._tail_from = 0
        self._dropped = 0
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
        gone = self._size - keep - start
        line = b"\n[trackbook: %d bytes of output are left out here]\n" % (self.left_out + gone)
        self._announce(b"%20d %20d %20d\n" % (head, self._dropped + gone, self.left_out + gone))
        self._dropped += gone
        self.left_out += gone
        os.ftruncate(self._file, head)
        self._size = self._tail_from = head + len(line)
        os.pwrite(self._file, line, head)
        kept = os.pwrite(self._file, tail, self._size)
        self._size += kept
        self.left_out += len(tail) - kept

    def _announce(self, cut: bytes) -> None:
        """Say in `log.cut` what the line about to be written stands for: a reader waits until the two agree."""
        file = os.open("log.cut", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=self._folder)
        try:
            os.pwrite(file, cut, 0)
        finally:
            os.close(file)
