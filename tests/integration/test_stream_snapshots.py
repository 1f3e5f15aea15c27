"""A backup of a real broker and back: messages, sequences, times and gaps are the same."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from trackbook.adapters.nats import snapshot as module
from trackbook.adapters.nats.blobs import NatsBlobs
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.snapshot import SnapshotFailed, StreamContent, restore, snapshot
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure, wanted_streams
from trackbook.engine.ports import Append
from trackbook.testing.proxy import Proxy


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Connection]:
    """A broker without streams."""
    async with EmbeddedBroker(tmp_path / "other", durability="fast") as broker:
        connection = await connect(broker.engine)
        yield connection
        await connection.close()


async def append(store: NatsEventStore, count: int, first: int = 0) -> None:
    """Store commits, each of an aggregate of its own, some large enough that no part holds all of them."""
    noise = random.Random(first)
    for number in range(first, first + count):
        data = noise.randbytes(noise.choice((20, 3_000, 60_000)))
        await store.append(Append("job", f"j{number}", 0, data, f"m{number}"))


async def taken(access: Any, stream: str) -> tuple[StreamContent, bytes]:
    """A whole snapshot."""
    async with snapshot(access, stream) as found:
        return found.content, b"".join([chunk async for chunk in found.chunks()])


async def put(nc: Connection, content: StreamContent, data: bytes, size: int = 1 << 20) -> None:
    """Restore it in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    await restore(nc, content, pieces())


async def messages(nc: Connection, stream: str) -> list[Any]:
    """Each message as the broker has it: subject, sequence, time, headers and data, or that it has none."""
    info = await api(nc, f"STREAM.INFO.{stream}")
    seqs = range(1, info["state"]["last_seq"] + 1)
    found = [await api(nc, f"STREAM.MSG.GET.{stream}", {"seq": seq}) for seq in seqs]
    return [each.get("message") or each["error"]["err_code"] for each in found]


async def test_streams_come_back_as_they_were(
    broker: EmbeddedBroker, nc: Connection, prefix: str, other: Connection
) -> None:
    """Sequences, times, headers, data and the configuration, of commits and of blobs."""
    await ensure(nc, prefix, initialised=False)
    await append(NatsEventStore(nc, prefix), 300)
    body = os.urandom(3 << 20)
    sha256 = await NatsBlobs(nc, prefix).put(body)

    for name in (f"{prefix}_events", f"{prefix}_blobs"):
        content, data = await taken(broker.engine, name)
        await put(other, content, data)
        mine, theirs = [await api(each, f"STREAM.INFO.{name}") for each in (nc, other)]
        assert mine["state"] == theirs["state"]
        assert mine["config"] == theirs["config"]
        assert await messages(nc, name) == await messages(other, name)
        last = await api(nc, f"STREAM.MSG.GET.{name}", {"seq": content.last})
        assert last["message"]["seq"] == content.last

    await ensure(other, prefix, initialised=True)
    assert await NatsBlobs(other, prefix).get(sha256) == body
    await NatsEventStore(other, prefix).append(Append("job", "next", 0, b"next", "next"))
    assert await NatsEventStore(other, prefix).head() == 301


async def test_a_stream_that_never_had_a_message_comes_back(
    broker: EmbeddedBroker, nc: Connection, prefix: str, other: Connection
) -> None:
    """As that of blobs of an installation without large bodies: the first message gets sequence 1."""
    await ensure(nc, prefix, initialised=False)

    content, data = await taken(broker.engine, f"{prefix}_events")
    await put(other, content, data)

    assert content.head_sha256 == ""
    assert b'"seq":1' in (await other.ask(f"{prefix}.evt.job.next", b"next")).data


@pytest.mark.parametrize("gone", [[3, 4, 7], [1, 2], [9, 10], list(range(1, 11)), []])
async def test_gaps_stay_gaps(
    broker: EmbeddedBroker, nc: Connection, prefix: str, other: Connection, gone: list[int]
) -> None:
    """In the middle and at both ends: no sequence is ever used for another message."""
    name = f"{prefix}_events"
    wanted = wanted_streams(prefix)[0] | {"deny_delete": False}
    assert "error" not in await api(nc, f"STREAM.CREATE.{name}", wanted)
    await append(NatsEventStore(nc, prefix), 10)
    for seq in gone:
        assert (await api(nc, f"STREAM.MSG.DELETE.{name}", {"seq": seq}))["success"]

    content, data = await taken(broker.engine, name)
    await put(other, content, data)

    assert await messages(nc, name) == await messages(other, name)
    assert (content.head_sha256 == "") is (10 in gone)
    answer = await other.ask(f"{prefix}.evt.job.next", b"next")
    assert b'"seq":11' in answer.data


