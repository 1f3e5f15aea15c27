"""What every store of blobs does: the one in memory and the one on a real broker."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connect import connect
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
