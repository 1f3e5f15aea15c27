"""Folding into the ledger what the log has beyond it, and what of the log turns out to be missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import Head, Note
from trackbook.engine.kinds import KINDS
from trackbook.engine.log import LOG, LogState
from trackbook.engine.ports import EventStore, Stored
from trackbook.events.chain import BatchCheck, Link
from trackbook.events.commit import digest
from trackbook.runtime.aggregate import Aggregate, outcomes
from trackbook.runtime.histories import AnyCommit, Histories, Unreadable
from trackbook.runtime.integrity.evidence import Integrity


class LedgerCatchUp:
    """Folds the log into a ledger: heads, outcomes, quarantined aggregates and gaps.

    `ledger` is the one in use. `on_damage` is called once another engine's operator has decided about the log.
    """

    def __init__(
        self,
        store: EventStore,
        ledger: Ledger,
        histories: Histories,
        integrity: Integrity,
        load_log: Callable[[], Awaitable[Aggregate[LogState]]],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._histories = histories
        self._integrity = integrity
        self._load_log = load_log

    async def fold_from(self, ledger: Ledger, seq: int) -> None:
        """Fold the log into `ledger` from a sequence on, up to its head."""
        batches = BatchCheck(resuming=seq > 1)
        end = await self._store.head()
        async for some in self._store.read_all(seq):
            for stored in some:
                self._found_gap(ledger, seq, stored.seq - 1)
                seq = stored.seq + 1
                await self._note_stored(ledger, stored, batches)
                await asyncio.sleep(0)
            ledger.flush()
        self._found_gap(ledger, seq, end)
        self._found_half(batches.end())

    def _found_gap(self, ledger: Ledger, first: int, last: int) -> None:
        if first <= last:
            self._integrity.add_gap(first, last)
            ledger.skipped(first, last)

    async def _note_stored(self, ledger: Ledger, stored: Stored, batches: BatchCheck) -> None:
        known = ledger.head(stored.kind, stored.id)
        sha256 = digest(stored.data)
        if self._integrity.is_dismissed(stored.seq, stored.data):
            return ledger.passed(stored.seq, sha256)
        if known and stored.seq <= known.seq:
            await self._note_known(ledger, stored, known, batches)
            return ledger.passed(stored.seq, sha256)
        link = Link(known.version, known.sha256) if known else Link()
        commit, why = await self._histories.examine(stored, link)
        if commit is not None:
            self._note_member(commit, batches)
        if ledger.quarantined(stored.kind, stored.id):
            return ledger.passed(stored.seq, sha256)
        if commit is None or why:
            await self._histories.quarantine(ledger, stored, commit, why, link, known.seq if known else 0)
            return ledger.passed(stored.seq, sha256)
        ended = KINDS[stored.kind].ends(commit.events)
        first = known.first_seq if known else stored.seq
        head = Head(
            stored.kind, stored.id, commit.version, first, stored.seq, sha256,
            not ended and (known is None or known.open),
        )  # fmt: skip
        ledger.note(Note(head, list(outcomes(commit, stored.seq))))
        if (stored.kind, stored.id) == LOG:
            await self._decided_elsewhere()
        return None

    async def _note_known(self, ledger: Ledger, stored: Stored, known: Head, batches: BatchCheck) -> None:
        """Note the batch of a commit before the aggregate's last one, and what another engine answered there.

        Our own were noted with their heads. A commit that can't be read is found when its aggregate is loaded.
        """
        with suppress(Unreadable):
            commit = await self._histories.decode(stored)
            self._note_member(commit, batches)
            if stored.seq < known.seq:
                ledger.note(Note(known, outcomes(commit, stored.seq)))

    def _note_member(self, commit: AnyCommit, batches: BatchCheck) -> None:
        self._found_half(batches.take(f"{commit.kind}/{commit.id}/{commit.version}", commit.batch))

    async def _decided_elsewhere(self) -> None:
        """Take up what an operator decided with another engine: this one's ledger was made without it."""
        before = (self._integrity.accepted, self._integrity.dismissed)
        self._integrity.set_decisions((await self._load_log()).state)
        if (self._integrity.accepted, self._integrity.dismissed) != before:
            self._ledger.on_damage()

    def _found_half(self, missing: list[str]) -> None:
        if missing:
            key = " ".join(missing)
            self._integrity.add_evidence(
                "batch", key, f"half of an atomic batch is missing: {', '.join(missing)}"
            )
