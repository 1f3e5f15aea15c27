"""A whole stream as bytes and back, by JetStream's own snapshots: sequences, times and gaps stay as they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.connection import Connection, connect
from trackbook.adapters.nats.errors import Unanswered
from trackbook.adapters.nats.jetstream_api import api, insist
from trackbook.errors import UserError

NEEDED = (2, 15)
"""Older servers copy a stream's files while they are written, and a copy may end in a gap that never was."""

CHUNK = 128 << 10  # bytes that are sent at once
WINDOW = 4 << 20  # bytes on their way before the server waits for an acknowledgement
KEEP_ALIVE = 2.0  # seconds after which a chunk is acknowledged that nobody has taken; the server waits for 5
STALLED = 300.0  # seconds for which nobody takes anything before a snapshot ends
SILENT = 60.0  # seconds without a word from the server
_NO_MESSAGE = 10037


class SnapshotFailed(UserError):
    """The broker can't give a stream's snapshot, or doesn't take one: says why."""


class StreamContent(Struct, frozen=True):
    """What a snapshot holds: the stream's configuration, its state then, and the SHA-256 of its last message.

    `head_sha256` is '' where the stream is empty, or has no message at its last sequence.
    """

    config: dict[str, Any]
    state: dict[str, Any]
    head_sha256: str = ""

    @property
    def name(self) -> str:
        """The stream's name."""
        return str(self.config["name"])

    @property
    def last(self) -> int:
        """The stream's last sequence, 0 for none."""
        return int(self.state["last_seq"])

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return int(self.state["messages"])

    @property
    def size(self) -> int:
        """Bytes that the stream takes in its store."""
        return int(self.state["bytes"])


