"""Reads of a stream of which the broker can't read a block any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from store_files import StoreFiles

from trackbook.adapters.nats import circuit_breaker, reads
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.reads import BrokerUnanswered
from trackbook.adapters.nats.server_process import memory_limit
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import Append

BLOCK = 8 << 20
"""Bytes of a block, about."""


async def fill(nc: Connection, store: NatsEventStore) -> int:
    """Store a commit of `one`, then others until there are three blocks; return the last sequence."""
    await ensure(nc, initialised=False)
    (seq,) = await store.append(Append("pipeline", "one", 0, b"{}", "one"))
    for number in range(3 * BLOCK // 400_000):
        (seq,) = await store.append(Append("pipeline", f"p{number}", 0, os.urandom(400_000), f"m{number}"))
    return seq


@pytest.mark.parametrize("from_seq", [1, 2])
async def test_a_read_that_the_broker_leaves_unanswered_ends_by_the_leaders_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_seq: int
) -> None:
    """What was in the block is not there; what stands behind it is read, by history and by sequence."""
    monkeypatch.setattr(reads, "ANSWER", 0.5)
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        last = await fill(nc, NatsEventStore(nc))
        await nc.close()
    first, *others = StoreFiles(tmp_path, "trackbook_events").blocks
    assert len(others) > 1
    first.unlink()
    first.mkdir()

    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        store = NatsEventStore(nc)
        assert [each async for each in store.read("pipeline", "one", from_seq)] == []
        assert bool(nc.unanswered_batches) == (from_seq > 1)
        assert [each.seq async for each in store.read("pipeline", f"p{last - 2}", last)] == [last]
        assert [[each.seq for each in batch] async for batch in store.read_all(last)] == [[last]]
        await nc.close()


async def test_a_stream_that_leaves_a_batch_unanswered_is_waited_for_shortly_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second history of an unreadable block costs a fraction of what the first one costs."""
    asked: list[float] = []
    whole = reads.direct

    async def noted(nc: Connection, stream: str, query: dict[str, object], timeout: float) -> object:
        asked.append(timeout)
        return await whole(nc, stream, query, timeout)

    monkeypatch.setattr(reads, "direct", noted)
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        await fill(nc, NatsEventStore(nc))
        nc.unanswered_batches["trackbook_events"] = time.monotonic()
        assert [each.seq async for each in NatsEventStore(nc).read("pipeline", "one")] == [1]
        nc.unanswered_batches.clear()
        assert [each.seq async for each in NatsEventStore(nc).read("pipeline", "one")] == [1]
        await nc.close()
    assert asked == [reads.SOON, reads.ANSWER]


async def test_a_read_waits_for_a_broker_that_is_away_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that can't be started again, since a damaged block has it take all memory it may have, say."""
    monkeypatch.setattr(circuit_breaker, "PATIENCE", 0.2)
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        store = NatsEventStore(nc)
        await fill(nc, store)
        await broker.stop()
        with pytest.raises(BrokerUnanswered, match="the broker is away"):
            assert [each async for each in store.read("pipeline", "one")]
        await nc.close()


async def test_the_broker_may_not_take_all_memory(tmp_path: Path) -> None:
    """nats-server 2.15.1 took 22 GB over one flipped bit."""
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        limits = Path(f"/proc/{broker.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max data size"))
    assert line.split()[3:5] == [str(memory_limit())] * 2
    assert 2**30 <= memory_limit() <= 2**32
