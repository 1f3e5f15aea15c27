"""Appends when acknowledgements get lost, the broker dies in the middle, or has no room."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from progress import Progress

from trackbook.adapters.nats import store as module
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import BrokerUnreachable, StoreFull
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.store import AppendRefused, NatsEventStore
from trackbook.adapters.nats.streams import StreamMissing, ensure
from trackbook.engine.ports import Append, AppendConflict
from trackbook.testing.proxy import Proxy


@pytest.fixture
async def proxy(broker: EmbeddedBroker) -> AsyncIterator[Proxy]:
    """A connection to the broker that can be broken."""
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        yield proxy


@pytest.fixture
async def through(broker: EmbeddedBroker, proxy: Proxy, prefix: str) -> AsyncIterator[Connection]:
    """A client on that connection, with its streams made."""
    nc = await connect(replace(broker.engine, url=proxy.url))
    await ensure(nc, prefix, initialised=False)
    yield nc
    await nc.close()


def commit(id: str, version: int, expected: int, kind: str = "job") -> Append:  # noqa: A002
    """A commit that is like no other."""
    return Append(kind, id, expected, f"{kind}/{id}/{version}".encode(), f"{kind}-{id}-{version}")


async def lose_acknowledgement(proxy: Proxy, nc: Connection, stream: str, head: int) -> None:
    """Cut the connection once the stream has reached `head` without the client knowing."""
    proxy.deaf = True
    while (await api(nc, f"STREAM.INFO.{stream}"))["state"]["last_seq"] < head:
        pass
    proxy.cut()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_lost_acknowledgement_is_looked_up(
    through: Connection, nc: Connection, proxy: Proxy, prefix: str, count: int
) -> None:
    """A commit that is stored but not acknowledged is found, not stored again."""
    store = NatsEventStore(through, prefix)
    commits = [commit(f"a{number}", 1, 0) for number in range(count)]
    lost = asyncio.create_task(lose_acknowledgement(proxy, nc, f"{prefix}_events", count))
    await asyncio.sleep(0)

    seqs = await store.append(*commits)

    await lost
    assert seqs == list(range(1, count + 1))
    assert await store.head() == count


async def test_without_the_fence_a_lost_acknowledgement_doubles(
    through: Connection, nc: Connection, proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unsafe switch does what it is for: the same commit stands twice."""
    monkeypatch.setenv("TRACKBOOK_UNSAFE", "no-fence")
    store = NatsEventStore(through, prefix)
    lost = asyncio.create_task(lose_acknowledgement(proxy, nc, f"{prefix}_events", 1))
    await asyncio.sleep(0)

    await store.append(commit("a", 1, 0))

    await lost
    assert await store.head() == 2


