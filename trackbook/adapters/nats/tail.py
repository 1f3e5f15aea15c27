"""Following the log: live commits from one subscription, and direct reads for whatever it didn't bring."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.reads import confirmed, first_from, head, stored
from trackbook.adapters.nats.streams import StreamDamaged, events_stream
from trackbook.engine.ports import Stored

MAILBOX = 4096  # commits kept for a follower that is slow; beyond that it reads them from the stream again


class Mailbox:
    """What has come live for one follower; `stale` says that something may be missing: read the stream."""

    def __init__(self) -> None:
        self.waiting: deque[Stored] = deque()
        self.stale = True
        self._news = asyncio.Event()

    def put(self, commit: Stored) -> None:
        """Add a commit; a full mailbox is emptied and stale."""
        if len(self.waiting) >= MAILBOX:
            self.waiting.clear()
            self.stale = True
        else:
            self.waiting.append(commit)
        self._news.set()

    def doubt(self) -> None:
        """Make the follower read the stream: the connection was lost for a while."""
        self.stale = True
        self._news.set()

    async def news(self) -> None:
        """Wait until there is something to do."""
        await self._news.wait()
        self._news.clear()


class Live:
    """One subscription to the live commits for any number of followers; none while nobody follows."""

    def __init__(self, nc: Connection, prefix: str) -> None:
        self._nc, self._stream, self._subject = nc, events_stream(prefix), f"{prefix}.live.>"
        self._mailboxes: set[Mailbox] = set()
        self._subscription: Subscription | None = None
        self._forget: list[Callable[[], None]] = []
        self._changing = asyncio.Lock()

    async def follow(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield what the stream has from a sequence on and then what comes, for ever and in order.

        What is left out does not exist. Raises StreamDamaged if the stream doesn't reach `from_seq` - 1, or no
        longer has the commit that was yielded last; BrokerUnreachable once the connection is closed.
        """
        mailbox, at = Mailbox(), Position(max(from_seq, 1))
        await self._join(mailbox)
        try:
            while True:
                if mailbox.stale:
                    mailbox.stale = False
                    async for batch in self._catch_up(at):
                        yield batch
                elif batch := at.take(mailbox):
                    yield batch
                elif not mailbox.stale:  # a gap has shown nothing but itself
                    await mailbox.news()
        finally:
            await self._leave(mailbox)

    async def _catch_up(self, at: Position) -> AsyncIterator[list[Stored]]:
        """Yield what the stream has from `at` on, after a look at the commit before it: is it still the same?"""
        end = await head(self._nc, self._stream)
        await self._check_anchor(at, end)
        async for batch in confirmed(self._nc, self._stream, at.next, end):
            at.advance(batch)
            yield batch

    async def _check_anchor(self, at: Position, end: int) -> None:
        seq = at.next - 1
        if end < seq:
            raise StreamDamaged(f"{self._stream} ends at {end}; commit {seq} was there once: commits are lost")
        if at.last is None:
            return
        found = await first_from(self._nc, self._stream, seq)
        if found is None or found.seq != seq:
            raise StreamDamaged(f"{self._stream} has no commit {seq} any more: it was there once")
        if found != at.last:
            raise StreamDamaged(f"commit {seq} is another one than before: the store was put back or replaced")

    async def _join(self, mailbox: Mailbox) -> None:
        self._mailboxes.add(mailbox)
        async with self._changing:
            if self._subscription is None:
                self._forget = [self._nc.on_reconnect(self._doubt), self._nc.on_close(self._doubt)]
                # Without limits: a message that the client drops in silence would be missed until the next one.
                self._subscription = await self._nc.subscribe(
                    self._subject, cb=self._deliver, pending_msgs_limit=0, pending_bytes_limit=0
                )

    async def _leave(self, mailbox: Mailbox) -> None:
        self._mailboxes.discard(mailbox)
        async with self._changing:
            if self._mailboxes or self._subscription is None:
                return
            subscription, self._subscription = self._subscription, None
            for forget in self._forget:
                forget()
            with contextlib.suppress(NatsError):  # the connection is closed: so is the subscription
                await subscription.unsubscribe()

    async def _deliver(self, msg: Msg) -> None:
        if not msg.headers or msg.headers.get("Nats-Stream") != self._stream:
            return  # not from the log: somebody publishes on live subjects
        commit = stored(msg)
        for mailbox in self._mailboxes:
            mailbox.put(commit)

    def _doubt(self) -> None:
        for mailbox in self._mailboxes:
            mailbox.doubt()


class Position:
    """How far a follower has come: the next sequence, and the last commit it was given, the one before."""

    def __init__(self, next: int) -> None:  # noqa: A002
        self.next = next
        self.last: Stored | None = None

    def take(self, mailbox: Mailbox) -> list[Stored]:
        """Return what waits and joins on without a gap; a gap makes the mailbox stale."""
        batch: list[Stored] = []
        while mailbox.waiting:
            commit = mailbox.waiting.popleft()
            if commit.seq > self.next:
                mailbox.stale = True
                break
            if commit.seq == self.next:
                batch.append(commit)
                self.next += 1
        if batch:
            self.last = batch[-1]
        return batch

    def advance(self, batch: list[Stored]) -> None:
        """Move past a batch that was read from the stream."""
        self.last = batch[-1]
        self.next = self.last.seq + 1
