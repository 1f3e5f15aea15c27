"""A stream that the broker froze after a write error, and appends that wait for an answer."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conditions import holds
from store_files import StoreFiles

from trackbook.adapters.nats import broker as broker_module
from trackbook.adapters.nats import pending_writes
from trackbook.adapters.nats import store as store_module
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import StoreFull
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import Append

LARGE = 60_000  # bytes


@pytest.fixture
async def frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[EmbeddedBroker, Connection]]:
    """A broker whose next large write fails, so that it freezes the stream of commits."""
    monkeypatch.setattr(store_module, "ANSWER_PATIENCE", 0.3)
    monkeypatch.setattr(pending_writes, "NOTED_AFTER", 0)
    async with EmbeddedBroker(tmp_path) as broker:
        nc = await connect(broker.engine)
        await ensure(nc, initialised=False)
        await NatsEventStore(nc).append(Append("job", "first", 0, b"first", "first"))
        room = StoreFiles(tmp_path).blocks[-1].stat().st_size + LARGE // 2
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        yield broker, nc
        await nc.close()


async def test_a_frozen_stream_is_revived(
    frozen: tuple[EmbeddedBroker, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper restarts a broker that met a write error, and the append is stored once."""
    broker, nc = frozen
    monkeypatch.setattr(broker_module, "REVIVE_PAUSE", 0)
    store = NatsEventStore(nc, keeper=broker.examine)

    assert await store.append(Append("job", "large", 0, bytes(LARGE), "large")) == [2]

    assert broker.restarts > 0
    assert (await store.condition()).problems() == []
    assert store.problem == ""


async def test_what_waits_says_so(frozen: tuple[EmbeddedBroker, Connection]) -> None:
    """As long as commits wait, it is said since when and why; a write that failed is no loss."""
    broker, nc = frozen
    store = NatsEventStore(nc)
    appends = [
        asyncio.create_task(store.append(Append("job", f"large{number}", 0, bytes(LARGE), f"large{number}")))
        for number in range(2)
    ]
    await holds(lambda: "2 writes have waited for the broker since" in store.problem)
    await holds(lambda: store.problem.endswith(" UTC: no answer in time"))
    assert (await store.condition()).events.lost == [(2, 2)]
    assert (await store.condition()).problems() == []

    await broker.restart()

    assert sorted(await asyncio.gather(*appends)) == [[2], [3]]
    assert store.problem == ""


async def test_a_refusal_is_a_problem_until_there_is_room(nc: Connection, prefix: str) -> None:
    """A store without room says so until the next commit is stored."""
    await ensure(nc, prefix, initialised=False)
    config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    await api(nc, f"STREAM.UPDATE.{prefix}_events", config | {"max_bytes": 4096})
    store = NatsEventStore(nc, prefix)
    with pytest.raises(StoreFull):
        await store.append(Append("job", "large", 0, bytes(LARGE), "large"))
    assert store.problem == "the broker has no room for another message"

    await api(nc, f"STREAM.UPDATE.{prefix}_events", config)
    await store.append(Append("job", "large", 0, bytes(LARGE), "large"))

    assert store.problem == ""
