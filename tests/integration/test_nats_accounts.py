"""What a client of the embedded broker can and can't do: two accounts, with two subjects between them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg

from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.broker_files import credentials
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import BrokerUnfit, Unanswered
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.store import NatsEventStore
from trackbook.adapters.nats.streams import ensure
from trackbook.engine.ports import Append

Pair = tuple[Connection, Connection]


@pytest.fixture
async def pair(broker: EmbeddedBroker) -> AsyncIterator[Pair]:
    """The engine with its streams, and a client."""
    engine, client = await connect(broker.engine), await connect(broker.client)
    await ensure(engine, broker.prefix, initialised=False)
    yield engine, client
    await client.close()
    await engine.close()


async def answer(engine: Connection, subject: str) -> list[Msg]:
    """Answer commands as the engine does, and keep them."""
    got: list[Msg] = []

    async def respond(msg: Msg) -> None:
        got.append(msg)
        await msg.respond(b'{"status": "accepted"}')

    await engine.subscribe(subject, cb=respond)
    await engine.settle()
    return got


async def test_a_command_is_answered_across_the_accounts(pair: Pair) -> None:
    """A client's request reaches the engine with its headers, and the reply comes back."""
    engine, client = pair
    got = await answer(engine, "trackbook.cmd.job.start")

    reply = await client.ask("trackbook.cmd.job.start", b"{}", {"Trace": "t1"})

    assert reply.data == b'{"status": "accepted"}'
    assert (got[0].data, (got[0].headers or {})["Trace"]) == (b"{}", "t1")


async def test_a_command_without_an_engine_fails_at_once(pair: Pair) -> None:
    """A client learns right away that nobody answers, instead of waiting."""
    _, client = pair

    with pytest.raises(Unanswered, match="nobody answers"):
        await client.ask("trackbook.cmd.job.nobody", b"{}", timeout=30)


async def test_a_client_sees_live_commits(pair: Pair) -> None:
    """A commit is republished to clients: the stored bytes, with its place in the stream."""
    engine, client = pair
    live = await client.subscribe("trackbook.live.>")
    await client.settle()
    store = NatsEventStore(engine)

    (seq,) = await store.append(Append("job", "seen", 0, b'{"schema":1}', "seen-1"))

    msg = await live.next_msg(5)
    assert (msg.subject, msg.data) == ("trackbook.live.job.seen", b'{"schema":1}')
    assert (msg.headers or {})["Nats-Sequence"] == str(seq)


@pytest.mark.parametrize(
    "forged",
    [
        "trackbook.evt.job.forged",
        "trackbook.blob.forged.0",
        "trackbook.live.job.forged",
        "$JS.API.STREAM.PURGE.trackbook_events",
    ],
)
async def test_a_forged_reply_subject_writes_nothing(pair: Pair, forged: str) -> None:
    """A reply that a client asks to have sent to a subject of the engine never gets there."""
    engine, client = pair
    spied = await engine.subscribe(forged)
    live = await engine.subscribe("trackbook.live.>")
    got = await answer(engine, "trackbook.cmd.job.forge")
    before = await state(engine)

    await client.publish("trackbook.cmd.job.forge", b"{}", reply=forged)
    await client.ask("trackbook.cmd.job.forge", b"{}")
    await engine.settle()

    assert len(got) == 2
    assert got[0].reply != forged
    assert (spied.pending_msgs, live.pending_msgs) == (0, 0)
    assert await state(engine) == before


async def state(engine: Connection) -> list[object]:
    """What both streams hold."""
    streams = ("trackbook_events", "trackbook_blobs")
    return [(await api(engine, f"STREAM.INFO.{name}"))["state"] for name in streams]


