"""The log on JetStream: one commit is one acknowledged message, fenced by its aggregate's last sequence."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import AsyncIterator, Sequence

import msgspec
import structlog
from msgspec import Struct

from trackbook.adapters.nats.condition import condition
from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import FULL, StoreFull, Unanswered
from trackbook.adapters.nats.limits import restore_limits
from trackbook.adapters.nats.pending_writes import Keeper, PendingWrite, PendingWrites, no_keeper
from trackbook.adapters.nats.reads import LeaderRefused, first_from, pause
from trackbook.adapters.nats.rechecks import Recheck, Rechecks
from trackbook.adapters.nats.streams import StreamDamaged, event_subject, events_stream
from trackbook.adapters.nats.tail import Live
from trackbook.engine.ports import Append, AppendConflict, Stored, StoreUnanswered
from trackbook.engine.store_condition import RestoredLimits, StoreCondition
from trackbook.failpoints import failpoint

ANSWER_PATIENCE = 5.0  # seconds for an acknowledgement; then we look whether the commit is there
HEADER_ROOM = 4096  # bytes of a message kept for its headers
# Somebody else's commit, or our own that was stored already: which of the two, a look at the stream tells.
# 10071/10164 wrong last sequence, 10201 message id seen in a batch.
CONTESTED = frozenset({10071, 10164, 10201})
# 10008 JetStream unavailable, 10176/10199/10211 a batch abandoned or one too many at once.
PASSING = frozenset({10008, 10009, 10176, 10199, 10211})

log = structlog.get_logger("trackbook.store")


class AppendRefused(Exception):
    """The broker will not store this commit, whatever happens: says why."""


class _Fault(Struct):
    err_code: int = 0
    description: str = ""


class _Ack(Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Fault | None = None
    lost: str = ""  # why there is none; never in what the server sends

    @property
    def clean(self) -> bool:
        return self.seq > 0 and not self.duplicate and self.error is None

    @property
    def words(self) -> str:
        if self.error:
            return f"{self.error.description} ({self.error.err_code})"
        return self.lost or "the message id was used before"


_decode_ack = msgspec.json.Decoder(_Ack).decode


class NatsEventStore:
    """The EventStore port on a connection; `keeper` looks after a broker without room.

    TRACKBOOK_UNSAFE=no-fence drops expected sequence, message id and the look at the outcome, so that a test can
    show that the kill test would notice.
    """

    def __init__(self, nc: Connection, prefix: str = "trackbook", *, keeper: Keeper = no_keeper) -> None:
        self._nc, self._prefix, self._keeper = nc, prefix, keeper
        self._stream = events_stream(prefix)
        self._live = Live(nc, prefix)
        self._rechecks = Rechecks(nc)
        self.pending_writes = PendingWrites()
        self._batch = f"{secrets.token_hex(8)}-"
        self._batches = itertools.count()
        self._fenced = "no-fence" not in os.environ.get("TRACKBOOK_UNSAFE", "").split(",")

    @property
    def problem(self) -> str:
        """Say since when writes have waited and why, or why there is no room; '' when all is well."""
        return self.pending_writes.problem()

    def unanswered(self, waited: float) -> str:
        """Say why a client that has waited so many seconds is not to wait any longer; '' where it is."""
        return self.pending_writes.unanswered(waited)

    @property
    def recheck(self) -> Recheck | None:
        """Awaited before the first append after each reconnect, and at once where nobody appends; see Recheck."""
        return self._rechecks.recheck

    @recheck.setter
    def recheck(self, recheck: Recheck | None) -> None:
        self._rechecks.recheck = recheck

    async def append(self, *commits: Append) -> list[int]:
        """Append all or none and return their sequences; waits while the broker is away.

        Raises AppendConflict, StoreFull, AppendRefused, and what `recheck` raises. An outcome that isn't known is
        looked up, never guessed; StoreUnanswered is raised only before anything was sent.
        """
        with self.pending_writes.write() as wait:
            return await self._append(commits, wait)

    async def _append(self, commits: Sequence[Append], wait: PendingWrite) -> list[int]:
        failpoint("append.before")
        began = self._rechecks.count
        await self._rechecks.admit(began)
        ack = await self._send(commits)
        if ack.clean:
            seqs = list(range(ack.seq - len(commits) + 1, ack.seq + 1))
        else:
            seqs = await self._settle(commits, ack, began, wait)
        failpoint("append.acked")
        return seqs

    async def _send(self, commits: Sequence[Append]) -> _Ack:
        *others, last = commits
        headers = self._headers(last)
        try:
            if others:
                batch = f"{self._batch}{next(self._batches)}"
                for number, commit in enumerate(others, 1):
                    await self._nc.tell(
                        self._subject(commit), commit.data, self._headers(commit) | _in_batch(batch, number)
                    )
                headers |= _in_batch(batch, len(commits)) | {"Nats-Batch-Commit": "1"}
            answer = await self._nc.ask(self._subject(last), last.data, headers, ANSWER_PATIENCE)
        except Unanswered as error:
            return _Ack(lost=str(error))
        return _decode_ack(answer.data)

    def _subject(self, commit: Append) -> str:
        # The client doesn't count headers; the server does, and cuts the connection over a message too large.
        if len(commit.data) > self._nc.max_payload - HEADER_ROOM:
            raise AppendRefused(
                f"a commit of {len(commit.data)} bytes is too large: the broker takes {self._nc.max_payload}"
            )
        return event_subject(self._prefix, commit.kind, commit.id)

    def _headers(self, commit: Append) -> dict[str, str]:
        if not self._fenced:
            return {}
        return {
            "Nats-Expected-Last-Subject-Sequence": str(commit.expected_seq),
            "Nats-Msg-Id": commit.message_id,
        }

    async def _settle(self, commits: Sequence[Append], ack: _Ack, began: int, wait: PendingWrite) -> list[int]:
        """Find out what became of an append without a clean acknowledgement; repeat it until it has one."""
        log.info("append.unsettled", why=ack.words, kind=commits[0].kind, id=commits[0].id)
        while True:
            wait.why = ack.words
            await self._readmit(began)
            if self._fenced and (seqs := await self._find(commits)) is not None:
                return seqs
            await self._raise_if_hopeless(ack)
            await pause(self._nc, self._stream)
            await self._readmit(began)
            ack = await self._send(commits)
            if ack.clean:
                return list(range(ack.seq - len(commits) + 1, ack.seq + 1))

    async def _readmit(self, began: int) -> None:
        """Return once the log was checked; what was sent before may be stored, so no silence ends this."""
        while True:
            try:
                return await self._rechecks.admit(began)
            except StoreUnanswered:
                await pause(self._nc, self._stream)

    async def _find(self, commits: Sequence[Append]) -> list[int] | None:
        """Return the sequences of these commits if they are stored, None if not; raises AppendConflict."""
        found = [await self._after(commit) for commit in commits]
        for commit, message in zip(commits, found, strict=True):
            if message is not None and message.data != commit.data:
                raise AppendConflict(
                    f"{commit.kind} {commit.id}: another commit follows sequence {commit.expected_seq}"
                )
        stands = [message.seq for message in found if message is not None]
        if not stands:
            return None
        if len(stands) < len(commits):
            raise StreamDamaged(
                f"only {len(stands)} of {len(commits)} commits of one decision are stored, at {stands}"
            )
        return stands

    async def _after(self, commit: Append) -> Stored | None:
        """Return the first message of the aggregate behind the expected sequence, by the leader's own word.

        If ours was stored it is this one, whatever was appended behind it; a direct get may come from a replica
        that lags.
        """
        try:
            return await first_from(self._nc, self._stream, commit.expected_seq + 1, self._subject(commit))
        except LeaderRefused as error:
            raise AppendRefused(f"can't look up the outcome: {error}") from error

    async def _raise_if_hopeless(self, ack: _Ack) -> None:
        """Raise what an append that isn't stored is to its caller; return if it is worth another try."""
        code = ack.error.err_code if ack.error else 0
        if code in CONTESTED or ack.duplicate:
            raise AppendConflict(ack.words)
        if code and code not in FULL | PASSING:
            raise AppendRefused(ack.words)
        if self._nc.is_connected and (hopeless := await self._keeper(code in FULL)):
            raise StoreFull(hopeless)

    async def read(self, kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        """Yield one aggregate's commits from a stream sequence on, in order."""
        subject = event_subject(self._prefix, kind, id)
        async for batch in self.pending_writes.reads.walk(self._nc, self._stream, from_seq, subject):
            for message in batch:
                yield message

    async def read_all(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield the stream from a sequence on, up to its head at the call; what is left out is lost.

        Raises BrokerUnanswered.
        """
        end = await self.head()
        async for batch in self.pending_writes.reads.confirmed(self._nc, self._stream, from_seq, end):
            if batch[-1].seq <= end or (batch := [commit for commit in batch if commit.seq <= end]):
                yield batch

    def tail(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield batches from a sequence on and follow for ever; raises StreamDamaged, BrokerUnreachable.

        StreamDamaged says that a commit that was there is lost or is another one now.
        """
        return self._live.follow(from_seq)

    async def head(self) -> int:
        """Return the sequence of the last commit, 0 for none; raises BrokerUnanswered."""
        return await self.pending_writes.reads.head(self._nc, self._stream)

    async def condition(self) -> StoreCondition:
        """Return what the broker reports of both streams; raises BrokerUnanswered."""
        with self.pending_writes.reads.attempt(self._nc, "condition of the streams") as patience:
            return await condition(self._nc, self._prefix, patience)

    async def restore_limits(self) -> list[RestoredLimits]:
        """Put back the settings that let messages fall out, stream by stream.

        Raises StreamMissing, BrokerUnanswered.
        """
        with self.pending_writes.reads.attempt(self._nc, "limits of the streams") as patience:
            return await restore_limits(self._nc, self._prefix, patience)


def _in_batch(batch: str, number: int) -> dict[str, str]:
    return {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
