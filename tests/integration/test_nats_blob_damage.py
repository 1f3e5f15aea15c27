"""Blobs whose chunks were damaged while the broker was down."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from store_files import StoreFiles

from trackbook.adapters.nats.blobs import CHUNK, NatsBlobs
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connect import connect
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import BlobMissing


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[NatsBlobs]:
    """The blobs of a data directory on a broker of its own."""
    async with EmbeddedBroker(data, durability="fast") as broker:
        nc = await connect(broker.engine)
        await ensure(nc, initialised=False)
        yield NatsBlobs(nc)
        await nc.close()


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_damaged_blob_is_stored_again(tmp_path: Path, number: int) -> None:
    """It is not there, whichever of its chunks is damaged; putting it again mends it."""
    data = os.urandom(2 * CHUNK + 1000)
    async with opened(tmp_path) as blobs:
        sha256 = await blobs.put(data)
        other = await blobs.put(b"another one")
    StoreFiles(tmp_path, "trackbook_blobs").flip_in_data(data[number * CHUNK :][:500])

    async with opened(tmp_path) as blobs:
        assert not await blobs.has(sha256)
        assert await blobs.has(other)
        with pytest.raises(BlobMissing, match="damaged or incomplete"):
            await blobs.get(sha256)

        assert await blobs.put(data) == sha256
    async with opened(tmp_path) as blobs:
        assert await blobs.has(sha256)
        assert await blobs.get(sha256) == data
        assert hashlib.sha256(await blobs.get(other)).hexdigest() == other
