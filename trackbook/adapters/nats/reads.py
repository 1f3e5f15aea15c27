"""Reading the stream by batch direct get: no consumer, no acknowledgement, nothing left behind in the broker.

A direct get may be answered by a replica that lags, so what it leaves out may exist all the same. A message is
missing only when the stream's leader says so (STREAM.MSG.GET). The leader is also asked where a batch gets no
answer: nats-server 2.15.1 never answers one that begins in a block that it can't read, while its leader says that
there is no such message (measured with a directory in the place of the block).
"""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec
from nats.aio.msg import Msg

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import Unanswered
from trackbook.adapters.nats.jetstream_api import api
from trackbook.adapters.nats.streams import STREAM_NOT_FOUND, StreamMissing
from trackbook.engine.ports import Stored, StoreUnanswered
from trackbook.errors import UserError

BATCH = 1000  # messages asked for at once
BATCH_BYTES = 4 << 20  # well below what the server buffers for one client (64 MiB)
ANSWER = 5.0  # seconds for the answer to a batch
SOON = 0.25  # seconds for it while the stream is known to have left a batch unanswered
SILENT_FOR = 60.0  # seconds for which that is known
NO_MESSAGE = 10037
# 10008 JetStream unavailable, 10009 it has no leader.
AWAY = frozenset({10008, 10009, STREAM_NOT_FOUND})


class BrokerUnanswered(UserError, StoreUnanswered):
    """The broker is away, or connected and answers no requests about a stream."""


class LeaderRefused(Exception):
    """The stream's leader refuses to look a message up: says why."""


async def direct(
    nc: Connection, stream: str, query: dict[str, Any], timeout: float = ANSWER
) -> tuple[list[Msg], int]:
    """Return the messages of one batch direct get, and how many more match behind them; raises Unanswered."""
    found, end = await nc.collect(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(query), timeout)
    status = end.headers or {}
    if status["Status"] == "404":
        return [], 0
    if status["Status"] != "204":
        raise Unanswered(f"reading {stream}: {status['Status']} {status.get('Description', '')}")
    return found, int(status["Nats-Num-Pending"])


async def walk(
    nc: Connection, stream: str, from_seq: int, subject: str = ">", patience: float | None = None
) -> AsyncIterator[list[Stored]]:
    """Yield batches of a subject from a sequence on until nothing more matches; waits while the broker is away.

    Raises BrokerUnanswered where no answer comes for `patience` seconds, if given.
    """
    seq, alone = max(from_seq, 1), False
    asked_at = time.monotonic()
    while True:
        try:
            batch, more = await (_one if alone else _batch)(nc, stream, seq, subject)
        except (Unanswered, LeaderRefused):
            if nc.is_connected and not alone:
                alone = True
                continue
            await pause_within(nc, stream, asked_at, patience)
            alone = False
            continue
        asked_at = time.monotonic()
        if alone:
            nc.unanswered_batches[stream] = asked_at
        if batch:
            yield batch
            seq = batch[-1].seq + 1
            asked_at = time.monotonic()  # what the caller did with the batch took its own time
        if not more:
            return


async def _batch(nc: Connection, stream: str, seq: int, subject: str) -> tuple[list[Stored], bool]:
    """Return one batch, and whether more matches behind it; raises Unanswered."""
    query: dict[str, Any] = {"seq": seq, "batch": BATCH, "max_bytes": BATCH_BYTES}
    if subject != ">":
        query |= {"next_by_subj": subject}
    silent = time.monotonic() - nc.unanswered_batches.get(stream, -math.inf) < SILENT_FOR
    found, more = await direct(nc, stream, query, SOON if silent else ANSWER)
    return [stored(message) for message in found], more > 0


async def _one(nc: Connection, stream: str, seq: int, subject: str) -> tuple[list[Stored], bool]:
    """Return the next message, by the leader, and whether to ask again; raises Unanswered, LeaderRefused."""
    found = await _first(nc, stream, seq, subject)
    return ([found], True) if found else ([], False)


async def pause_within(nc: Connection, stream: str, asked_at: float, patience: float | None) -> None:
    """Pause until the next try; raises BrokerUnanswered once `patience` has passed since `asked_at`."""
    await _within(nc, stream, asked_at, patience, pause(nc, stream))


async def _within(
    nc: Connection, stream: str, asked_at: float, patience: float | None, waits: Coroutine[Any, Any, None]
) -> None:
    left = None if patience is None else asked_at + patience - time.monotonic()
    try:
        async with asyncio.timeout(None if left is None else max(0.0, left)):
            await waits
    except TimeoutError:
        raise _unanswered(nc, stream, time.monotonic() - asked_at) from None


def _unanswered(nc: Connection, stream: str, waited: float) -> BrokerUnanswered:
    if not nc.is_connected:
        message = f"the broker is away, and a read of the stream {stream} has waited {waited:.0f} s for it"
        return BrokerUnanswered(message, "Its log in the data directory says why; then start again.")
    return BrokerUnanswered(
        f"the broker is connected and has not answered reads of the stream {stream} for {waited:.0f} s: "
        "nats-server does so after a block of the stream was damaged under it",
        "Copy the data directory, then start again.",
    )