@pytest.mark.parametrize(
    "subject",
    [
        "trackbook.evt.job.forged",
        "trackbook.blob.forged.0",
        "trackbook.live.job.forged",
        "other.cmd.job.start",
        "$JS.API.INFO",
        "$JS.API.STREAM.DELETE.trackbook_events",
        "$JS.API.DIRECT.GET.trackbook_events",
        "$SYS.REQ.SERVER.PING",
        "anything",
    ],
)
async def test_a_client_may_only_send_commands(pair: Pair, subject: str) -> None:
    """Whatever else a client sends is refused, and none of it reaches the engine."""
    engine, client = pair
    spied = await engine.subscribe(subject)
    await engine.settle()
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    before = await state(engine)

    await client.publish(subject, b"{}", reply=inbox)
    await client.settle()
    await engine.settle()
    await client.settle()

    assert (spied.pending_msgs, replies.pending_msgs) == (0, 0)
    assert await state(engine) == before


@pytest.mark.parametrize("subject", [">", "trackbook.>", "trackbook.evt.>", "trackbook.cmd.>", "$SYS.>", "$JS.>"])
async def test_a_client_may_only_listen_to_live_commits(pair: Pair, subject: str) -> None:
    """A client that listens to anything else hears nothing: neither commits nor the commands of others."""
    engine, client = pair
    await answer(engine, "trackbook.cmd.job.private")
    heard = await client.subscribe(subject)
    await client.settle()
    store = NatsEventStore(engine)

    await store.append(
        Append("job", f"unheard{hash(subject)}".replace("-", "m"), 0, b"secret", f"unheard-{subject}")
    )
    await client.ask("trackbook.cmd.job.private", b"{}")
    await client.settle()

    assert heard.pending_msgs == 0


async def test_a_client_may_not_listen_to_the_replies_of_others(pair: Pair, broker: EmbeddedBroker) -> None:
    """The usual inbox is closed to clients, and what is answered to one comes to its private inbox alone."""
    engine, client = pair
    got = await answer(engine, "trackbook.cmd.job.answered")
    spy = await connect(replace(broker.client, inbox_prefix=f"{broker.client.inbox_prefix}.spy"))
    heard = [await spy.subscribe(subject) for subject in ("_INBOX.>", "*.>", "*.*.*", ">")]
    await spy.settle()

    reply = await client.ask("trackbook.cmd.job.answered", b"{}")
    await spy.settle()

    assert (len(got), reply.data) == (1, b'{"status": "accepted"}')
    assert [each.pending_msgs for each in heard] == [0, 0, 0, 0]
    await spy.close()


async def test_a_client_with_the_usual_inbox_gets_no_answer(pair: Pair, broker: EmbeddedBroker) -> None:
    """A client that does not use the private prefix is refused its inbox by the broker."""
    engine, _ = pair
    await answer(engine, "trackbook.cmd.job.usual")
    usual = await connect(replace(broker.client, inbox_prefix=""))

    with pytest.raises(Unanswered):
        await usual.ask("trackbook.cmd.job.usual", b"{}", timeout=0.5)
    await usual.close()


def test_the_private_inbox_is_announced(broker: EmbeddedBroker) -> None:
    """nats.json tells clients their prefix, which nobody can guess and which stays from start to start."""
    known = json.loads((broker.data / "nats.json").read_bytes())

    assert known["inbox_prefix"] == broker.client.inbox_prefix
    assert re.fullmatch(r"_INBOX_[0-9a-f]{24}", known["inbox_prefix"])
    assert credentials(broker.home / "credentials.json").inbox == known["inbox_prefix"]


def test_credentials_of_an_earlier_version_get_an_inbox(tmp_path: Path) -> None:
    """An installation from before private inboxes keeps its passwords and is given one."""
    path = tmp_path / "credentials.json"
    path.write_text('{"engine": "e", "client": "c"}')

    first, second = credentials(path), credentials(path)

    assert (first.engine, first.client) == ("e", "c")
    assert first.inbox.startswith("_INBOX_")
    assert first == second


async def test_a_wrong_password_opens_nothing(broker: EmbeddedBroker) -> None:
    """Neither the other user's password nor none lets anybody in."""
    for access in (
        replace(broker.engine, password=broker.client.password),
        replace(broker.engine, user="", password=""),
    ):
        with pytest.raises(BrokerUnfit, match="refuses these credentials"):
            async with asyncio.timeout(60):
                await connect(access)
