"""Nothing is appended after a reconnect before the log was looked at again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conditions import holds
from msgspec.structs import replace
from progress import Progress
from store_files import StoreFiles

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import Append, LossFound
from trackbook.runtime.app import System, running
from trackbook.runtime.system import Config
from trackbook.testing.proxy import Proxy


class Gate:
    """A recheck that waits until it is let through, and then raises what it was given."""

    def __init__(self, outcome: Exception | None = None) -> None:
        self.outcome = outcome
        self.begun = 0
        self.news = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self) -> None:
        """Look at the log."""
        self.begun += 1
        self.news.set()
        await self.open.wait()
        if self.outcome:
            raise self.outcome


def commit(id: str, expected: int = 0) -> Append:  # noqa: A002
    """A commit that is like no other."""
    return Append("job", id, expected, f"{id}/{expected}".encode(), f"{id}-{expected}")


@pytest.fixture
async def proxy(broker: EmbeddedBroker) -> AsyncIterator[Proxy]:
    """A connection to the broker that can be broken."""
    async with Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy:
        yield proxy


@pytest.fixture
async def store(broker: EmbeddedBroker, proxy: Proxy, prefix: str) -> AsyncIterator[NatsEventStore]:
    """A log on that connection."""
    nc = await connect(replace(broker.engine, url=proxy.url))
    await ensure(nc, prefix, initialised=False)
    yield NatsEventStore(nc, prefix)
    await nc.close()


async def test_what_waits_for_the_broker_waits_for_the_recheck(tmp_path: Path) -> None:
    """Appends that were sent while the broker was away reach the stream only after the recheck."""
    broker, gate = EmbeddedBroker(tmp_path), Gate()
    await broker.start()
    nc = await connect(broker.engine)
    await ensure(nc, initialised=False)
    store = NatsEventStore(nc)
    store.recheck = gate
    assert await store.append(commit("before")) == [1]
    assert gate.begun == 0
    await broker.stop()
    waiting = [asyncio.create_task(store.append(commit(f"a{number}"))) for number in range(5)]

    await broker.start()
    await gate.news.wait()
    async with asyncio.timeout(60):
        late = asyncio.create_task(store.append(commit("late")))
        for _ in range(50):  # round trips: whatever had been sent would be there by then
            assert await store.head() == 1
        assert not [task for task in (*waiting, late) if task.done()]
        gate.open.set()
        found = [await task for task in (*waiting, late)]

    assert sorted(seq for (seq,) in found) == [2, 3, 4, 5, 6, 7]
    assert gate.begun == 1
    await nc.close()
    await broker.stop()


async def test_a_broker_that_lost_its_tail_is_not_written_to(tmp_path: Path) -> None:
    """The broker is killed and comes back without its last commits: the next append is refused and not stored."""
    async with EmbeddedBroker(tmp_path) as broker:
        nc = await connect(broker.engine)
        await ensure(nc, initialised=False)
        store = NatsEventStore(nc)
        for number in range(20):
            await store.append(commit(f"a{number}"))
        heads = []

        async def recheck() -> None:
            heads.append(await store.head())
            if heads[-1] < 20:
                raise LossFound(f"the log ends at {heads[-1]}")

        store.recheck = recheck
        files = StoreFiles(tmp_path)
        os.kill(broker.pid, signal.SIGKILL)
        files.cut(300)

        with pytest.raises(LossFound, match="ends at 1"):
            await store.append(commit("next"))

        assert await store.head() == heads[0] < 20
        assert len(heads) == 1
        await nc.close()


async def test_it_is_fired_where_nobody_appends(store: NatsEventStore, proxy: Proxy) -> None:
    """Each reconnect has one recheck, at once."""
    gate = Gate()
    store.recheck = gate
    for number in range(1, 4):
        gate.open.clear()
        gate.news.clear()
        proxy.cut()
        await gate.news.wait()
        gate.open.set()
        await store.append(commit(f"a{number}"))

        assert gate.begun == number


async def test_all_that_waited_are_refused_once(store: NatsEventStore, proxy: Proxy) -> None:
    """What was found is raised by each append that began before; later ones are for their callers to refuse."""
    gate = Gate(LossFound("commits are lost"))
    store.recheck = gate
    proxy.cut()
    await gate.news.wait()
    waiting = [asyncio.create_task(store.append(commit(f"a{number}"))) for number in range(5)]
    await store.head()
    gate.open.set()

    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(each) for each in found] == ["commits are lost"] * 5
    assert await store.head() == 0
    assert await store.append(commit("accepted")) == [1]
    assert gate.begun == 1


async def test_a_recheck_that_failed_is_repeated(store: NatsEventStore, proxy: Proxy) -> None:
    """Where it could not look, the next append looks again."""
    gate = Gate(RuntimeError("out of order"))
    gate.open.set()
    store.recheck = gate
    proxy.cut()
    await gate.news.wait()

    with pytest.raises(RuntimeError, match="out of order"):
        await store.append(commit("a"))
    gate.outcome = None

    assert await store.append(commit("a")) == [1]
    assert gate.begun in (2, 3)  # the first one may have been the append's own


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_reaches_the_stream_meanwhile(tmp_path: Path, seed: int) -> None:
    """However often the broker is killed, the stream does not grow while a recheck runs."""
    moments, written, grown = random.Random(seed), Progress(), []
    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc, other = await connect(broker.engine), await connect(broker.engine)
        await ensure(nc, initialised=False)
        store, reader = NatsEventStore(nc), NatsEventStore(other)

        async def recheck() -> None:
            before = await reader.head()
            for _ in range(5):
                await reader.head()
            if (after := await reader.head()) != before:
                grown.append((before, after))

        store.recheck = recheck

        async def write(name: str) -> None:
            seq = 0
            for _ in range(100):
                (seq,) = await store.append(commit(name, seq))
                await written.add()

        async def kill() -> None:
            for _ in range(6):
                await written.more(moments.randint(10, 90))
                if broker.pid:
                    os.kill(broker.pid, signal.SIGKILL)

        killer = asyncio.create_task(kill())
        await asyncio.gather(*(write(f"w{number}") for number in range(8)))
        killer.cancel()

        assert not grown
        assert await reader.head() == 800
        assert broker.restarts > 0
        await nc.close()
        await other.close()


async def test_what_was_not_sent_is_not_sent_later(store: NatsEventStore, nc: Connection, proxy: Proxy) -> None:
    """A request that fails with its connection is dropped; the next connection doesn't send it."""
    through = store._nc
    heard = await nc.subscribe("stray.>")
    await nc.settle()
    proxy.cut()
    through._pending.append(b"PUB stray.one 0\r\n\r\n")  # as if the loss came before the client's own flush
    through._pending_data_size += 19
    while through.is_connected:  # noqa: ASYNC110 - the very turn of the loop matters
        await asyncio.sleep(0)
    await through.up()
    await through.publish("stray.two")
    await through.settle()

    assert (await heard.next_msg(timeout=30)).subject == "stray.two"


