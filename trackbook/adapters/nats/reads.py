"""Reading the stream by batch direct get: no consumer, no acknowledgement, nothing left behind in the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from nats.aio.msg import Msg

from trackbook.adapters.nats.connect import Connection, Unanswered, api
from trackbook.adapters.nats.streams import STREAM_NOT_FOUND, StreamMissing

BATCH = 1000  # messages asked for at once
BATCH_BYTES = 4 << 20  # well below what the server buffers for one client (64 MiB)


async def direct(nc: Connection, stream: str, query: dict[str, Any]) -> tuple[list[Msg], int]:
    """Return the messages of one batch direct get, and how many more match behind them; raises Unanswered."""
    found, end = await nc.collect(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(query))
    status = end.headers or {}
    if status["Status"] == "404":
        return [], 0
    if status["Status"] != "204":
        raise Unanswered(f"reading {stream}: {status['Status']} {status.get('Description', '')}")
    return found, int(status["Nats-Num-Pending"])


async def walk(
    nc: Connection, stream: str, from_seq: int, query: dict[str, Any] | None = None
) -> AsyncIterator[list[Msg]]:
    """Yield batches from a sequence on until nothing more matches; waits while the broker is away."""
    ask = {"batch": BATCH, "max_bytes": BATCH_BYTES} | (query or {})
    seq = max(from_seq, 1)
    while True:
        try:
            batch, more = await direct(nc, stream, ask | {"seq": seq})
        except Unanswered:
            await pause(nc, stream)
            continue
        if batch:
            yield batch
            seq = sequence(batch[-1]) + 1
        if not more:
            return


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


async def head(nc: Connection, stream: str) -> int:
    """Return the last sequence of a stream, of its leader's knowledge; waits while the broker is away."""
    while True:
        try:
            info = await api(nc, f"STREAM.INFO.{stream}")
        except Unanswered:
            await breathe(nc)
            continue
        if fault := info.get("error"):
            raise StreamMissing(f"stream {stream}: {fault['description']}")
        return int(info["state"]["last_seq"])


def sequence(msg: Msg) -> int:
    """Return where a message stands in its stream; 0 for one that comes from no stream."""
    return int((msg.headers or {}).get("Nats-Sequence", 0))


async def breathe(nc: Connection, seconds: float = 0.05) -> None:
    """Wait a moment, and for the broker to be back; raises BrokerUnreachable once the connection is closed."""
    await asyncio.sleep(seconds)
    await nc.up()
