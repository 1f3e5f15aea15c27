"""A log stream that never fails, even when stderr is closed or full."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO})
"""A reader that has gone and a terminal that was hung up don't come back; a full disk may get room again."""
_PIECE = 4096
"""Bytes that a pipe takes without blocking when it takes any (PIPE_BUF)."""
_PATIENCE = 0.2
"""Seconds to wait for a slow reader, once; after that lines are dropped until it reads again."""


class LogWriter(io.TextIOBase):
    """Writes to `stream`, unbuffered, and to the stream that `fallback` opens where that fails.

    Never raises and never waits for long: what neither takes is dropped and counted in `dropped`.
    """

    def __init__(self, stream: TextIO | None, fallback: Callable[[], TextIO] | None = None) -> None:
        self._stream, self._fallback = stream, fallback
        self._second: TextIO | None = None
        self._lock = threading.RLock()
        self._slow = self._torn = False
        self.dropped = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """UTF-8: what can't be encoded is escaped."""
        return "utf-8"

    def isatty(self) -> bool:
        """Whether a person reads along."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Return the descriptor below; raises OSError where there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def writable(self) -> bool:
        """Yes, always."""
        return True

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Close what the fallback opened; `stream` belongs to others."""
        second, self._second = self._second, None
        if second is not None:
            with contextlib.suppress(OSError, ValueError):
                second.close()
        super().close()

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        with self._lock:
            if not (self._first_takes(text) or self._second_takes(text)):
                self.dropped += 1
        return len(text)

    def _first_takes(self, text: str) -> bool:
        if self._stream is None:
            return False
        try:
            self._put(self._stream, text)
        except OSError as problem:
            if problem.errno in _GONE:
                self._stream = None
            return False
        except ValueError:  # it was closed
            self._stream = None
            return False
        return True

    def _second_takes(self, text: str) -> bool:
        try:
            if self._second is None:
                if self._fallback is None:
                    return False
                self._second = self._fallback()
            self._second.write(text)
            self._second.flush()
        except (OSError, ValueError):
            self._second = None  # a buffer that could not be written would be written twice
            return False
        return True

    def _put(self, stream: TextIO, text: str) -> None:
        try:
            descriptor = stream.fileno()
        except io.UnsupportedOperation:  # in memory
            stream.write(text)
            return
        data = memoryview(("\n" * self._torn + text).encode("utf-8", "backslashreplace"))
        while data:
            self._wait(descriptor)
            written = os.write(descriptor, data[:_PIECE])
            self._torn = written < len(data)
            data = data[written:]

    def _wait(self, descriptor: int) -> None:
        """Raise BlockingIOError where a write would block: a terminal that was stopped, a pipe nobody empties."""
        look = select.poll()
        look.register(descriptor, select.POLLOUT)
        ready = bool(look.poll(0 if self._slow else _PATIENCE * 1000))
        self._slow = not ready
        if not ready:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