async def confirmed(
    nc: Connection, stream: str, from_seq: int, end: int, patience: float | None = None
) -> AsyncIterator[list[Stored]]:
    """Yield the stream in order from a sequence on, at least up to `end`; what is left out does not exist.

    The leader is asked about each gap. It answers with the next message that it has: a replica that has not got
    it (yet) is helped out with it. Waits while the broker is away; raises BrokerUnanswered where no answer comes
    for `patience` seconds, if given.
    """
    seq = max(from_seq, 1)
    while seq <= end:
        helped: Stored | None = None
        async for batch in walk(nc, stream, seq, patience=patience):
            upto, helped = await _whole(nc, stream, batch, seq, patience)
            if upto:
                seq = batch[upto - 1].seq + 1
                yield batch[:upto]
            if helped:
                break
        else:
            if seq > end:
                return
            helped = await first_from(nc, stream, seq, patience=patience)
            if helped is None:
                return
        if helped:
            seq = helped.seq + 1
            yield [helped]


async def _whole(
    nc: Connection, stream: str, batch: list[Stored], seq: int, patience: float | None
) -> tuple[int, Stored | None]:
    """Return how many commits of a batch follow `seq` without leaving one out, and the one left out."""
    for index, commit in enumerate(batch):
        if commit.seq > seq:
            found = await first_from(nc, stream, seq, patience=patience)
            if found is not None and found.seq < commit.seq:
                return index, found
        seq = commit.seq + 1
    return len(batch), None


async def first_from(
    nc: Connection, stream: str, seq: int, subject: str = ">", patience: float | None = None
) -> Stored | None:
    """Return the first message of a subject from a sequence on, or None, on the word of the stream's leader.

    Waits while the broker is away. Raises StreamMissing, LeaderRefused, and BrokerUnanswered where no answer
    comes for `patience` seconds, if given.
    """
    asked_at = time.monotonic()
    while True:
        try:
            return await _first(nc, stream, seq, subject)
        except Unanswered:
            await pause_within(nc, stream, asked_at, patience)


async def _first(nc: Connection, stream: str, seq: int, subject: str) -> Stored | None:
    """Ask the stream's leader once; raises Unanswered, LeaderRefused."""
    answer = await api(nc, f"STREAM.MSG.GET.{stream}", {"seq": max(seq, 1), "next_by_subj": subject})
    if message := answer.get("message"):
        _, kind, name = message["subject"].rsplit(".", 2)
        return Stored(int(message["seq"]), kind, name, base64.b64decode(message.get("data", "")))
    code = answer["error"].get("err_code", 0)
    if code == NO_MESSAGE:
        return None
    why = f"reading {stream}: {answer['error'].get('description')} ({code})"
    raise LeaderRefused(why) if code and code not in AWAY else Unanswered(why)


def stored(msg: Msg) -> Stored:
    """Return a message of the stream, read or republished, as the port has it."""
    headers = msg.headers or {}
    _, kind, name = headers.get("Nats-Subject", "..").rsplit(".", 2)
    return Stored(sequence(msg), kind, name, msg.data)


async def pause(nc: Connection, stream: str) -> None:
    """Wait a moment and for the broker to be back, before something is asked of a stream again.

    Raises StreamMissing if the broker answers that there is no such stream, BrokerUnreachable once the connection
    is closed: then there is nothing to wait for.
    """
    await breathe(nc)
    try:
        info = await api(nc, f"STREAM.INFO.{stream}")
    except Unanswered:
        return
    if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
        raise StreamMissing(f"the broker has no stream {stream} any more")


async def head(nc: Connection, stream: str, patience: float | None = None) -> int:
    """Return the last sequence of a stream, of its leader's knowledge; see `stream_info`."""
    return int((await stream_info(nc, stream, patience=patience))["state"]["last_seq"])


async def stream_info(
    nc: Connection, stream: str, query: dict[str, Any] | None = None, *, patience: float | None = None
) -> dict[str, Any]:
    """Return what the leader says of a stream; waits while the broker is away.

    Raises StreamMissing, and BrokerUnanswered where no answer comes for `patience` seconds, if given.
    """
    asked_at = time.monotonic()
    while True:
        try:
            info = await api(nc, f"STREAM.INFO.{stream}", query)
        except Unanswered:
            await _within(nc, stream, asked_at, patience, breathe(nc))
            continue
        if fault := info.get("error"):
            raise StreamMissing(f"stream {stream}: {fault['description']}")
        return info


def sequence(msg: Msg) -> int:
    """Return where a message stands in its stream; 0 for one that comes from no stream."""
    return int((msg.headers or {}).get("Nats-Sequence", 0))


async def breathe(nc: Connection, seconds: float = 0.05) -> None:
    """Wait a moment, and for the broker to be back; raises BrokerUnreachable once the connection is closed."""
    await asyncio.sleep(seconds)
    await nc.up()
