"""Blobs in a stream of their own: content-addressed, in chunks, whole as soon as the last chunk is there."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Any

import msgspec
from nats.aio.msg import Msg

from trackbook.adapters.nats.connect import FULL, Connection, Keeper, StoreFull, Unanswered, no_keeper
from trackbook.adapters.nats.reads import pause, walk
from trackbook.adapters.nats.streams import blobs_stream
from trackbook.engine.ports import BlobMissing
from trackbook.failpoints import failpoint

CHUNK = 256 << 10  # bytes
CACHE = 32 << 20  # bytes kept in memory, the least recently used go first
PATIENCE = 10.0  # seconds for one acknowledgement
HAVE_IT = frozenset({10071, 10164})  # wrong last sequence: the chunk is there, and its name is its content
ASIDE = 1 << 20  # bytes; the digest of more is not computed on the event loop
COUNT = "Trackbook-Chunks"
AT_ONCE = 16
"""Chunks of a blob that are on their way at once; more wait, so that a large blob fills no buffer."""


class BlobRefused(Exception):
    """The broker doesn't store this blob: says why."""


class NatsBlobs:
    """The Blobs port on a connection; a chunk is the message `<prefix>.blob.<sha256>.<n>`."""

    def __init__(self, nc: Connection, prefix: str = "trackbook", *, keeper: Keeper = no_keeper) -> None:
        self._nc, self._prefix, self._stream, self._keeper = nc, prefix, blobs_stream(prefix), keeper
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached = 0

    async def put(self, data: bytes) -> str:
        """Store, and return the SHA-256 in hex once acknowledged; raises BlobRefused, StoreFull.

        The last chunk is sent when all others are acknowledged: where it stands, the blob is whole.
        """
        sha256 = await _digest(data)
        if sha256 in self._cache:
            return sha256
        count = max(1, -(-len(data) // CHUNK))
        if not await self._sealed(sha256, count):
            failpoint("blob.before")
            await self._store_all(sha256, data, count)
            failpoint("blob.sealing")
            await self._store(sha256, count - 1, data[(count - 1) * CHUNK :], count)
            failpoint("blob.acked")
        self._remember(sha256, data)
        return sha256

    async def _store_all(self, sha256: str, data: bytes, count: int) -> None:
        """Store all chunks but the last one, some at once; raises the first failure."""
        numbers = iter(range(count - 1))

        async def store() -> None:
            for number in numbers:
                await self._store(sha256, number, data[number * CHUNK : (number + 1) * CHUNK], count)

        await asyncio.gather(*(store() for _ in range(min(AT_ONCE, count - 1))))

    async def get(self, sha256: str) -> bytes:
        """Return the bytes, their digest checked; raises BlobMissing."""
        if (data := self._cache.get(sha256)) is not None:
            self._cache.move_to_end(sha256)
            return data
        found: dict[int, bytes] = {}
        async for batch in walk(self._nc, self._stream, 1, {"next_by_subj": f"{self._prefix}.blob.{sha256}.*"}):
            found |= {_number(message): message.data for message in batch}
        data = b"".join(found.pop(number) for number in sorted(found))
        if await _digest(data) != sha256:
            raise BlobMissing(f"blob {sha256}: {'damaged or incomplete' if data else 'not stored'}")
        self._remember(sha256, data)
        return data

    async def has(self, sha256: str) -> bool:
        """Tell whether the blob is stored whole: its first chunk says how many there are."""
        if sha256 in self._cache:
            return True
        count = await self._count(sha256, 0)
        return count > 0 and await self._sealed(sha256, count)

    async def _sealed(self, sha256: str, count: int) -> bool:
        return await self._count(sha256, count - 1) == count

    async def _count(self, sha256: str, number: int) -> int:
        """Return how many chunks the blob has, as a stored chunk says; 0 where that is not stored."""
        query = {"last_by_subj": f"{self._prefix}.blob.{sha256}.{number}"}
        while True:
            try:
                answer = await self._nc.ask(f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(query))
            except Unanswered:
                await pause(self._nc, self._stream)
                continue
            return int((answer.headers or {}).get(COUNT) or 0)

    async def _store(self, sha256: str, number: int, chunk: bytes, count: int) -> None:
        subject = f"{self._prefix}.blob.{sha256}.{number}"
        headers = {"Nats-Expected-Last-Subject-Sequence": "0", COUNT: str(count)}
        while True:
            try:
                answer = await self._nc.ask(subject, chunk, headers, PATIENCE)
            except Unanswered:
                fault = {"err_code": 0}  # sent again: if it was stored, the expected sequence says so
            else:
                fault = msgspec.json.decode(answer.data).get("error")
            if not fault or fault["err_code"] in HAVE_IT:
                return
            await self._judge(fault)
            await pause(self._nc, self._stream)

    async def _judge(self, fault: dict[str, Any]) -> None:
        code = fault["err_code"]
        if code and code not in FULL:
            raise BlobRefused(f"a blob isn't stored: {fault['description']} ({code})")
        if self._nc.is_connected and (hopeless := await self._keeper(code in FULL)):
            raise StoreFull(hopeless)

    def _remember(self, sha256: str, data: bytes) -> None:
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


def _number(message: Msg) -> int:
    return int((message.headers or {})["Nats-Subject"].rpartition(".")[2])
