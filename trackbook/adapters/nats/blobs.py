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
COUNT = "Trackbook-Chunks"


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
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in self._cache:
            return sha256
        chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
        if not await self._sealed(sha256, len(chunks)):
            numbered = list(enumerate(chunks))
            failpoint("blob.before")
            await asyncio.gather(
                *(self._store(sha256, number, chunk, len(chunks)) for number, chunk in numbered[:-1])
            )
            failpoint("blob.sealing")
            await self._store(sha256, *numbered[-1], len(chunks))
            failpoint("blob.acked")
        self._remember(sha256, data)
        return sha256

    async def get(self, sha256: str) -> bytes:
        """Return the bytes, their digest checked; raises BlobMissing."""
        if (data := self._cache.get(sha256)) is not None:
            self._cache.move_to_end(sha256)
            return data
        found: dict[int, bytes] = {}
        async for batch in walk(self._nc, self._stream, 1, {"next_by_subj": f"{self._prefix}.blob.{sha256}.*"}):
            found |= {_number(message): message.data for message in batch}
        data = b"".join(found[number] for number in sorted(found))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobMissing(f"blob {sha256}: {'damaged or incomplete' if found else 'not stored'}")
        self._remember(sha256, data)
        return data

    async def _sealed(self, sha256: str, count: int) -> bool:
        query = {"last_by_subj": f"{self._prefix}.blob.{sha256}.{count - 1}"}
        while True:
            try:
                answer = await self._nc.ask(f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(query))
            except Unanswered:
                await pause(self._nc, self._stream)
                continue
            return (answer.headers or {}).get(COUNT) == str(count)

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


def _number(message: Msg) -> int:
    return int((message.headers or {})["Nats-Subject"].rpartition(".")[2])