async def test_a_system_whose_broker_lost_its_tail_refuses_at_once(tmp_path: Path) -> None:
    """The broker is killed, loses its last commit, and is restarted: no command is taken on what is left."""
    async with asyncio.timeout(120), running(Config(data=tmp_path, durability="fast")) as system:
        assert system.base.broker
        assert system.engine is not None
        assert (await apply(system, "p1"))["status"] == "accepted"
        head, integrity = await system.engine.aggregates.store.head(), system.engine.aggregates.integrity
        files = StoreFiles(tmp_path)
        os.kill(system.base.broker.pid, signal.SIGKILL)
        files.cut(100)

        reply = await apply(system, "p2")

        assert reply["error"]["code"] == "log_damaged"
        assert [each.kind for each in integrity.open] == ["tail"]
        assert await system.engine.aggregates.store.head() == head - 1


async def test_a_system_finds_a_lost_tail_while_nothing_happens(tmp_path: Path) -> None:
    """Nobody has to send a command for the loss to be known."""
    async with asyncio.timeout(120), running(Config(data=tmp_path, durability="fast")) as system:
        assert system.base.broker
        assert system.engine is not None
        assert (await apply(system, "p1"))["status"] == "accepted"
        files = StoreFiles(tmp_path)
        os.kill(system.base.broker.pid, signal.SIGKILL)
        files.cut(100)

        await holds(lambda: system.engine and system.engine.aggregates.integrity.problems())


async def apply(system: System, name: str) -> dict[str, Any]:
    """The reply to an edit of a pipeline of that name."""
    assert system.engine is not None
    body = {"yaml": f"name: {name}\ntasks:\n- name: a\n  command: 'true'\n"}
    return await system.engine.gateway.handle("pipeline", "apply", msgspec.json.encode(body), "t")