class StreamSnapshot:
    """A snapshot on its way: `chunks` yields it, once. What is appended meanwhile is not in it."""

    def __init__(self, nc: Connection, content: StreamContent, arriving: _Arriving) -> None:
        self._nc, self.content, self._arriving = nc, content, arriving

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the snapshot's bytes; raises SnapshotFailed, also where they aren't taken for STALLED seconds."""
        keeping = asyncio.create_task(self._arriving.keep_alive())
        try:
            while (message := await self._arriving.take()).data:
                yield message.data
        finally:
            keeping.cancel()
        headers = message.headers or {}
        if headers.get("Status", "204") != "204":
            why = headers.get("Description") or headers["Status"]
            raise SnapshotFailed(f"the broker broke off the snapshot of {self.content.name}: {why}")


class _Arriving:
    """The chunks that have arrived; one is acknowledged when it is taken, so that no more arrive than fit."""

    def __init__(self, nc: Connection, stream: str) -> None:
        self._nc, self._stream = nc, stream
        self._waiting: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._broken = False
        self._taken = 0
        self._ahead = 0  # chunks that wait and are acknowledged already

    async def got(self, message: Msg) -> None:
        """Keep a chunk."""
        self._waiting.append(message)
        self._news.set()

    def broke(self) -> None:
        """Take note that the connection broke: chunks may have been lost."""
        self._broken = True
        self._news.set()

    async def take(self) -> Msg:
        """Return the next chunk, acknowledged; raises SnapshotFailed where it does not come."""
        message = await self._next()
        if not message.reply:  # the last one, or the end
            return message
        self._taken += 1
        _, size, index = message.reply.rsplit(".", 2)
        if (int(size), int(index)) != (len(message.data), self._taken):
            raise SnapshotFailed(f"a part of the snapshot of {self._stream} was lost on its way")
        if self._ahead:
            self._ahead -= 1
        else:
            await self._nc.publish(message.reply)
        return message

    async def _next(self) -> Msg:
        while not self._waiting and not self._broken:
            self._news.clear()
            try:
                async with asyncio.timeout(SILENT):
                    await self._news.wait()
            except TimeoutError:
                raise SnapshotFailed(f"the broker says nothing more of {self._stream}") from None
        if self._broken:
            raise SnapshotFailed(f"the connection to the broker broke during the snapshot of {self._stream}")
        return self._waiting.popleft()

    async def keep_alive(self) -> None:
        """Acknowledge a waiting chunk now and then while none is taken, for STALLED seconds at most.

        Else a reader that is slower than the broker's patience would end the snapshot.
        """
        taken, patience = self._taken, STALLED
        while patience > 0:
            await asyncio.sleep(KEEP_ALIVE)
            if self._taken != taken:
                taken, patience = self._taken, STALLED
            elif len(self._waiting) > self._ahead and (reply := self._waiting[self._ahead].reply):
                await self._nc.publish(reply)
                self._ahead += 1
                patience -= KEEP_ALIVE


@asynccontextmanager
async def snapshot(access: Access, stream: str) -> AsyncIterator[StreamSnapshot]:
    """Begin a snapshot of a stream on a connection of its own; the broker stops it where that is closed.

    Raises SnapshotFailed, BrokerUnreachable.
    """
    nc = await connect(access, name="trackbook-backup")
    try:
        found = nc.connected_server_version
        if (found.major, found.minor) < NEEDED:
            need = ".".join(map(str, NEEDED))
            raise SnapshotFailed(f"a backup needs nats-server {need} or newer, and this broker is older")
        arriving = _Arriving(nc, stream)
        nc.on_reconnect(arriving.broke)
        nc.on_close(arriving.broke)
        inbox = nc.new_inbox()
        await nc.subscribe(inbox, cb=arriving.got, pending_msgs_limit=0, pending_bytes_limit=0)
        asked = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK, "window_size": WINDOW}
        yield StreamSnapshot(nc, await _begin(nc, stream, asked), arriving)
    finally:
        await nc.close()


async def _begin(nc: Connection, stream: str, asked: dict[str, Any]) -> StreamContent:
    try:
        answer = await api(nc, f"STREAM.SNAPSHOT.{stream}", asked)
        if fault := answer.get("error"):
            raise SnapshotFailed(f"the broker gives no snapshot of {stream}: {fault['description']}")
        sha256 = await message_digest(nc, stream, int(answer["state"]["last_seq"]))
    except Unanswered as error:
        raise SnapshotFailed(f"the broker gives no snapshot of {stream}: {error}") from error
    return StreamContent(answer["config"], answer["state"], sha256)


async def message_digest(nc: Connection, stream: str, seq: int) -> str:
    """Return the SHA-256 of the message at a sequence, '' where there is none; raises SnapshotFailed."""
    if seq == 0:
        return ""
    answer = await insist(nc, f"STREAM.MSG.GET.{stream}", {"seq": seq})
    if fault := answer.get("error"):
        if fault.get("err_code") == _NO_MESSAGE:
            return ""
        raise SnapshotFailed(f"the broker can't read sequence {seq} of {stream}: {fault['description']}")
    return hashlib.sha256(base64.b64decode(answer["message"].get("data", ""))).hexdigest()


async def restore(nc: Connection, content: StreamContent, chunks: AsyncIterable[bytes]) -> None:
    """Make a stream from its snapshot, on a broker that has none of that name; compare it with what it was.

    Raises SnapshotFailed. The broker may have a part of the stream then: its store is to be thrown away.
    """
    name = content.name
    try:
        asked = {"config": content.config, "state": content.state}
        subject = _unless_refused(name, await api(nc, f"STREAM.RESTORE.{name}", asked))["deliver_subject"]
        async for chunk in chunks:
            for at in range(0, len(chunk), CHUNK):
                answer = await nc.ask(subject, chunk[at : at + CHUNK], timeout=SILENT)
                _unless_refused(name, msgspec.json.decode(answer.data or b"{}"))
        done = await nc.ask(subject, timeout=SILENT)
        state = _unless_refused(name, msgspec.json.decode(done.data))["state"]
    except Unanswered as error:
        raise SnapshotFailed(f"the broker doesn't restore {name}: {error}") from error
    # The first sequence of a stream that never had a message is 0, or 1 once it was restored.
    for key in ("messages", "bytes", "last_seq", *(["first_seq"] if content.last else [])):
        if state[key] != content.state[key]:
            raise SnapshotFailed(f"{name} was restored with {key} {state[key]}, not {content.state[key]}")
    if await message_digest(nc, name, content.last) != content.head_sha256:
        raise SnapshotFailed(f"the last message of {name}, at sequence {content.last}, is not the one it was")


def _unless_refused(name: str, answer: Any) -> dict[str, Any]:
    if fault := answer.get("error"):
        raise SnapshotFailed(f"the broker doesn't restore {name}: {fault['description']}")
    found: dict[str, Any] = answer
    return found
