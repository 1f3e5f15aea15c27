"""Reading and writing aggregates: bytes to folded states and back, large bodies in blobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from msgspec import Struct, field

from trackbook.adapters.sql.ledger import Head, Ledger, Note, Outcome
from trackbook.engine.kinds import KINDS, Kind
from trackbook.engine.outcome import AnswerCommand
from trackbook.engine.ports import Append, AppendConflict, Blobs, EventStore, Stored
from trackbook.errors import UserError
from trackbook.events.commit import SCHEMA, BlobRef, Body, Commit, Input, digest

log = structlog.get_logger(__name__)
BODY_LIMIT = 256 * 1024
"""Bytes of a commit from which its inputs and events go to a blob; the broker's default limit is 1 MiB."""

_FOLDED_AT_ONCE = 2_000
"""Events that are folded on the event loop in one go: some milliseconds."""

_REMEMBERS = "no-dedup" not in os.environ.get("TRACKBOOK_UNSAFE", "").split(",")
"""Test switch that shows what remembering outcomes is for: without it, a command sent again is decided again."""

S = TypeVar("S")
AnyCommit = Commit[Any, Any]


class Aggregate(Struct, Generic[S]):
    """An aggregate as its commits left it, and where the next one goes."""

    kind: str
    id: str
    state: S
    version: int = 0
    first_seq: int = 0
    seq: int = 0
    sha256: str = ""
    correlation: str = ""
    """Of the command that the aggregate began with: what follows from no other command belongs to it."""
    replies: dict[str, Outcome] = field(default_factory=dict)

    def answered(self, command_id: str) -> Outcome | None:
        """Return what this command was answered by a commit of the aggregate, None if by none."""
        return self.replies.get(command_id) if _REMEMBERS else None


class Draft(Struct):
    """A commit decided and not yet appended, with the state that it leads to."""

    aggregate: Aggregate[Any]
    inputs: list[Input[Any]]
    events: list[Any]
    causes: list[int]


