"""What a store shows whose files were damaged while the broker was down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from store_files import StoreFiles, flip, kill

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import StreamMissing, ensure
from trackbook.engine.ports import Append
from trackbook.http import web_role
from trackbook.http.system import running as running_with_web
from trackbook.runtime.app import System, running
from trackbook.runtime.system import Config

PATIENCE = 60  # seconds for what must never hang
TORN = [random.Random(7).randbytes(size) for size in (3, 20, 400)] + [bytes(4096)]
"""What a power cut leaves of a write that was never acknowledged."""


def data_of(number: int, size: int = 100) -> bytes:
    """The bytes of a commit that is like no other."""
    return f"<commit {number:04}>".encode() + b"P" * size


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[NatsEventStore]:
    """The log of a data directory on a broker of its own, made at the first start."""
    async with EmbeddedBroker(data, durability="fast") as broker:
        nc = await connect(broker.engine)
        await ensure(nc, initialised=False)
        yield NatsEventStore(nc)
        await nc.close()


async def fill(store: NatsEventStore, count: int, size: int = 100, first: int = 1) -> None:
    """Append commits of aggregates of their own."""
    for number in range(first, first + count):
        await store.append(Append("job", f"a{number}", 0, data_of(number, size), f"m{number}"))


async def filled(data: Path, count: int = 20, size: int = 100, *, killed: bool = False) -> StoreFiles:
    """A store with some commits, whose broker was stopped or killed."""
    broker = EmbeddedBroker(data, durability="fast")
    await broker.start()
    nc = await connect(broker.engine)
    await ensure(nc, initialised=False)
    await fill(NatsEventStore(nc), count, size)
    await nc.close()
    await (kill(broker) if killed else broker.stop())
    return StoreFiles(data)


async def sequences(store: NatsEventStore) -> list[int]:
    """Which commits can be read, each of them with its own bytes."""
    async with asyncio.timeout(PATIENCE):
        found = [stored async for batch in store.read_all(1) for stored in batch]
    for stored in found:
        assert stored.data.startswith(f"<commit {stored.seq:04}>".encode())
    return [stored.seq for stored in found]


def upto(last: int, *, without: range | tuple[int, ...] = ()) -> list[int]:
    """The sequences from 1 on."""
    return [seq for seq in range(1, last + 1) if seq not in without]


@pytest.mark.parametrize("number", [1, 7, 20])
async def test_one_flipped_bit_is_one_hole(tmp_path: Path, number: int) -> None:
    """After a clean stop only reading shows a damaged message, at each start, also where it is the last one."""
    (await filled(tmp_path)).flip_in_data(data_of(number))

    for _ in range(2):
        async with opened(tmp_path) as store:
            assert await sequences(store) == upto(20, without=(number,))
            assert await store.head() == 20
            assert (await store.condition()).problems() == []


@pytest.mark.parametrize("number", [7, 20])
async def test_a_damaged_length_takes_what_follows(tmp_path: Path, number: int) -> None:
    """What the broker forgot is listed at the first start as lost, beyond the end, and then as missing."""
    (await filled(tmp_path)).flip_in_length(data_of(number), f"trackbook.evt.job.a{number}")

    async with opened(tmp_path) as store:
        found = (await store.condition()).events
        assert await sequences(store) == upto(number - 1)
        assert (found.last, found.lost, found.lost_count) == (number - 1, [(number, 20)], 21 - number)
    async with opened(tmp_path) as store:
        found = (await store.condition()).events
        assert await sequences(store) == upto(number - 1)
        assert (found.last, found.missing) == (20, [(number, 20)])


@pytest.mark.parametrize("torn", TORN, ids=len)
@pytest.mark.parametrize("killed", [True, False])
async def test_a_torn_write_is_no_loss(tmp_path: Path, torn: bytes, killed: bool) -> None:
    """What a power cut left of a write that was never acknowledged is removed; the log is intact."""
    (await filled(tmp_path, killed=killed)).add(torn)

    async with opened(tmp_path) as store:
        found = await store.condition()
        assert found.problems() == []
        assert found.events.cut_bytes == len(torn)
        assert await sequences(store) == upto(20)
        await fill(store, 1, first=21)
    async with opened(tmp_path) as store:
        assert (await store.condition()).events.cut_bytes == 0
        assert await sequences(store) == upto(21)


async def test_a_cut_tail_leaves_nothing_but_bytes(tmp_path: Path) -> None:
    """After kill -9 the broker can't say that commits were cut off: the log ends earlier, that is all."""
    (await filled(tmp_path, killed=True)).cut(300)

    async with opened(tmp_path) as store:
        found = await store.condition()
        assert (found.events.last, found.problems()) == (18, [])
        assert found.events.cut_bytes > 0
        assert await sequences(store) == upto(18)


async def test_a_tail_cut_after_a_clean_stop_is_missing(tmp_path: Path) -> None:
    """The broker's index knows how far the log went, at each start."""
    (await filled(tmp_path)).cut(300)

    for _ in range(2):
        async with opened(tmp_path) as store:
            found = (await store.condition()).events
            assert (found.last, found.missing) == (20, [(19, 20)])
            assert await sequences(store) == upto(18)


def _remove(number: int) -> Callable[[StoreFiles], None]:
    return lambda files: files.blocks[number].unlink()


