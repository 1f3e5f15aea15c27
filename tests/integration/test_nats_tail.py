"""Following the log while connections break and the broker dies: nothing missed, nothing twice, all in order."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg
from progress import Progress

from trackbook.adapters.nats import reads
from trackbook.adapters.nats import tail as module
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import BrokerUnreachable
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import StreamDamaged, ensure, wanted_streams
from trackbook.engine.ports import Append, Stored
from trackbook.testing.proxy import Proxy


@pytest.fixture
async def proxy(broker: EmbeddedBroker) -> AsyncIterator[Proxy]:
    """A connection to the broker that can be broken."""
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        yield proxy


@pytest.fixture
async def through(broker: EmbeddedBroker, proxy: Proxy) -> AsyncIterator[Connection]:
    """A client on that connection."""
    nc = await connect(replace(broker.engine, url=proxy.url))
    yield nc
    await nc.close()


@pytest.fixture
async def store(nc: Connection, prefix: str) -> NatsEventStore:
    """An empty log on a connection that stands."""
    await ensure(nc, prefix, initialised=False)
    return NatsEventStore(nc, prefix)


async def write(store: NatsEventStore, count: int, name: str = "j", written: Progress | None = None) -> None:
    """Append commits of aggregates of their own, some of them two at a time; count the appends."""
    for number in range(count):
        commits = [
            Append("job", f"{name}{number}-{part}", 0, os.urandom(40), f"{name}{number}-{part}") for part in "ab"
        ]
        await store.append(*(commits if number % 17 == 0 else commits[:1]))
        if written:
            await written.add()


async def follow(store: NatsEventStore, from_seq: int, until: Callable[[Stored], bool]) -> list[Stored]:
    """Follow until a commit fulfils a condition."""
    found: list[Stored] = []
    async with aclosing(store.tail(from_seq)) as batches:  # type: ignore[type-var]
        async for batch in batches:
            found += batch
            if until(batch[-1]):
                return found
    return found


async def everything(store: NatsEventStore, from_seq: int = 1) -> list[Stored]:
    """What the log holds."""
    return [stored async for batch in store.read_all(from_seq) for stored in batch]


def is_last(stored: Stored) -> bool:
    """Whether this is the commit that ends a test."""
    return stored.id == "last"


LAST = Append("job", "last", 0, b"last", "last")


@pytest.mark.parametrize("seed", range(6))
async def test_breaking_connections_lose_nothing(
    store: NatsEventStore, through: Connection, proxy: Proxy, prefix: str, seed: int
) -> None:
    """Followers whose connection breaks at random moments see exactly the log."""
    follower = NatsEventStore(through, prefix)
    await write(store, 20, "before")
    starts = [1, 10, 21, await store.head() + 1]
    followers = [asyncio.create_task(follow(follower, start, is_last)) for start in starts]

    async with proxy.disturbed(random.Random(seed), 20):
        await asyncio.gather(*(write(store, 150, f"w{number}-") for number in range(3)))
    await store.append(LAST)

    log = await everything(store)
    assert [stored.seq for stored in log] == list(range(1, len(log) + 1))
    for start, following in zip(starts, followers, strict=True):
        assert await following == log[start - 1 :]


@pytest.mark.parametrize("seed", range(2))
async def test_a_dying_broker_loses_nothing(tmp_path: Path, seed: int) -> None:
    """Followers of a broker that is killed in the middle of writing see exactly the log."""
    moments, written = random.Random(seed), Progress()
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc, other = await connect(broker.engine), await connect(broker.engine)
        await ensure(nc, initialised=False)
        store = NatsEventStore(nc)
        followers = [asyncio.create_task(follow(NatsEventStore(other), 1, is_last)) for _ in range(2)]

        async def kill() -> None:
            for _ in range(6):
                await written.more(moments.randint(10, 80))
                if broker.pid:
                    os.kill(broker.pid, signal.SIGKILL)

        killer = asyncio.create_task(kill())
        await asyncio.gather(*(write(store, 200, f"w{number}-", written) for number in range(3)))
        await killer
        await store.append(LAST)

        log = await everything(store)
        assert await followers[0] == await followers[1] == log
        await nc.close()
        await other.close()


async def test_a_slow_follower_loses_nothing(store: NatsEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that can't keep up reads from the log what no longer waits for it."""
    monkeypatch.setattr(module, "MAILBOX", 10)
    found: list[Stored] = []
    async with aclosing(store.tail(1)) as batches:  # type: ignore[type-var]
        await store.append(Append("job", "first", 0, b"", "first"))
        found += await anext(batches)
        for round_ in range(5):
            await write(store, 40, f"r{round_}-")
            found += await anext(batches)
        await store.append(LAST)
        while not is_last(found[-1]):
            found += await anext(batches)

    assert found == await everything(store)


