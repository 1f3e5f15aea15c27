"""Blobs whose chunks were damaged while the broker was down."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from store_files import StoreFiles

from trackbook.adapters.nats import circuit_breaker
from trackbook.adapters.nats.blobs import CHUNK, NatsBlobs
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.pending_writes import PendingWrites
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import BlobMissing, StoreUnanswered


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


async def test_reads_that_a_connected_broker_never_answers_end_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process keeps its connection, as a server does that is lost in a damaged block."""
    monkeypatch.setattr(circuit_breaker, "PATIENCE", 0.0)
    monkeypatch.setattr(circuit_breaker, "REFUSED_FOR", 0.0)
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        await ensure(nc, initialised=False)
        pending = PendingWrites()
        sha256 = await NatsBlobs(nc).put(b"a body")
        blobs = NatsBlobs(nc, pending=pending)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnanswered, match="has not answered reads of the stream trackbook_blobs"):
                await blobs.get(sha256)
            assert "has not answered reads" in pending.problem()
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert await blobs.get(sha256) == b"a body"
        assert pending.problem() == ""
        await nc.close()