async def test_the_lost_commit_is_ours_even_behind_others(
    through: Connection, nc: Connection, proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When somebody has built on our commit before we could look, it is still recognised as ours."""
    store, other = NatsEventStore(through, prefix), NatsEventStore(nc, prefix)
    proxy.deaf = True
    append = asyncio.create_task(store.append(commit("a", 1, 0)))
    while await other.head() < 1:
        pass
    await other.append(commit("a", 2, 1))
    proxy.cut()

    assert await append == [1]


async def test_a_loser_is_reported_even_without_an_answer(
    through: Connection, nc: Connection, proxy: Proxy, prefix: str
) -> None:
    """When another commit stands there after the connection came back, that is a conflict."""
    store, other = NatsEventStore(through, prefix), NatsEventStore(nc, prefix)
    await other.append(commit("a", 1, 0))
    proxy.deaf = True
    append = asyncio.create_task(store.append(Append("job", "a", 0, b"mine", "mine")))
    await other.append(commit("a", 2, 1))
    proxy.cut()

    with pytest.raises(AppendConflict):
        await append


async def test_connections_may_break_at_any_moment(through: Connection, proxy: Proxy, prefix: str) -> None:
    """However often the connection breaks, each commit of each writer stands exactly once and in order."""
    store = NatsEventStore(through, prefix)

    async def write(name: str) -> None:
        seq = 0
        for version in range(1, 61):
            (seq,) = await store.append(commit(name, version, seq))

    async with proxy.disturbed(random.Random(2), 12):
        await asyncio.gather(*(write(f"w{number}") for number in range(5)))

    for number in range(5):
        stood = [stored.data.decode() async for stored in store.read("job", f"w{number}")]
        assert stood == [f"job/w{number}/{version}" for version in range(1, 61)]
    assert await store.head() == 300


async def test_the_broker_may_die_at_any_moment(tmp_path: Path) -> None:
    """However often the server is killed, all that was acknowledged stands, once, where it was said to stand."""
    moments, written = random.Random(3), Progress()
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        await ensure(nc, initialised=False)
        store = NatsEventStore(nc)
        acknowledged: dict[int, bytes] = {}

        async def write(name: str) -> None:
            seq = 0
            for version in range(1, 201):
                one, two = commit(name, version, seq), commit(f"{name}-{version}", 1, 0, kind="name")
                seqs = await store.append(*([one, two] if version % 10 == 0 else [one]))
                seq = seqs[0]
                acknowledged.update(zip(seqs, (one.data, two.data), strict=False))
                await written.add()

        async def kill() -> None:
            for _ in range(8):
                await written.more(moments.randint(20, 90))
                if broker.pid:
                    os.kill(broker.pid, signal.SIGKILL)

        killer = asyncio.create_task(kill())
        await asyncio.gather(*(write(f"w{number}") for number in range(4)))
        killer.cancel()

        stood = {stored.seq: stored.data async for batch in store.read_all(1) for stored in batch}
        assert stood == acknowledged
        assert len(stood) == 4 * 220
        assert broker.restarts > 0
        await nc.close()


async def test_an_append_waits_for_the_broker(tmp_path: Path) -> None:
    """An append while the broker is away is done when it is back."""
    broker = EmbeddedBroker(tmp_path)
    await broker.start()
    nc = await connect(broker.engine)
    await ensure(nc, initialised=False)
    await broker.stop()
    append = asyncio.create_task(NatsEventStore(nc).append(commit("a", 1, 0)))
    done, _ = await asyncio.wait([append], timeout=0.2)
    assert not done

    await broker.start()

    assert await append == [1]
    await nc.close()
    await broker.stop()


async def test_a_closed_connection_ends_the_waiting(nc: Connection, prefix: str) -> None:
    """A waiter on a connection that is closed for good gets an error."""
    await ensure(nc, prefix, initialised=False)
    store = NatsEventStore(nc, prefix)
    await nc.close()

    with pytest.raises(BrokerUnreachable):
        await store.append(commit("a", 1, 0))
    with pytest.raises(BrokerUnreachable):
        await store.head()


async def test_a_removed_stream_is_missed(nc: Connection, prefix: str) -> None:
    """An append to a log that isn't there any more fails with words; it doesn't wait for ever."""
    await ensure(nc, prefix, initialised=False)
    await api(nc, f"STREAM.DELETE.{prefix}_events")

    with pytest.raises(StreamMissing, match=f"{prefix}_events"):
        await NatsEventStore(nc, prefix).append(commit("a", 1, 0))


async def test_a_commit_too_large_is_refused(nc: Connection, prefix: str) -> None:
    """A commit above the broker's limit is refused before it breaks the connection."""
    await ensure(nc, prefix, initialised=False)
    store = NatsEventStore(nc, prefix)

    with pytest.raises(AppendRefused, match="too large: the broker takes 8388608"):
        await store.append(Append("job", "a", 0, bytes(8 << 20), "m"))

    assert await store.append(commit("a", 1, 0)) == [1]


@pytest.mark.parametrize("id", ["a.b", "a b", "*", ">", "", "a\r\nPUB x 0"])
async def test_an_id_is_one_token_of_the_subject(nc: Connection, prefix: str, id: str) -> None:  # noqa: A002
    """An id that would change the subject is refused."""
    with pytest.raises(ValueError, match="not a subject token"):
        await NatsEventStore(nc, prefix).append(commit(id, 1, 0))


async def limited(nc: Connection, prefix: str) -> None:
    """A log with room for a few commits only."""
    await ensure(nc, prefix, initialised=False)
    config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
    answer = await api(nc, f"STREAM.UPDATE.{prefix}_events", config | {"max_bytes": 4096})
    assert "error" not in answer


async def append_many(store: NatsEventStore, count: int) -> None:
    """Commits of half a kilobyte, each of an aggregate of its own."""
    for number in range(count):
        await store.append(Append("job", f"a{number}", 0, bytes(500), f"m{number}"))


async def test_no_room_is_reported_in_words(nc: Connection, prefix: str) -> None:
    """A log that is full refuses the next commit, keeps what it has, and says that it is full."""
    await limited(nc, prefix)
    store = NatsEventStore(nc, prefix)

    with pytest.raises(StoreFull, match="no room"):
        await append_many(store, 100)

    kept = [stored async for batch in store.read_all(1) for stored in batch]
    assert 0 < len(kept) < 9


async def test_the_keeper_may_make_room(nc: Connection, prefix: str) -> None:
    """When the keeper of the broker has made room, the append goes on."""
    await limited(nc, prefix)
    asked = []

    async def keeper(refused: bool) -> str | None:
        asked.append(refused)
        config = (await api(nc, f"STREAM.INFO.{prefix}_events"))["config"]
        await api(nc, f"STREAM.UPDATE.{prefix}_events", config | {"max_bytes": -1})
        return None

    store = NatsEventStore(nc, prefix, keeper=keeper)
    await append_many(store, 50)

    assert (asked, await store.head()) == ([True], 50)


async def test_silence_is_asked_about(
    through: Connection, proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is connected but doesn't answer is looked after: its keeper's words end the append."""
    monkeypatch.setattr(module, "ANSWER_PATIENCE", 0.05)

    async def keeper(refused: bool) -> str | None:
        assert not refused
        return "the disk of /data is full"

    store = NatsEventStore(through, prefix, keeper=keeper)
    await api(through, f"STREAM.DELETE.{prefix}_events")
    await through.subscribe(f"{prefix}.evt.>")  # somebody is there, but says nothing
    await through.settle()
    await api(through, f"STREAM.CREATE.{prefix}_events", {"name": f"{prefix}_events", "subjects": ["elsewhere"]})

    with pytest.raises(StoreFull, match="the disk of /data is full"):
        await store.append(commit("a", 1, 0))