@pytest.mark.parametrize(
    ("damage", "killed", "missing"),
    [
        (_remove(1), False, [(17, 32)]),
        (_remove(1), True, [(17, 32)]),
        (_remove(0), False, [(1, 16)]),
        (_remove(-1), False, [(33, 48)]),
        (lambda files: files.swap(0, 1), False, [(1, 32)]),
        (lambda files: files.swap(0, 1), True, [(1, 32)]),
        (lambda files: files.flip_in_data(data_of(7, 500_000)), True, [(7, 16)]),
    ],
)
async def test_block_files_removed_swapped_or_damaged(
    tmp_path: Path, damage: Callable[[StoreFiles], None], killed: bool, missing: list[tuple[int, int]]
) -> None:
    """The ranges that are missing are listed at each start, and everything else is read."""
    damage(await filled(tmp_path, 48, 500_000, killed=killed))

    for _ in range(2):
        async with opened(tmp_path) as store:
            assert (await store.condition()).events.missing == missing
            [(first, last)] = missing
            assert await sequences(store) == upto(48, without=range(first, last + 1))


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: flip(path, path.stat().st_size // 2)])
async def test_the_broker_makes_its_index_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """An index that is gone or damaged is no loss."""
    damage((await filled(tmp_path)).folder / "msgs" / "index.db")

    async with opened(tmp_path) as store:
        assert (await store.condition()).problems() == []
        assert await sequences(store) == upto(20)


@pytest.mark.parametrize("name", ["meta.inf", "meta.sum"])
async def test_a_stream_without_its_description_is_missing(tmp_path: Path, name: str) -> None:
    """The broker doesn't know such a stream; it is never made again."""
    path = (await filled(tmp_path)).folder / name
    flip(path, path.stat().st_size // 2)

    async with EmbeddedBroker(tmp_path, durability="fast") as broker:
        nc = await connect(broker.engine)
        with pytest.raises(StreamMissing, match="trackbook_events is missing"):
            await ensure(nc, initialised=True)
        await nc.close()


async def system_stopped(data: Path, *, killed: bool) -> None:
    """A data directory in which the whole system ran, with three pipelines: six commits."""
    async with running(Config(data=data, durability="fast")) as system:
        assert system.base.broker
        for number in range(3):
            assert (await apply(system, f"p{number}"))["status"] == "accepted"
        if killed:
            await kill(system.base.broker)


async def apply(system: System, name: str) -> dict[str, Any]:
    """The reply to an edit of a pipeline of that name."""
    assert system.engine is not None
    body = {"yaml": f"name: {name}\ntasks:\n- name: a\n  command: 'true'\n"}
    return await system.engine.gateway.handle("pipeline", "apply", msgspec.json.encode(body), "t")


async def found_at_start(data: Path) -> list[tuple[str, int, int]]:
    """What a start of the system finds to be lost, having refused a command for it."""
    async with asyncio.timeout(PATIENCE), running(Config(data=data, durability="fast")) as system:
        assert system.engine is not None
        reply = await apply(system, "later")
        code = "log_damaged" if system.engine.aggregates.integrity.open else None
        assert reply.get("error", {}).get("code") == code
        return [(each.kind, each.first, each.last) for each in system.engine.aggregates.integrity.open]


@pytest.mark.parametrize("torn", TORN, ids=len)
async def test_a_system_starts_after_a_torn_write(tmp_path: Path, torn: bytes) -> None:
    """A power cut in the middle of a write keeps nobody from starting and deciding."""
    await system_stopped(tmp_path, killed=True)
    StoreFiles(tmp_path).add(torn)

    assert await found_at_start(tmp_path) == []


@pytest.mark.parametrize("seq", [3, 6])
async def test_a_system_that_reads_a_hole_says_so(tmp_path: Path, seq: int) -> None:
    """A start that meets a hole keeps it as evidence, also at the end of the log; it never hangs."""
    await system_stopped(tmp_path, killed=False)
    data = await datas(tmp_path)
    for name in ("engine.db", "witness.log"):
        (tmp_path / name).unlink()
    StoreFiles(tmp_path).flip_in_data(data[seq - 1])

    assert ("gap", seq, seq) in await found_at_start(tmp_path)


async def test_a_system_misses_its_last_commit(tmp_path: Path) -> None:
    """A damaged commit that the engine had written last is missed at once."""
    await system_stopped(tmp_path, killed=False)
    StoreFiles(tmp_path).flip_in_data((await datas(tmp_path))[-1])

    assert await found_at_start(tmp_path) == [("gap", 6, 6)]


async def test_a_lost_tail_is_found_at_each_start(tmp_path: Path) -> None:
    """A lost last commit is missed at once, where the broker has forgotten it as well as where it has not."""
    await system_stopped(tmp_path, killed=False)
    StoreFiles(tmp_path).flip_in_length((await datas(tmp_path))[-1], "trackbook.evt.pipeline")

    assert await found_at_start(tmp_path) == [("tail", 6, 6)]
    assert await found_at_start(tmp_path) == [("tail", 6, 6), ("gap", 6, 6)]


async def test_a_start_waits_for_no_row_of_a_lost_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read model is level with the log where nothing more can be read from it."""
    monkeypatch.setattr(web_role, "_LEVEL_WITHIN", 10 * PATIENCE)
    await system_stopped(tmp_path, killed=False)
    StoreFiles(tmp_path).flip_in_data((await datas(tmp_path))[-1])

    config = Config(data=tmp_path, durability="fast", http="127.0.0.1:0")
    async with asyncio.timeout(PATIENCE), running_with_web(config) as system:
        assert system.url


async def datas(data: Path) -> list[bytes]:
    """The commits of a store that is whole."""
    async with opened(data) as store:
        return [stored.data async for batch in store.read_all(1) for stored in batch]
