"""The log and the blobs in memory, for tests of the layers above."""

from __future__ import annotations

import asyncio
import bisect
import hashlib
from collections.abc import AsyncIterator

from trackbook.engine.ports import Append, AppendConflict, BlobMissing, Stored
from trackbook.engine.store_condition import RestoredLimits, StoreCondition, StreamCondition, count_of, ranges_of


class MemoryEventStore:
    """An EventStore in memory; what a broker refuses as a conflict is one here too."""

    def __init__(self) -> None:
        self.commits: list[Stored] = []
        self.problem = ""
        self._lost: set[int] = set()
        self._last: dict[tuple[str, str], int] = {}
        self._news = asyncio.Condition()

    async def append(self, *commits: Append) -> list[int]:
        """Append all or none; the same commit again is found to be there, as after a lost acknowledgement."""
        if (seqs := self._find(commits)) is None:
            for commit in commits:
                if self._last.get((commit.kind, commit.id), 0) != commit.expected_seq:
                    raise AppendConflict(f"{commit.kind} {commit.id}: not at sequence {commit.expected_seq}")
            seqs = [self._store(commit) for commit in commits]
        async with self._news:
            self._news.notify_all()
        return seqs

    def _find(self, commits: tuple[Append, ...]) -> list[int] | None:
        found = []
        for commit in commits:
            behind = (
                c for c in self._from(commit.expected_seq + 1) if (c.kind, c.id) == (commit.kind, commit.id)
            )
            stands = next(behind, None)
            if stands is None or stands.data != commit.data:
                return None
            found.append(stands.seq)
        return found

    def _store(self, commit: Append) -> int:
        seq = self._head() + 1
        self.commits.append(Stored(seq, commit.kind, commit.id, commit.data))
        self._last[commit.kind, commit.id] = seq
        return seq

    def lose(self, seq: int) -> None:
        """Lose a commit, as a broker does whose disk was damaged; its sequence isn't used again."""
        self.commits = [commit for commit in self.commits if commit.seq != seq]
        self._lost.add(seq)

    def _from(self, seq: int) -> list[Stored]:
        return self.commits[bisect.bisect_left(self.commits, seq, key=lambda commit: commit.seq) :]

    def _head(self) -> int:
        return max(self.commits[-1].seq if self.commits else 0, max(self._lost, default=0))

    async def read(self, kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        """Yield one aggregate's commits from a sequence on, in order."""
        for commit in self._from(from_seq):
            if (commit.kind, commit.id) == (kind, id):
                yield commit

    async def read_all(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield all from a sequence on, up to the head at the time of the call."""
        if batch := self._from(from_seq):
            yield batch

    async def tail(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield batches from a sequence on and follow for ever."""
        while True:
            async with self._news:
                while not (batch := self._from(from_seq)):
                    await self._news.wait()
            from_seq = batch[-1].seq + 1
            yield batch

    def unanswered(self, waited: float) -> str:  # noqa: ARG002 - nothing waits here
        """Return ''."""
        return ""

    async def head(self) -> int:
        """Return the last sequence, 0 for none."""
        return self._head()

    async def condition(self) -> StoreCondition:
        """Return which sequences have no commit; blobs are not checked."""
        there = {commit.seq for commit in self.commits}
        missing = ranges_of(seq for seq in range(1, self._head() + 1) if seq not in there)
        events = StreamCondition(
            name="events",
            first=self.commits[0].seq if self.commits else 0,
            last=self._head(),
            messages=len(self.commits),
            missing=missing,
            missing_count=count_of(missing),
        )
        return StoreCondition(events, StreamCondition(name="blobs"))

    async def restore_limits(self) -> list[RestoredLimits]:
        """Return nothing: there are no settings."""
        return []


class MemoryBlobs:
    """Blobs in memory; `writes` counts those that were not there before."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.writes = 0

    async def put(self, data: bytes) -> str:
        """Store and return the SHA-256 in hex."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.writes += sha256 not in self.blobs
        self.blobs[sha256] = data
        return sha256

    async def get(self, sha256: str) -> bytes:
        """Return the bytes; raises BlobMissing."""
        try:
            data = self.blobs[sha256]
        except KeyError:
            raise BlobMissing(f"blob {sha256}: not stored") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobMissing(f"blob {sha256}: damaged or incomplete")
        return data

    async def has(self, sha256: str) -> bool:
        """Return whether a blob is stored completely."""
        return sha256 in self.blobs and hashlib.sha256(self.blobs[sha256]).hexdigest() == sha256
