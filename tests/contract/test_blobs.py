"""What every store of blobs does: the one in memory and the one on a real broker."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from trackbook.adapters.nats.blobs import AT_ONCE, CHUNK, COUNT, NatsBlobs
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import BlobMissing, Blobs
from trackbook.testing.store import MemoryBlobs


@pytest.fixture(params=["memory", "nats"])
async def blobs(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Blobs]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield MemoryBlobs()
        return
    broker: EmbeddedBroker = request.getfixturevalue("broker")
    nc = await connect(broker.engine)
    await ensure(nc, prefix, initialised=False)
    yield NatsBlobs(nc, prefix)
    await nc.close()


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 5_000_000])
async def test_what_was_put_is_got(blobs: Blobs, size: int) -> None:
    """Bytes of any size come back the same, under their SHA-256."""
    data = os.urandom(size)

    sha256 = await blobs.put(data)

    assert sha256 == hashlib.sha256(data).hexdigest()
    assert await blobs.get(sha256) == data


async def test_unknown_is_missing(blobs: Blobs) -> None:
    """A digest that nobody put is missing, not empty."""
    with pytest.raises(BlobMissing):
        await blobs.get(hashlib.sha256(b"never").hexdigest())


async def test_many_writers_of_the_same(blobs: Blobs) -> None:
    """Writers of the same bytes at the same time all succeed."""
    data = os.urandom(700_000)

    digests = await asyncio.gather(*(blobs.put(data) for _ in range(5)))

    assert set(digests) == {hashlib.sha256(data).hexdigest()}
    assert await blobs.get(digests[0]) == data


async def test_a_blob_is_there_once_it_is_whole(blobs: Blobs) -> None:
    """`has` tells of what was put, of any size, and of nothing else."""
    stored = [await blobs.put(os.urandom(size)) for size in (0, 10, 600_000)]

    assert [await blobs.has(sha256) for sha256 in stored] == [True, True, True]
    assert not await blobs.has(hashlib.sha256(b"never").hexdigest())


async def test_a_blob_of_which_the_end_is_missing_is_not_there(broker: EmbeddedBroker, prefix: str) -> None:
    """What a writer that died has left of a blob is no blob: another one puts it whole."""
    nc = await connect(broker.engine)
    await ensure(nc, prefix, initialised=False)
    data = os.urandom(600_000)
    sha256 = hashlib.sha256(data).hexdigest()
    await nc.ask(f"{prefix}.blob.{sha256}.0", data[:CHUNK], {COUNT: "3"})

    assert not await NatsBlobs(nc, prefix).has(sha256)
    assert await NatsBlobs(nc, prefix).put(data) == sha256
    assert await NatsBlobs(nc, prefix).has(sha256)
    assert await NatsBlobs(nc, prefix).get(sha256) == data
    await nc.close()


async def test_few_chunks_are_on_their_way_at_once(
    broker: EmbeddedBroker, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large blob does not fill the connection's buffers."""
    nc = await connect(broker.engine)
    await ensure(nc, prefix, initialised=False)
    blobs = NatsBlobs(nc, prefix)
    store, now, most = blobs._store, 0, 0

    async def counted(sha256: str, number: int, chunk: bytes, count: int, *, again: bool) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        found = await store(sha256, number, chunk, count, again=again)
        now -= 1
        return found

    monkeypatch.setattr(blobs, "_store", counted)
    data = os.urandom(40 * CHUNK + 1)

    assert await blobs.get(await blobs.put(data)) == data
    assert most == AT_ONCE
    await nc.close()