async def test_idle_followers_send_nothing(store: NatsEventStore, through: Connection, prefix: str) -> None:
    """While nothing happens, following causes no traffic, and commits cost no request either."""
    follower = NatsEventStore(through, prefix)
    followers = [asyncio.create_task(follow(follower, 1, is_last)) for _ in range(5)]
    await write(store, 1)
    await through.settle()
    sent = through.stats["out_msgs"]
    subscriptions = len(through._subs)

    await write(store, 50, "more")
    await store.append(LAST)
    await asyncio.gather(*followers)

    assert through.stats["out_msgs"] == sent
    assert subscriptions == 2  # one for replies, one for five followers
    assert len(through._subs) == 1


async def test_what_is_no_commit_disturbs_nobody(store: NatsEventStore, nc: Connection, prefix: str) -> None:
    """Bytes that are no commit, and messages on live subjects from no stream, stop no follower."""
    following = asyncio.create_task(follow(store, 1, is_last))
    await store.append(Append("job", "odd", 0, b"\xff\x00not json", "odd"))

    await nc.publish(f"{prefix}.live.job.fake", b"{}")
    await nc.publish(f"{prefix}.live.fake", b"{}", headers={"Nats-Sequence": "2"})
    await store.append(LAST)

    assert [(stored.id, stored.data) for stored in await following] == [
        ("odd", b"\xff\x00not json"),
        ("last", b"last"),
    ]


async def test_a_log_that_ends_early_is_refused(store: NatsEventStore) -> None:
    """A client that has seen more than the log holds learns that commits are lost."""
    await write(store, 1)

    with pytest.raises(StreamDamaged, match="commits are lost"):
        await anext(store.tail(99))


async def test_a_log_put_back_is_noticed(tmp_path: Path) -> None:
    """When the store is replaced by an older copy that grew differently, the follower gets an error."""
    broker = EmbeddedBroker(tmp_path)
    await broker.start()
    nc = await connect(broker.engine)
    await ensure(nc, initialised=False)
    store = NatsEventStore(nc)
    async with aclosing(store.tail(1)) as batches:  # type: ignore[type-var]
        await store.append(Append("job", "a", 0, b"one", "1"))
        assert len(await anext(batches)) == 1
        await broker.stop()
        shutil.copytree(broker.home / "store", tmp_path / "copy")
        await broker.start()
        await store.append(Append("job", "b", 0, b"two", "2"))
        assert len(await anext(batches)) == 1

        await broker.stop()
        shutil.rmtree(broker.home / "store")
        shutil.copytree(tmp_path / "copy", broker.home / "store")
        await broker.start()
        await store.append(Append("job", "c", 0, b"other two", "3"))

        with pytest.raises(StreamDamaged, match="another one than before"):
            await anext(batches)
    await nc.close()
    await broker.stop()


async def loose_log(nc: Connection, prefix: str, count: int) -> NatsEventStore:
    """A log of some commits that may be deleted."""
    events = wanted_streams(prefix)[0]
    await api(nc, f"STREAM.CREATE.{prefix}_events", events | {"deny_delete": False})
    store = NatsEventStore(nc, prefix)
    for number in range(count):
        await store.append(Append("job", f"a{number}", 0, b"x", f"m{number}"))
    return store


async def test_a_commit_that_is_gone_is_noticed(
    nc: Connection, through: Connection, proxy: Proxy, prefix: str
) -> None:
    """A follower gets an error when the commit that it was given last is not there any more."""
    await loose_log(nc, prefix, 3)
    async with aclosing(NatsEventStore(through, prefix).tail(1)) as batches:  # type: ignore[type-var]
        assert len(await anext(batches)) == 3
        await api(nc, f"STREAM.MSG.DELETE.{prefix}_events", {"seq": 3})
        proxy.cut()

        with pytest.raises(StreamDamaged, match="has no commit 3 any more"):
            await anext(batches)


async def test_what_a_replica_lacks_comes_from_the_leader(
    nc: Connection, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits that a direct get leaves out, but the leader has, are neither missed nor waited for."""
    store = await loose_log(nc, prefix, 9)
    await api(nc, f"STREAM.MSG.DELETE.{prefix}_events", {"seq": 5})
    direct = reads.direct

    async def lagging(
        nc: Connection, stream: str, query: dict[str, Any], timeout: float
    ) -> tuple[list[Msg], int]:
        found, more = await direct(nc, stream, query, timeout)
        return [message for message in found if reads.sequence(message) not in (1, 4, 6, 8, 9)], more

    monkeypatch.setattr(reads, "direct", lagging)

    assert [stored.seq for stored in await everything(store)] == [1, 2, 3, 4, 6, 7, 8, 9]
    followed = await follow(store, 1, lambda stored: stored.seq == 9)
    assert [stored.seq for stored in followed] == [1, 2, 3, 4, 6, 7, 8, 9]


async def test_a_closed_connection_ends_a_follower(store: NatsEventStore, nc: Connection) -> None:
    """A follower on a connection that is closed for good gets an error."""
    await write(store, 1)
    batches = store.tail(1)
    await anext(batches)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)

    await nc.close()

    with pytest.raises(BrokerUnreachable):
        await waiting
