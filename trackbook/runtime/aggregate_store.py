"""The log as its owners use it: aggregates are loaded from it, and drafts are written to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import Fault, Head, LedgerDamaged, Note
from trackbook.engine.decider import step
from trackbook.engine.kinds import KINDS
from trackbook.engine.log import LOG, AcceptLoss, LogState
from trackbook.engine.ports import Append, Blobs, EventStore, Stored
from trackbook.events.chain import Link
from trackbook.events.commit import SCHEMA, BlobRef, Body, Commit, Input, digest
from trackbook.runtime.aggregate import Aggregate, Draft, outcomes
from trackbook.runtime.histories import (
    CANT_FOLLOW,
    AnyCommit,
    Histories,
    HistoryDamaged,
    cant_follow_reason,
    take,
)
from trackbook.runtime.integrity.evidence import Claim, Integrity
from trackbook.runtime.ledger_catch_up import LedgerCatchUp

log = structlog.get_logger(__name__)
BODY_LIMIT = 256 * 1024
"""Bytes of a commit from which its inputs and events go to a blob; the broker's default limit is 1 MiB."""


class AggregateStore:
    """The one way to the log: loads aggregates and writes drafts, all of them or none."""

    def __init__(
        self, store: EventStore, blobs: Blobs, ledger: Ledger, integrity: Integrity | None = None
    ) -> None:
        self.store = store
        self.blobs = blobs
        self.ledger = ledger
        self.integrity = integrity or Integrity(store)
        self.histories = Histories(store, blobs, self.integrity)
        self._catch_up = LedgerCatchUp(store, ledger, self.histories, self.integrity, self.load_log)
        self._looking = asyncio.Lock()
        self._looks = 0  # that were begun
        self._looked = 0  # the last one that succeeded

    async def load(self, kind: str, id: str) -> Aggregate[Any]:  # noqa: A002
        """Return the aggregate folded from the log; version 0 if it has no commit.

        Raises HistoryDamaged where its history is not intact: consecutive versions, each with the hash of the one
        before it, up to the last one that is known to have been written.
        """
        for pause in _LAGS:
            await asyncio.sleep(pause)
            aggregate, known = await self._fold(kind, id)
            if known is None or known.version < aggregate.version:
                return aggregate
            if (known.version, known.sha256) == (aggregate.version, aggregate.sha256):
                return aggregate
            if self.integrity.has_evidence("history", _loss_key(known), known.seq):
                break
        raise self._cut_short(aggregate, known)

    async def _fold(self, kind: str, id: str) -> tuple[Aggregate[Any], Head | None]:  # noqa: A002
        """Return the aggregate as the log has it, and its head as the ledger knew it before."""
        how, known = KINDS[kind], self.ledger.head(kind, id)
        aggregate = Aggregate(kind, id, how.decider.initial(id))
        async for stored, commit in self.histories.read(self.ledger, kind, id):
            aggregate.seq = stored.seq
            aggregate.first_seq = aggregate.first_seq or stored.seq
            if commit is None:
                continue
            aggregate.version, aggregate.sha256 = commit.version, digest(stored.data)
            try:
                aggregate.correlation = aggregate.correlation or commit.inputs[0].correlation
                aggregate.state = await take(how, aggregate.state, commit)
            except CANT_FOLLOW as error:
                why = cant_follow_reason(error)
                raise await self.histories.quarantine(self.ledger, stored, commit, why) from error
            aggregate.note_answered(outcomes(commit, stored.seq))
        return aggregate, known

    def _cut_short(self, aggregate: Aggregate[Any], known: Head | None) -> HistoryDamaged:
        assert known is not None
        name = f"{known.kind}/{known.id}"
        why = (
            f"version {known.version} was written at sequence {known.seq}; the log has the history up to version "
            f"{aggregate.version}"
            if aggregate.version < known.version
            else f"version {known.version} at sequence {known.seq} is not the commit that was written"
        )
        self.integrity.add_evidence("history", _loss_key(known), f"{name}: {why}", known.seq)
        return HistoryDamaged(Fault(known.kind, known.id, known.seq, known.sha256, known.version, why))

    async def is_current(self, aggregate: Aggregate[Any]) -> bool:
        """Return whether the log has nothing of the aggregate beyond what is folded."""
        async for _ in self.store.read(aggregate.kind, aggregate.id, aggregate.seq + 1):
            return False
        return True

    async def commits(self, kind: str, id: str) -> AsyncIterator[tuple[Stored, AnyCommit]]:  # noqa: A002
        """Yield the aggregate's commits, each with its stored form; raises HistoryDamaged."""
        known, version = self.ledger.head(kind, id), 0
        async for stored, commit in self.histories.read(self.ledger, kind, id):
            if commit is not None:
                version = commit.version
                yield stored, commit
            await asyncio.sleep(0)  # a long history never makes others wait
        if known and version < known.version:
            await self.load(kind, id)  # raises, unless a replica lagged

    async def write(self, *drafts: Draft, at: datetime | None = None) -> int:
        """Append the drafts, all or none; the aggregates stand after them. Returns the last sequence.

        Raises AppendConflict: the aggregates are then to be loaded again, for their states have moved on.
        Raises LogDamaged while evidence of loss is open.
        """
        self.integrity.refuse()
        return await self._append(drafts, at)

    async def _append(self, drafts: Sequence[Draft], at: datetime | None = None) -> int:
        at = at or datetime.now(UTC)
        batch = [_member(draft.aggregate) for draft in drafts] if len(drafts) > 1 else []
        datas = [await self._encode(draft, at, batch) for draft in drafts]
        seqs = await self.store.append(
            *(_append(draft.aggregate, data) for draft, data in zip(drafts, datas, strict=True))
        )
        for draft, data, seq in zip(drafts, datas, seqs, strict=True):
            _advance(draft.aggregate, seq, digest(data))
        self.integrity.record_head(seqs[-1], drafts[-1].aggregate.sha256)
        for draft, seq in zip(drafts, seqs, strict=True):
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

    async def catch_up(self, claims: Iterable[Claim] = ()) -> None:
        """Look whether the log is what it was, and fold into the ledger what the log has beyond it.

        `claims` say what others know of the log. What was lost is evidence: see Integrity.
        """
        self.integrity.set_decisions((await self.load_log()).state)
        seq, sha256 = self.ledger.checkpoint()
        await self.integrity.examine([Claim("engine.db", seq, sha256), *claims])
        try:
            await self._catch_up.fold_from(self.ledger, seq + 1)
        except LedgerDamaged as damage:  # it shows when a page of the file is needed, not when it is opened
            log.warning("ledger.damaged", error=str(damage), hint="It is made again from the log.")
            await self.rebuild_ledger()

    async def keep_up(self) -> None:
        """Fold into the ledger what other engines wrote until now; those who ask at once share a look.

        Raises StoreUnanswered.
        """
        before = self._looks
        async with self._looking:
            if self._looked > before:
                return
            self._looks += 1
            if await self.store.head() > self.ledger.seen:
                await self._catch_up.fold_from(self.ledger, self.ledger.seen + 1)
            self._looked = self._looks

    async def rebuild_ledger(self) -> None:
        """Make the ledger again from the whole log, beside the old one, and exchange them."""
        async with self._looking:
            await self.ledger.rebuild(lambda new: self._catch_up.fold_from(new, 1))

    async def load_log(self) -> Aggregate[LogState]:
        """Return what operators decided about the log; what can't follow there is left out."""
        aggregate, link = Aggregate(*LOG, LogState(LOG[1])), Link()
        async for stored in self.store.read(*LOG):
            aggregate.seq = stored.seq
            aggregate.first_seq = aggregate.first_seq or stored.seq
            commit, why = await self.histories.examine(stored, link)
            if commit is None or why:
                log.error("history.damaged", aggregate="log/log", seq=stored.seq, found=why)
                continue
            link = Link(commit.version, digest(stored.data))
            aggregate.state = await take(KINDS["log"], aggregate.state, commit)
            aggregate.version, aggregate.sha256 = link.version, link.sha256
        return aggregate

    async def decide_on_log(self, given: Input[Any]) -> int:
        """Write an operator's decision about the log, evidence or not; returns its sequence, 0 for no change."""
        aggregate = await self.load_log()
        decider = KINDS["log"].decider
        aggregate.state, events, causes = step(decider, aggregate.state, given.command)
        seq = await self._append([Draft(aggregate, [given], events, causes)]) if events else 0
        if events and isinstance(given.command, AcceptLoss):
            self.integrity.rewind(seq, aggregate.sha256)
        self.integrity.set_decisions(aggregate.state)
        return seq


def _loss_key(head: Head) -> str:
    """Return the key of the evidence that the log has lost this end of a history."""
    return f"{head.kind}/{head.id}/{head.version}/{head.sha256}"


_LAGS = (0, 0.05, 0.2, 1.0)
"""Seconds to wait for a replica: it may lag behind a commit that we know of, not behind one known to be lost."""


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
    still_open = not KINDS[aggregate.kind].ended(aggregate.state)
    head = Head(
        aggregate.kind, aggregate.id, aggregate.version, aggregate.first_seq, seq, aggregate.sha256, still_open
    )
    replies = outcomes(commit, seq)
    aggregate.note_answered(replies)
    return Note(head, replies)
