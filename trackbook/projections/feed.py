"""The most recently projected commits, in one buffer that all followers share."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trackbook.projections.decoded_commit import DecodedCommit

_HELD_BYTES = 4 << 20
_HELD_COMMITS = 4096


class Signal:
    """Wakes all who wait for it, as often as it is fired."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def fire(self) -> None:
        """Wake those who wait now."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        """Return when it is fired next."""
        await self._event.wait()


class Feed:
    """The last commits that were projected. A reader keeps its own place; one that falls behind reads the log."""

    def __init__(self) -> None:
        self.head = 0
        self.closed = False
        self.listeners = 0
        self._commits: deque[DecodedCommit] = deque()
        self._bytes = 0
        self._begin = 1
        self._moved = Signal()

    def publish(self, commits: Sequence[DecodedCommit], head: int) -> None:
        """Add commits that are projected now; everything up to `head` is."""
        self.head = head
        for commit in commits:
            commit.events = []  # a reader shows the stored bytes; the typed events have done their work
            self._commits.append(commit)
            self._bytes += len(commit.data) + len(commit.states)
        while self._commits and (self._bytes > _HELD_BYTES or len(self._commits) > _HELD_COMMITS):
            gone = self._commits.popleft()
            self._bytes -= len(gone.data) + len(gone.states)
            self._begin = gone.seq + 1
        self._moved.fire()

    def restart(self, head: int) -> None:
        """Begin again from a checkpoint: what came before is on the log."""
        self._commits.clear()
        self._bytes, self._begin, self.head = 0, head + 1, head
        self._moved.fire()

    def close(self) -> None:
        """Let all who follow end."""
        self.closed = True
        self._moved.fire()

    def since(self, seq: int) -> list[DecodedCommit] | None:
        """Return the commits after a sequence, or None where the log must be read since they are held no more."""
        if seq + 1 < self._begin:
            return None
        start = bisect_right(self._commits, seq, key=lambda commit: commit.seq)
        return [self._commits[index] for index in range(start, len(self._commits))]

    @property
    def begin(self) -> int:
        """The first sequence that is held in memory."""
        return self._begin

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count as one who follows: while there is one, commits are projected without delay."""
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    async def moved(self) -> None:
        """Return when more was projected, or the feed was closed."""
        if not self.closed:
            await self._moved.wait()