class Book:
    """The one way to the log: load an aggregate, write drafts, all or none."""

    def __init__(self, store: EventStore, blobs: Blobs, ledger: Ledger) -> None:
        self.store = store
        self.blobs = blobs
        self.ledger = ledger
        self._looking = asyncio.Lock()
        self._looks = 0

    async def load(self, kind: str, id: str) -> Aggregate[Any]:  # noqa: A002
        """Return the aggregate folded from the log; version 0 if it has no commit."""
        how = KINDS[kind]
        aggregate = Aggregate(kind, id, how.decider.initial(id))
        known = self.ledger.head(kind, id)
        async for stored in self.store.read(kind, id, known.first_seq if known else 1):
            commit = await self.decode(stored)
            aggregate.state = await take(how, aggregate.state, commit)
            aggregate.correlation = aggregate.correlation or commit.inputs[0].correlation
            aggregate.replies |= {outcome.command_id: outcome for outcome in outcomes(commit, stored.seq)}
            _advance(aggregate, stored.seq, digest(stored.data))
        return aggregate

    async def is_current(self, aggregate: Aggregate[Any]) -> bool:
        """Return whether the log has nothing of the aggregate beyond what is folded."""
        async for _ in self.store.read(aggregate.kind, aggregate.id, aggregate.seq + 1):
            return False
        return True

    async def commits(self, kind: str, id: str) -> AsyncIterator[tuple[Stored, AnyCommit]]:  # noqa: A002
        """Yield the aggregate's commits, each with its stored form."""
        known = self.ledger.head(kind, id)
        async for stored in self.store.read(kind, id, known.first_seq if known else 1):
            yield stored, await self.decode(stored)
            await asyncio.sleep(0)  # a long history never makes others wait

    async def decode(self, stored: Stored) -> AnyCommit:
        """Return the commit, its body fetched where it stands in a blob; raises Unreadable."""
        try:
            how = KINDS[stored.kind]
            commit: AnyCommit = how.commits.decode(stored.data)
            if commit.blob:
                body = how.bodies.decode(await self.blobs.get(commit.blob.sha256))
                commit.inputs, commit.events, commit.causes = body.inputs, body.events, body.causes
        except (msgspec.MsgspecError, LookupError) as error:
            raise Unreadable(
                f"sequence {stored.seq} ({stored.kind} {stored.id}) can't be read: {error}"
            ) from error
        return commit

    async def write(self, *drafts: Draft, at: datetime | None = None) -> int:
        """Append the drafts, all or none; the aggregates stand after them. Returns the last sequence.

        Raises AppendConflict: the aggregates are then to be loaded again, for their states have moved on.
        """
        at = at or datetime.now(UTC)
        batch = [_member(draft.aggregate) for draft in drafts] if len(drafts) > 1 else []
        datas = [await self._encode(draft, at, batch) for draft in drafts]
        seqs = await self.store.append(
            *(_append(draft.aggregate, data) for draft, data in zip(drafts, datas, strict=True))
        )
        for draft, data, seq in zip(drafts, datas, seqs, strict=True):
            _advance(draft.aggregate, seq, digest(data))
            KINDS[draft.aggregate.kind].mark(draft.aggregate.state, draft.aggregate.version)
            self.ledger.note(_note(draft, seq))
        return seqs[-1]

    async def _encode(self, draft: Draft, at: datetime, batch: list[str]) -> bytes:
        aggregate = draft.aggregate
        commit = Commit(
            SCHEMA, aggregate.kind, aggregate.id, aggregate.version + 1, at, aggregate.sha256,
            draft.inputs, draft.events, draft.causes, batch=batch,
        )  # fmt: skip
        data = msgspec.json.encode(commit)
        if len(data) <= BODY_LIMIT:
            return data
        body = msgspec.json.encode(Body(draft.inputs, draft.events, draft.causes))
        commit.inputs, commit.events, commit.causes = [], [], []
        commit.blob = BlobRef(await self.blobs.put(body), len(body))
        return msgspec.json.encode(commit)

    async def answer(self, command_id: str, payload_digest: str, reply: dict[str, Any], actor: str) -> Outcome:
        """Put a command's outcome on the log where no aggregate changed; returns the one that stands there."""
        outcome_id = digest(command_id.encode())[:32]
        aggregate = Aggregate[Any]("outcome", outcome_id, None)
        command = AnswerCommand(command_id, payload_digest, reply)
        draft = Draft(aggregate, [Input(actor, command)], KINDS["outcome"].decider.decide(None, command), [0])
        try:
            seq = await self.write(draft)
        except AppendConflict:
            aggregate = await self.load("outcome", outcome_id)
            return aggregate.replies[command_id]
        return Outcome(command_id, payload_digest, reply | {"seq": seq})

    def answered(self, command_id: str) -> Outcome | None:
        """Return what this command was answered, as far as the ledger is caught up."""
        return self.ledger.outcome(command_id) if _REMEMBERS else None

    async def catch_up(self) -> None:
        """Fold into the ledger what the log has beyond it; raises LogDamaged where the log lost something."""
        seq, sha256 = self.ledger.checkpoint()
        if seq:
            await self._compare(seq, sha256)
        await self._fold_from(seq + 1)

    async def _fold_from(self, seq: int) -> None:
        async for batch in self.store.read_all(seq):
            for stored in batch:
                await self._note_stored(stored)
                await asyncio.sleep(0)
            self.ledger.flush()

    async def keep_up(self) -> None:
        """Fold into the ledger what other engines wrote until now; those who ask at once share a look."""
        looks = self._looks
        async with self._looking:
            if self._looks == looks:
                self._looks += 1
                if await self.store.head() > self.ledger.seen:
                    await self._fold_from(self.ledger.seen + 1)

    async def _compare(self, seq: int, sha256: str) -> None:
        if await self.store.head() < seq:
            raise LogDamaged(f"the event stream ends before sequence {seq}, which this engine had written")
        async for batch in self.store.read_all(seq):
            if not batch or batch[0].seq != seq or digest(batch[0].data) != sha256:
                raise LogDamaged(f"the message at sequence {seq} is missing or is not what was written")
            return

    async def _note_stored(self, stored: Stored) -> None:
        try:
            commit = await self.decode(stored)
        except Unreadable as error:  # by a later version, say: that aggregate stands still, the others go on
            log.warning("commit.unreadable", error=str(error))
            commit = _outline(stored)
        known = self.ledger.head(stored.kind, stored.id)
        version = known.version if known else 0
        if commit.version > version + 1:
            raise LogDamaged(
                f"{stored.kind} {stored.id} lacks version {version + 1}: "
                f"sequence {stored.seq} holds version {commit.version}"
            )
        ended = stored.kind in KINDS and KINDS[stored.kind].ends(commit.events)
        first = known.first_seq if known else stored.seq
        head = Head(
            stored.kind, stored.id, commit.version, first, stored.seq, digest(stored.data),
            not ended and (known is None or known.open),
        )  # fmt: skip
        self.ledger.note(Note(head, list(outcomes(commit, stored.seq))))


