"""Blobs in a stream: written once, whole or missing, and completed after an interruption."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest
from conditions import holds
from msgspec.structs import replace

from trackbook.adapters.nats import blobs as module
from trackbook.adapters.nats import circuit_breaker, pending_writes
from trackbook.adapters.nats.blobs import CHUNK, COUNT, BlobRefused, NatsBlobs
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import StoreFull
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.streams import StreamMissing, ensure
from trackbook.engine.ports import BlobMissing, StoreUnanswered
from trackbook.testing.proxy import Proxy


@pytest.fixture
async def blobs(nc: Connection, prefix: str) -> NatsBlobs:
    """An empty store of blobs."""
    await ensure(nc, prefix, initialised=False)
    return NatsBlobs(nc, prefix)


async def stored(nc: Connection, prefix: str) -> int:
    """How many chunks the stream holds."""
    return int((await api(nc, f"STREAM.INFO.{prefix}_blobs"))["state"]["messages"])


async def store_chunk(nc: Connection, prefix: str, data: bytes, number: int) -> None:
    """Store one chunk of a blob, as an interrupted writer has."""
    count = -(-len(data) // CHUNK)
    subject = f"{prefix}.blob.{hashlib.sha256(data).hexdigest()}.{number}"
    await nc.ask(subject, data[number * CHUNK : (number + 1) * CHUNK], {COUNT: str(count)})


async def test_a_blob_is_written_once(blobs: NatsBlobs, nc: Connection, prefix: str) -> None:
    """What is there already is not written again, by this process or another, of one chunk or many."""
    large, small = os.urandom(3 * CHUNK), b"small"
    await blobs.put(large)
    await blobs.put(small)
    assert await stored(nc, prefix) == 4

    for again in (blobs, NatsBlobs(nc, prefix)):
        await again.put(large)
        await again.put(small)

    assert await stored(nc, prefix) == 4


async def test_an_interrupted_blob_is_missing_until_completed(
    blobs: NatsBlobs, nc: Connection, prefix: str
) -> None:
    """Half a blob is no blob; writing it again adds what lacks."""
    data = os.urandom(3 * CHUNK)
    sha256 = hashlib.sha256(data).hexdigest()
    await store_chunk(nc, prefix, data, 1)
    with pytest.raises(BlobMissing, match="incomplete"):
        await blobs.get(sha256)

    await blobs.put(data)

    assert await stored(nc, prefix) == 3
    assert await NatsBlobs(nc, prefix).get(sha256) == data


async def test_wrong_bytes_are_no_blob(blobs: NatsBlobs, nc: Connection, prefix: str) -> None:
    """Bytes that don't have the digest under which they stand are not handed out."""
    sha256 = hashlib.sha256(b"right").hexdigest()
    await nc.ask(f"{prefix}.blob.{sha256}.0", b"wrong", {COUNT: "1"})

    with pytest.raises(BlobMissing, match="damaged"):
        await blobs.get(sha256)


async def test_what_was_read_is_kept_in_memory(blobs: NatsBlobs, nc: Connection) -> None:
    """A blob that was put or got before is read without a question to the broker."""
    sha256 = await blobs.put(b"often")
    asked = nc.stats["out_msgs"]

    assert await blobs.get(sha256) == b"often"
    await blobs.put(b"often")

    assert nc.stats["out_msgs"] == asked


