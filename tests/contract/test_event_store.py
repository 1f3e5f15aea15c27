"""What every EventStore does: the one in memory and the one on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure, wanted_streams
from trackbook.engine.ports import Append, AppendConflict, EventStore, Stored
from trackbook.testing.store import MemoryEventStore


@pytest.fixture(params=["memory", "nats"])
async def store(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[EventStore]:
    """An empty log of each kind."""
    if request.param == "memory":
        yield MemoryEventStore()
        return
    broker: EmbeddedBroker = request.getfixturevalue("broker")
    nc = await connect(broker.engine)
    await ensure(nc, prefix, initialised=False)
    yield NatsEventStore(nc, prefix)
    await nc.close()


Lose = Callable[[int], Awaitable[None]]


@pytest.fixture(params=["memory", "nats"])
async def damaged(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[tuple[EventStore, Lose]]:
    """An empty log of each kind, and what makes it lose the commit at a sequence."""
    if request.param == "memory":
        memory = MemoryEventStore()

        async def lose(seq: int) -> None:
            memory.lose(seq)

        yield memory, lose
        return
    broker: EmbeddedBroker = request.getfixturevalue("broker")
    nc = await connect(broker.engine)
    events = wanted_streams(prefix)[0]
    await api(nc, f"STREAM.CREATE.{events['name']}", events | {"deny_delete": False})
    await ensure(nc, prefix, initialised=False)

    async def delete(seq: int) -> None:
        answer = await api(nc, f"STREAM.MSG.DELETE.{events['name']}", {"seq": seq})
        assert answer.get("success"), answer

    yield NatsEventStore(nc, prefix), delete
    await nc.close()


def commit(id: str, version: int, expected: int, kind: str = "job", text: str = "") -> Append:  # noqa: A002
    """A commit whose bytes tell where it belongs."""
    data = f"{kind}/{id}/{version}{text}".encode()
    return Append(kind=kind, id=id, expected_seq=expected, data=data, message_id=f"{kind}-{id}-{version}{text}")


async def collect(batches: AsyncIterator[list[Stored]], count: int) -> list[Stored]:
    """Take batches until `count` commits are there."""
    found: list[Stored] = []
    async for batch in batches:
        found += batch
        if len(found) >= count:
            break
    return found


async def everything(store: EventStore, from_seq: int = 1) -> list[Stored]:
    """All commits from a sequence to the head."""
    return [stored async for batch in store.read_all(from_seq) for stored in batch]


async def test_sequences_count_from_one(store: EventStore) -> None:
    """Appends return the sequences of the whole log, and the head is the last of them."""
    assert await store.head() == 0

    assert await store.append(commit("a", 1, 0)) == [1]
    assert await store.append(commit("b", 1, 0)) == [2]
    assert await store.append(commit("a", 2, 1)) == [3]

    assert await store.head() == 3


async def test_bytes_come_back_as_they_were(store: EventStore) -> None:
    """A commit is read with its own bytes, whatever these are."""
    data = bytes(range(256)) * 100
    await store.append(Append("pipeline", "p1", 0, data, "m1"))

    assert await everything(store) == [Stored(1, "pipeline", "p1", data)]


async def test_a_stale_writer_loses(store: EventStore) -> None:
    """A commit whose expected sequence has been passed is refused and leaves nothing behind."""
    await store.append(commit("a", 1, 0))
    await store.append(commit("a", 2, 1))

    with pytest.raises(AppendConflict):
        await store.append(commit("a", 2, 1, text="other"))
    with pytest.raises(AppendConflict):
        await store.append(commit("a", 1, 0, text="other"))

    assert await store.head() == 2


async def test_a_writer_ahead_of_the_log_loses(store: EventStore) -> None:
    """An expected sequence that never was is a conflict."""
    with pytest.raises(AppendConflict):
        await store.append(commit("a", 5, 77))

    assert await store.head() == 0


async def test_the_same_commit_again_is_one_commit(store: EventStore) -> None:
    """An append repeated after its acknowledgement was lost finds the first one, even behind later commits."""
    first = await store.append(commit("a", 1, 0))
    assert await store.append(commit("a", 1, 0)) == first
    await store.append(commit("a", 2, 1))

    assert await store.append(commit("a", 1, 0)) == first
    assert await store.head() == 2


async def test_two_aggregates_in_one_decision(store: EventStore) -> None:
    """Several commits are stored together, next to each other, and found together when repeated."""
    both = (commit("train", 1, 0, kind="name"), commit("p", 1, 0, kind="pipeline"))

    assert await store.append(*both) == [1, 2]
    assert await store.append(*both) == [1, 2]

    assert [stored.id for stored in await everything(store)] == ["train", "p"]


async def test_all_or_none(store: EventStore) -> None:
    """When one of several commits conflicts, none is stored."""
    await store.append(commit("train", 1, 0, kind="name"))

    with pytest.raises(AppendConflict):
        await store.append(commit("p2", 1, 0, kind="pipeline"), commit("train", 1, 0, kind="name", text="other"))
    with pytest.raises(AppendConflict):
        await store.append(commit("train", 1, 0, kind="name", text="other"), commit("p2", 1, 0, kind="pipeline"))

    assert await store.head() == 1


async def test_one_of_many_writers_wins(store: EventStore) -> None:
    """Of writers that race for the same place exactly one gets it."""
    racers = (store.append(commit("a", 1, 0, text=f"-{n}")) for n in range(20))

    results = await asyncio.gather(*racers, return_exceptions=True)

    assert sum(isinstance(result, list) for result in results) == 1
    assert sum(isinstance(result, AppendConflict) for result in results) == 19
    assert await store.head() == 1


async def test_one_aggregate_is_read_alone(store: EventStore) -> None:
    """Reading an aggregate yields its commits only, in order, from the sequence that is asked for."""
    last = {"a": 0, "b": 0}
    for version in range(1, 6):
        for name, seq in last.items():
            (last[name],) = await store.append(commit(name, version, seq))

    assert [s.data for s in [s async for s in store.read("job", "a")]] == [
        f"job/a/{v}".encode() for v in range(1, 6)
    ]
    assert [s.seq async for s in store.read("job", "b", 5)] == [6, 8, 10]
    assert [s.seq async for s in store.read("job", "b", 11)] == []
    assert [s.seq async for s in store.read("name", "a")] == []


async def test_read_all_ends_at_the_head_of_the_call(store: EventStore) -> None:
    """Reading everything ends where the log ended at the call, although more is appended meanwhile."""
    for number in range(3):
        await store.append(commit(f"j{number}", 1, 0))

    batches = store.read_all(2)
    found = await anext(batches)
    await store.append(commit("later", 1, 0))
    found += [stored async for batch in batches for stored in batch]

    assert [stored.seq for stored in found] == [2, 3]
    assert await everything(store, 5) == []


async def test_a_large_log_is_read_whole(store: EventStore) -> None:
    """Batches neither lose nor repeat a commit."""
    await asyncio.gather(*(store.append(commit(f"j{number}", 1, 0)) for number in range(2500)))

    assert [stored.seq for stored in await everything(store)] == list(range(1, 2501))


async def test_tail_brings_the_past_and_then_the_future(store: EventStore) -> None:
    """A follower gets what stood before it came and what is appended while it follows, each once and in order."""
    for number in range(3):
        await store.append(commit(f"old{number}", 1, 0))
    follower = asyncio.create_task(collect(store.tail(2), 52))

    for number in range(50):
        await store.append(commit(f"new{number}", 1, 0))

    assert [stored.seq for stored in await follower] == list(range(2, 54))


async def test_tail_from_the_head_on_waits_for_the_next(store: EventStore) -> None:
    """A follower of the future only gets the first commit that comes."""
    await store.append(commit("a", 1, 0))
    follower = asyncio.create_task(collect(store.tail(2), 1))

    await store.append(commit("a", 2, 1))

    assert await follower == [Stored(2, "job", "a", b"job/a/2")]


async def test_followers_do_not_disturb_each_other(store: EventStore) -> None:
    """Each of several followers gets everything from its own start, also when others leave."""
    starts = (1, 5, 10, 20, 21)
    for number in range(20):
        await store.append(commit(f"old{number}", 1, 0))
    followers = [asyncio.create_task(collect(store.tail(start), end - start)) for start, end in ends(starts)]

    for number in range(20):
        await store.append(commit(f"new{number}", 1, 0))

    for (start, end), follower in zip(ends(starts), followers, strict=True):
        assert [stored.seq for stored in await follower][: end - start] == list(range(start, end))


def ends(starts: tuple[int, ...]) -> list[tuple[int, int]]:
    """Each start with an end of its own, all within 40 commits."""
    return [(start, 41 - 3 * number) for number, start in enumerate(starts)]


async def lossy(damaged: tuple[EventStore, Lose], count: int, *lost: int) -> EventStore:
    """A log of `count` commits, of aggregates a and b in turn, that has lost some."""
    store, lose = damaged
    last = {"a": 0, "b": 0}
    for number in range(count):
        name = "ab"[number % 2]
        (last[name],) = await store.append(commit(name, number // 2 + 1, last[name]))
    for seq in lost:
        await lose(seq)
    return store


@pytest.mark.parametrize(
    ("lost", "kept"),
    [
        ((3,), [1, 2, 4, 5, 6]),
        ((1, 2), [3, 4, 5, 6]),
        ((6,), [1, 2, 3, 4, 5]),
        ((1, 3, 4, 6), [2, 5]),
        ((1, 2, 3, 4, 5, 6), []),
    ],
)
async def test_what_is_lost_is_left_out(
    damaged: tuple[EventStore, Lose], lost: tuple[int, ...], kept: list[int]
) -> None:
    """Reading ends and brings what there is, wherever commits are lost, the last one included."""
    store = await lossy(damaged, 6, *lost)

    assert [stored.seq for stored in await everything(store)] == kept
    assert [stored.seq for stored in await everything(store, 4)] == [seq for seq in kept if seq >= 4]
    assert [s.seq async for s in store.read("job", "a")] == [seq for seq in kept if seq % 2]
    assert await store.head() == 6


async def test_a_follower_passes_what_is_lost(damaged: tuple[EventStore, Lose]) -> None:
    """A follower gets what there is and what comes, although commits between and at the end are lost."""
    store = await lossy(damaged, 6, 2, 3, 6)
    following = asyncio.create_task(collect(store.tail(1), 4))
    behind = asyncio.create_task(collect(store.tail(7), 1))

    await store.append(commit("new", 1, 0))

    assert [stored.seq for stored in await following] == [1, 4, 5, 7]
    assert [stored.seq for stored in await behind] == [7]


async def test_the_condition_lists_what_is_lost(damaged: tuple[EventStore, Lose]) -> None:
    """The condition has the ranges without a commit, how many those are, and words for people."""
    store = await lossy(damaged, 6)
    assert not (await store.condition()).events.missing
    for seq in (1, 4, 5):
        await damaged[1](seq)

    found = (await store.condition()).events

    assert (found.missing, found.missing_count) == ([(1, 1), (4, 5)], 3)
    assert (found.first, found.last, found.messages) == (2, 6, 3)
    assert f"the stream {found.name}, which ends at 6, lacks sequences 1, 4 to 5" in found.problems()


async def test_a_log_that_lost_everything_goes_on_behind_it(damaged: tuple[EventStore, Lose]) -> None:
    """Sequences are not used again, and all that was there is missing."""
    store = await lossy(damaged, 3, 1, 2, 3)
    assert (await store.condition()).events.missing == [(1, 3)]

    assert await store.append(commit("new", 1, 0)) == [4]

    assert (await store.condition()).events.missing == [(1, 3)]


async def test_an_empty_log_lacks_nothing(store: EventStore) -> None:
    """A log that never had a commit is sound."""
    found = await store.condition()

    assert found.problems() == []
    assert (found.events.last, found.blobs.last) == (0, 0)
