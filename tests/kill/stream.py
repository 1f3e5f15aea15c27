"""The raw event stream, read by plain nats-py with the engine's own credentials, and what stands in it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats.errors
from checker.check import Message
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from kill.client import connect

PATIENCE = 30.0
"""Seconds for the whole stream to be read, and for the broker to be back."""
STREAM, BLOBS = "trackbook_events", "trackbook_blobs"
ENDS = ("JobSucceeded", "JobFailed", "JobCancelled")


async def opened(data: Path) -> Client:
    """Return a connection as the engine."""
    return await connect(data / "broker" / "engine.json")


async def dump(data: Path, stream: str = STREAM) -> list[Message]:
    """Return every message of a stream; tries again while the broker is away."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                return await _dump(data, stream)
        except (nats.errors.Error, OSError, TimeoutError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


async def _dump(data: Path, stream: str) -> list[Message]:
    connection = await opened(data)
    try:
        context = connection.jetstream()
        info = await context.stream_info(stream)
        found = []
        for seq in range(1, info.state.last_seq + 1):
            try:
                message = await context.get_msg(stream, seq, direct=True)
            except NotFoundError:
                continue
            assert message.seq is not None
            found.append((message.seq, str(message.subject), message.data or b""))
        return found
    finally:
        await connection.close()


async def blobs(data: Path) -> dict[str, bytes]:
    """Return every blob by its name, put together from its chunks."""
    chunks: dict[str, dict[int, bytes]] = defaultdict(dict)
    for _, subject, chunk in await dump(data, BLOBS):
        *_, sha256, number = subject.split(".")
        chunks[sha256][int(number)] = chunk
    return {sha256: b"".join(parts[number] for number in sorted(parts)) for sha256, parts in chunks.items()}


async def head(data: Path) -> int:
    """Return the last sequence of the stream."""
    connection = await opened(data)
    try:
        return (await connection.jetstream().stream_info(STREAM)).state.last_seq
    finally:
        await connection.close()


async def last(connection: Client, kind: str, aggregate: str) -> dict[str, Any] | None:
    """Return the aggregate's last commit, None if it has none."""
    answer = await connection.request(
        f"$JS.API.DIRECT.GET.{STREAM}.trackbook.evt.{kind}.{aggregate}", b"", timeout=2
    )
    if answer.headers and answer.headers.get("Status"):
        return None
    commit: dict[str, Any] = json.loads(answer.data)
    return commit


def job_events(messages: list[Message]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each event of a job, with its job's id."""
    for _, _, data in messages:
        commit = json.loads(data)
        if commit["kind"] == "job":
            for event in commit["events"]:
                yield commit["id"], event


def save(messages: list[Message], path: Path) -> None:
    """Write a dump in the checker's form."""
    rows = ({"seq": s, "subject": u, "data": base64.b64encode(d).decode()} for s, u, d in messages)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