async def test_memory_is_bounded(blobs: NatsBlobs, nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used blobs leave memory first, and are read again when wanted."""
    monkeypatch.setattr(module, "CACHE", 1000)
    first, second = [await blobs.put(bytes([number]) * 400) for number in range(2)]
    await blobs.get(first)
    third = await blobs.put(b"x" * 400)
    asked = nc.stats["out_msgs"]
    await blobs.get(first)
    await blobs.get(third)
    assert nc.stats["out_msgs"] == asked

    assert await blobs.get(second) == b"\x01" * 400
    assert nc.stats["out_msgs"] > asked
    assert len(await blobs.get(await blobs.put(bytes(5000)))) == 5000


async def test_no_room_is_reported_in_words(blobs: NatsBlobs, nc: Connection, prefix: str) -> None:
    """A full store refuses a blob with words."""
    config = (await api(nc, f"STREAM.INFO.{prefix}_blobs"))["config"]
    await api(nc, f"STREAM.UPDATE.{prefix}_blobs", config | {"max_bytes": 1000})

    with pytest.raises(StoreFull, match="no room"):
        await blobs.put(os.urandom(5000))


async def test_what_waits_is_noted(
    broker: EmbeddedBroker, prefix: str, nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that can't be stored shows as a write that waits, since when and why."""
    await ensure(nc, prefix, initialised=False)
    monkeypatch.setattr(module, "ANSWER", 0.1)
    monkeypatch.setattr(pending_writes, "NOTED_AFTER", 0)
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        through = await connect(replace(broker.engine, url=proxy.url))
        pending = pending_writes.PendingWrites()
        blobs = NatsBlobs(through, prefix, pending=pending)
        assert not await blobs.has(hashlib.sha256(b"x").hexdigest())
        monkeypatch.setattr(blobs, "_sealed", _never)
        proxy.deaf = True
        putting = asyncio.create_task(blobs.put(b"x"))
        await holds(lambda: pending.problem().endswith("UTC: no answer in time"))

        proxy.cut()

        await putting
        assert pending.problem() == ""
        await through.close()


async def test_a_part_that_is_not_acknowledged_ends_in_words(
    broker: EmbeddedBroker, prefix: str, nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that a broker leaves unanswered is given up, and put again later: its name is its content."""
    await ensure(nc, prefix, initialised=False)
    monkeypatch.setattr(module, "ANSWER", 0.1)
    monkeypatch.setattr(circuit_breaker, "PATIENCE", 0.0)
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        through = await connect(replace(broker.engine, url=proxy.url))
        blobs = NatsBlobs(through, prefix)
        monkeypatch.setattr(blobs, "_sealed", _never)
        proxy.deaf = True
        with pytest.raises(StoreUnanswered, match="has not acknowledged a part of a large body"):
            await blobs.put(b"x")
        monkeypatch.undo()
        proxy.cut()

        assert await blobs.get(await blobs.put(b"x")) == b"x"
        await through.close()


async def _never(sha256: str, count: int) -> bool:
    return False


async def test_what_the_broker_forbids_is_reported(blobs: NatsBlobs, nc: Connection, prefix: str) -> None:
    """Any other refusal of the broker is passed on, not repeated for ever."""
    config = (await api(nc, f"STREAM.INFO.{prefix}_blobs"))["config"]
    await api(nc, f"STREAM.UPDATE.{prefix}_blobs", config | {"max_msg_size": 1000})

    with pytest.raises(BlobRefused, match="maximum allowed"):
        await blobs.put(os.urandom(5000))


async def test_a_blob_is_for_everybody(broker: EmbeddedBroker, blobs: NatsBlobs, prefix: str) -> None:
    """Another connection reads what one has put."""
    data = os.urandom(2 * CHUNK + 1)
    sha256 = await blobs.put(data)
    other = await connect(broker.engine)

    assert await NatsBlobs(other, prefix).get(sha256) == data
    await other.close()


async def test_a_removed_stream_is_missed(blobs: NatsBlobs, nc: Connection, prefix: str) -> None:
    """Without its stream of blobs, writing and reading fail with words instead of waiting for ever."""
    await api(nc, f"STREAM.DELETE.{prefix}_blobs")

    with pytest.raises(StreamMissing, match=f"{prefix}_blobs"):
        await blobs.put(b"x")
    with pytest.raises(StreamMissing, match=f"{prefix}_blobs"):
        await blobs.get(hashlib.sha256(b"y").hexdigest())
