"""A log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from trackbook.engine.ports import Append, AppendConflict, BlobMissing, Stored
from trackbook.events.commit import digest


class MemoryStore:
    """Keeps messages in a list; a sequence that is `lost` reads as if it had never been."""

    def __init__(self) -> None:
        self.messages: list[Stored] = []
        self.reads = 0
        self._last: dict[tuple[str, str], int] = {}
        self._more = asyncio.Event()

    async def append(self, *commits: Append) -> list[int]:
        """Append all."""
        for commit in commits:
            if self._last.get((commit.kind, commit.id), 0) != commit.expected_seq:
                raise AppendConflict(commit.id)
        for commit in commits:
            seq = len(self.messages) + 1
            self.messages.append(Stored(seq, commit.kind, commit.id, commit.data))
            self._last[commit.kind, commit.id] = seq
        self._more.set()
        return [message.seq for message in self.messages[-len(commits) :]]

    async def read(self, kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        """Yield one aggregate's commits."""
        self.reads += 1
        for message in self.messages[max(from_seq, 1) - 1 :]:
            if (message.kind, message.id) == (kind, id):
                yield message

    async def read_all(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield batches up to the head at the time of the call."""
        self.reads += 1
        messages = self.messages[max(from_seq, 1) - 1 :]
        for start in range(0, len(messages), 100):
            yield messages[start : start + 100]

    async def tail(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield batches and follow."""
        at = max(from_seq, 1) - 1
        while True:
            if batch := self.messages[at : at + 500]:
                at += len(batch)
                yield batch
            else:
                self._more.clear()
                await self._more.wait()

    async def head(self) -> int:
        """Return the last sequence."""
        return len(self.messages)


class MemoryBlobs:
    """Keeps blobs in a mapping."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        """Store."""
        self.blobs[digest(data)] = data
        return digest(data)

    async def get(self, sha256: str) -> bytes:
        """Return a blob."""
        if sha256 not in self.blobs:
            raise BlobMissing(sha256)
        return self.blobs[sha256]