async def take(how: Kind, state: Any, commit: AnyCommit) -> Any:
    """Return the state after a commit; others run meanwhile."""
    if len(commit.events) > _FOLDED_AT_ONCE:
        return await asyncio.to_thread(how.take, state, commit)
    await asyncio.sleep(0)
    return how.take(state, commit)


class LogDamaged(UserError):
    """The log lacks or changed what was on it; nothing is decided on it until an operator has looked."""


class Unreadable(Exception):
    """This code does not know what stands in a commit: its aggregate can't be folded or decided on."""


_RAW = msgspec.json.Decoder(Commit[msgspec.Raw, msgspec.Raw])


def _outline(stored: Stored) -> AnyCommit:
    """Return what of an unreadable commit can be read: where it stands, and what it answered to commands."""
    try:
        commit: AnyCommit = _RAW.decode(stored.data)
    except msgspec.MsgspecError as error:
        raise LogDamaged(f"the message at sequence {stored.seq} is no commit: {error}") from error
    commit.events = []
    return commit


def outcomes(commit: AnyCommit, seq: int) -> list[Outcome]:
    """Return what the commit answered to commands, each reply with the commit's sequence."""
    if commit.kind == "outcome":
        return [Outcome(e.command_id, e.digest, e.reply | {"seq": seq}) for e in commit.events]
    return [
        Outcome(given.id, given.digest, given.reply | {"seq": seq})
        for given in commit.inputs
        if given.reply is not None
    ]


def _advance(aggregate: Aggregate[Any], seq: int, sha256: str) -> None:
    aggregate.version += 1
    aggregate.first_seq = aggregate.first_seq or seq
    aggregate.seq, aggregate.sha256 = seq, sha256


def _member(aggregate: Aggregate[Any]) -> str:
    """Return how the next commit of the aggregate is named in its batch."""
    return f"{aggregate.kind}/{aggregate.id}/{aggregate.version + 1}"


def _append(aggregate: Aggregate[Any], data: bytes) -> Append:
    message_id = f"{aggregate.kind}/{aggregate.id}/{aggregate.version + 1}/{digest(data)[:12]}"
    return Append(aggregate.kind, aggregate.id, aggregate.seq, data, message_id)


def _note(draft: Draft, seq: int) -> Note:
    """Return what the ledger keeps of a draft that stands at `seq` now."""
    aggregate = draft.aggregate
    commit = Commit(
        SCHEMA, aggregate.kind, aggregate.id, aggregate.version, datetime.now(UTC), "", draft.inputs, draft.events
    )
    replies = outcomes(commit, seq)
    aggregate.replies |= {outcome.command_id: outcome for outcome in replies}
    still_open = not KINDS[aggregate.kind].ended(aggregate.state)
    head = Head(
        aggregate.kind, aggregate.id, aggregate.version, aggregate.first_seq, seq, aggregate.sha256, still_open
    )
    return Note(head, replies)
