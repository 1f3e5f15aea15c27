"""The projector and the live stream on the real log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from histories.made import History, graph, world
from histories.served import all_rows, caught_up, projected, site, written

from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import Append


async def stored(nc: Connection, prefix: str, history: History) -> NatsEventStore:
    """Put a history made in memory on the real log."""
    await ensure(nc, prefix, initialised=False)
    store = NatsEventStore(nc, prefix)
    last: dict[tuple[str, str], int] = {}
    for commit in history.store.commits:
        key = (commit.kind, commit.id)
        append = Append(commit.kind, commit.id, last.get(key, 0), commit.data, f"{prefix}-{commit.seq}")
        [last[key]] = await store.append(append)
    blobs = NatsBlobs(nc, prefix)
    for data in history.blobs.blobs.values():
        await blobs.put(data)
    return store


async def test_rows_from_the_real_log_are_those_from_memory(nc: Connection, prefix: str, tmp_path: Path) -> None:
    """The rows made while commits arrive over the broker equal those of the same commits in memory."""
    history = await world(21)
    await ensure(nc, prefix, initialised=False)
    real = replace_log(history, nc, prefix)
    async with projected(real, tmp_path / "r.db") as read:
        store = await stored(nc, prefix, history)
        await read.settled(await store.head())
        rows = await all_rows(read.projector.database)
        assert await read.projector.rebuild() == await store.head()
        again = await all_rows(read.projector.database)

    assert rows == again == await written(history, tmp_path / "other.db")


def replace_log(history: History, nc: Connection, prefix: str) -> History:
    """Return a history that is read from the real log."""
    real = History()
    real.store = NatsEventStore(nc, prefix)  # type: ignore[assignment]
    real.blobs = NatsBlobs(nc, prefix)  # type: ignore[assignment]
    real.jobs = history.jobs
    return real


async def test_a_stream_from_the_real_log_equals_the_list(nc: Connection, prefix: str, tmp_path: Path) -> None:
    """What a follower reads from the beginning is what the job's list of events says."""
    history = History()
    await history.start("j", "p1", graph(Random(4), 30))
    await history.finish(Random(4), "j")
    await stored(nc, prefix, history)
    real = replace_log(history, nc, prefix)
    async with site(real, tmp_path / "r.db") as served:
        await caught_up(served.read, real)
        listed = (await served.get("/api/jobs/j/events", order="oldest", limit=1000))["items"]
        ids: list[str] = []
        async with (
            asyncio.timeout(60),
            served.client.stream("GET", "/api/events", params={"job": "j"}) as answer,
        ):
            lines = aiter(answer.aiter_lines())
            while len(ids) < len(listed):
                line = await anext(lines)
                if line.startswith("id: "):
                    ids.append(line.removeprefix("id: "))

    assert ids == [f"{event['seq']}.{event['index']}" for event in listed]
    assert listed[-1]["type"] == "JobSucceeded"
