"""Blobs in a stream of their own: content-addressed, in chunks, whole as soon as the last chunk is there."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Any

import msgspec
import structlog

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import FULL, StoreFull, Unanswered
from trackbook.adapters.nats.pending_writes import Keeper, PendingWrite, PendingWrites, no_keeper
from trackbook.adapters.nats.reads import BrokerUnanswered, pause, pause_within
from trackbook.adapters.nats.streams import blobs_stream
from trackbook.engine.ports import BlobMissing
from trackbook.failpoints import failpoint

CHUNK = 256 << 10  # bytes
CACHE = 32 << 20  # bytes kept in memory, the least recently used go first
ANSWER = 10.0  # seconds for one acknowledgement
HAVE_IT = frozenset({10071, 10164})  # wrong last sequence: the chunk is there, and its name is its content
ASIDE = 1 << 20  # bytes; the digest of more is not computed on the event loop
COUNT = "Trackbook-Chunks"
AT_ONCE = 16
"""Chunks of a blob that are on their way at once; more wait, so that a large blob fills no buffer."""

log = structlog.get_logger("trackbook.blobs")


class BlobRefused(Exception):
    """The broker doesn't store this blob: says why."""


class NatsBlobs:
    """The Blobs port on a connection; a chunk is the message `<prefix>.blob.<sha256>.<n>`.

    `pending` takes note of what waits for the broker.
    """

    def __init__(
        self,
        nc: Connection,
        prefix: str = "trackbook",
        *,
        keeper: Keeper = no_keeper,
        pending: PendingWrites | None = None,
    ) -> None:
        self._pending = pending or PendingWrites()
        self._nc, self._prefix, self._stream, self._keeper = nc, prefix, blobs_stream(prefix), keeper
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached = 0
        self._whole: set[str] = set()

    async def put(self, data: bytes) -> str:
        """Store, and return the SHA-256 in hex once acknowledged.

        Raises BlobRefused, StoreFull, StoreUnanswered.

        The last chunk is sent when all others are acknowledged: where it is, the blob was whole once. What was
        found stored is read, and stored again if it is damaged.
        """
        sha256 = await _digest(data)
        if sha256 in self._whole:
            return sha256
        count = max(1, -(-len(data) // CHUNK))
        found = await self._sealed(sha256, count) or await self._store_all(sha256, data, count)
        if found and not await self._readable(sha256):
            log.warning("blob.damaged", sha256=sha256, hint="it is stored again")
            await self._store_all(sha256, data, count, again=True)
        self._remember(sha256, data)
        return sha256

    async def _store_all(self, sha256: str, data: bytes, count: int, *, again: bool = False) -> bool:
        """Store all chunks, some at once and the last one alone, and return whether one was there already.

        Raises the first failure.
        """
        failpoint("blob.before")
        numbers = iter(range(count - 1))
        found = False

        async def store(number: int) -> None:
            nonlocal found
            chunk = data[number * CHUNK : (number + 1) * CHUNK]
            found |= await self._store(sha256, number, chunk, count, again=again)

        async def store_some() -> None:
            for number in numbers:
                await store(number)

        await asyncio.gather(*(store_some() for _ in range(min(AT_ONCE, count - 1))))
        failpoint("blob.sealing")
        await store(count - 1)
        failpoint("blob.acked")
        return found

    async def get(self, sha256: str) -> bytes:
        """Return the bytes, their digest checked; raises BlobMissing, StoreUnanswered."""
        if (data := self._cache.get(sha256)) is not None:
            self._cache.move_to_end(sha256)
            return data
        found: dict[int, bytes] = {}
        subject = f"{self._prefix}.blob.{sha256}.*"
        async for batch in self._pending.reads.walk(self._nc, self._stream, 1, subject):
            found |= {int(message.id): message.data for message in batch}
        data = b"".join(found.pop(number) for number in sorted(found))
        if await _digest(data) != sha256:
            raise BlobMissing(f"blob {sha256}: {'damaged or incomplete' if data else 'not stored'}")
        self._remember(sha256, data)
        return data

    async def has(self, sha256: str) -> bool:
        """Tell whether the blob is stored whole. It is read once, since a damaged chunk shows only then."""
        if sha256 in self._whole:
            return True
        count = await self._count(sha256, 0)
        return count > 0 and await self._sealed(sha256, count) and await self._readable(sha256)

    async def _readable(self, sha256: str) -> bool:
        try:
            await self.get(sha256)
        except BlobMissing:
            return False
        return True

    async def _sealed(self, sha256: str, count: int) -> bool:
        return await self._count(sha256, count - 1) == count

    async def _count(self, sha256: str, number: int) -> int:
        """Return how many chunks the blob has, as a stored chunk says; 0 where that is not stored."""
        subject = f"{self._prefix}.blob.{sha256}.{number}"
        query = msgspec.json.encode({"last_by_subj": subject})
        began = time.monotonic()
        with self._pending.reads.attempt(self._nc, subject) as patience:
            while True:
                try:
                    answer = await self._nc.ask(f"$JS.API.DIRECT.GET.{self._stream}", query)
                except Unanswered:
                    await pause_within(self._nc, self._stream, began, patience)
                    continue
                return int((answer.headers or {}).get(COUNT) or 0)

    async def _store(self, sha256: str, number: int, chunk: bytes, count: int, *, again: bool) -> bool:
        """Store a chunk where there is none, or `again` behind it; return whether it was there."""
        subject = f"{self._prefix}.blob.{sha256}.{number}"
        headers = {COUNT: str(count)}
        if not again:
            headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        writes = f"writes to {self._stream}"
        with (
            self._pending.write() as wait,
            self._pending.reads.attempt(self._nc, writes, refuses=False) as patience,
        ):
            return await self._insist(subject, chunk, headers, wait, patience)

    async def _insist(
        self, subject: str, chunk: bytes, headers: dict[str, str], wait: PendingWrite, patience: float
    ) -> bool:
        """Store a chunk and return whether it was there; raises BrokerUnanswered: then it may be stored."""
        began = time.monotonic()
        while True:
            try:
                answer = await self._nc.ask(subject, chunk, headers, ANSWER)
            except Unanswered as error:
                wait.why = str(error)
                fault = {"err_code": 0}  # sent again: if it was stored, the expected sequence says so
            else:
                fault = msgspec.json.decode(answer.data).get("error")
            if not fault or fault["err_code"] in HAVE_IT:
                return bool(fault)
            await self._raise_if_hopeless(fault)
            await self._pause(began, wait, patience)

    async def _pause(self, began: float, wait: PendingWrite, patience: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, began + patience - time.monotonic())):
                await pause(self._nc, self._stream)
        except TimeoutError:
            waited = time.monotonic() - began
            message = f"the broker has not acknowledged a part of a large body for {waited:.0f} s: {wait.why}"
            raise BrokerUnanswered(message, "Its log in the data directory says why; then try again.") from None

    async def _raise_if_hopeless(self, fault: dict[str, Any]) -> None:
        code = fault["err_code"]
        if code and code not in FULL:
            raise BlobRefused(f"a blob isn't stored: {fault['description']} ({code})")
        if self._nc.is_connected and (hopeless := await self._keeper(code in FULL)):
            raise StoreFull(hopeless)

    def _remember(self, sha256: str, data: bytes) -> None:
        self._whole.add(sha256)
        if len(data) > CACHE or sha256 in self._cache:
            return
        self._cache[sha256] = data
        self._cached += len(data)
        while self._cached > CACHE:
            self._cached -= len(self._cache.popitem(last=False)[1])


async def _digest(data: bytes) -> str:
    if len(data) > ASIDE:
        return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
    return hashlib.sha256(data).hexdigest()