async def test_commits_that_are_written_meanwhile_leave_it_consistent(
    broker: EmbeddedBroker, nc: Connection, prefix: str, other: Connection
) -> None:
    """A snapshot holds the log up to the sequence that it names, whatever is appended while it is made."""
    await ensure(nc, prefix, initialised=False)
    store = NatsEventStore(nc, prefix)
    await append(store, 200)
    writing = asyncio.create_task(append(store, 400, first=200))

    content, data = await taken(broker.engine, f"{prefix}_events")
    await writing
    await put(other, content, data)

    assert content.last >= 200
    assert content.messages == content.last
    assert await messages(other, content.name) == (await messages(nc, content.name))[: content.last]


async def test_a_slow_reader_gets_all_of_it(
    broker: EmbeddedBroker, nc: Connection, prefix: str, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes nothing until the broker waits for an acknowledgement loses nothing, nor is cut off."""
    monkeypatch.setattr(module, "KEEP_ALIVE", 0.01)
    monkeypatch.setattr(module, "WINDOW", 2 * module.CHUNK)
    await ensure(nc, prefix, initialised=False)
    await append(NatsEventStore(nc, prefix), 200)

    async with snapshot(broker.engine, f"{prefix}_events") as found:
        chunks = found.chunks()
        data = await anext(chunks)
        arriving = found._arriving
        await until(lambda: arriving._ahead > 4)
        data += b"".join([chunk async for chunk in chunks])

    await put(other, found.content, data)
    assert await messages(other, found.content.name) == await messages(nc, found.content.name)


async def test_a_reader_that_never_takes_anything_ends_the_snapshot(
    broker: EmbeddedBroker, nc: Connection, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker stops waiting, and the error says so; nothing is taken for whole."""
    monkeypatch.setattr(module, "STALLED", 0.0)
    monkeypatch.setattr(module, "WINDOW", 2 * module.CHUNK)
    await ensure(nc, prefix, initialised=False)
    await append(NatsEventStore(nc, prefix), 200)

    async with snapshot(broker.engine, f"{prefix}_events") as found:
        arriving = found._arriving
        await until(lambda: any(not message.data for message in arriving._waiting))
        with pytest.raises(SnapshotFailed, match="broke off"):
            await rest(found.chunks())


async def test_a_connection_that_breaks_fails_the_snapshot(
    broker: EmbeddedBroker, nc: Connection, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks may be lost then: it is an error, not a shorter snapshot."""
    monkeypatch.setattr(module, "WINDOW", 2 * module.CHUNK)
    await ensure(nc, prefix, initialised=False)
    await append(NatsEventStore(nc, prefix), 200)

    async with (
        Proxy(int(broker.url.rsplit(":", 1)[1])) as proxy,
        snapshot(replace(broker.engine, url=proxy.url), f"{prefix}_events") as found,
    ):
        chunks = found.chunks()
        await anext(chunks)
        proxy.cut()
        await until(lambda: found._arriving._broken)
        with pytest.raises(SnapshotFailed, match="connection"):
            await rest(chunks)


@pytest.mark.parametrize("cut", [1, 1000])
async def test_a_cut_snapshot_is_not_restored(
    broker: EmbeddedBroker, nc: Connection, prefix: str, other: Connection, cut: int
) -> None:
    """The broker notices it, whatever it has made of it by then."""
    await ensure(nc, prefix, initialised=False)
    await append(NatsEventStore(nc, prefix), 50)
    content, data = await taken(broker.engine, f"{prefix}_events")

    with pytest.raises(SnapshotFailed, match="restore"):
        await put(other, content, data[:-cut])


async def test_a_stream_that_is_not_there_has_no_snapshot(broker: EmbeddedBroker, prefix: str) -> None:
    """The broker's words are in the error."""
    with pytest.raises(SnapshotFailed, match="stream not found"):
        await taken(broker.engine, f"{prefix}_events")


async def rest(chunks: AsyncIterator[bytes]) -> None:
    """Take all that is left."""
    async for _ in chunks:
        pass


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)
