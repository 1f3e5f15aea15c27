"""The audit of the log: verification of all that is stored, its state, and replays."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from trackbook.adapters.sql.rows import NAMED, LedgerDamaged, Written
from trackbook.projections.errors import DamagedError
from trackbook.projections.write.projector import Projector
from trackbook.runtime import log_checks
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.integrity.evidence import evidence_json


class Audit:
    """Checks of one installation's log, read model and ledger."""

    def __init__(self, aggregates: AggregateStore, projector: Projector) -> None:
        self._aggregates = aggregates
        self._projector = projector

    async def verify(self) -> dict[str, Any]:
        """Check the whole log against itself and its witnesses, and the read model against the log."""
        ledger = self._aggregates.ledger
        problems: list[str] = []
        try:
            ledger.flush()
            await asyncio.to_thread(ledger.check)
            written = await asyncio.to_thread(ledger.written)
        except LedgerDamaged as damage:
            problems.append(f"{damage}; it is made again from the log")
            ledger.on_damage()
            written = Written()
        found = await log_checks.verify(self._aggregates, written.heads, written)
        known = {(defect.seq, defect.aggregate) for defect in found.defects}
        found.defects += [  # only a fold shows what can't be folded
            log_checks.Defect(seq, f"{kind}/{id_}", 0, reason)
            for kind, id_, seq, reason in self._projector.first_faults()
            if (seq, f"{kind}/{id_}") not in known
        ]
        if found.ok and found.lacking:
            ledger.on_damage()
            problems.append(f"{_lacking(found.lacking)}; it is made again from the log")
        differing: list[str] = []
        if found.ok:  # a log that is damaged itself is no measure: the read model may know more
            try:
                differing = await self._projector.compare()
            except DamagedError as damage:
                differing = [str(damage)]
        if differing:
            self._projector.damaged()
        problems += [f"{each}; it is made again from the log" for each in differing]
        found.defects += [log_checks.Defect(0, "", 0, problem) for problem in problems]
        shown = msgspec.to_builtins(found)
        del shown["lacking"]
        return {"ok": found.ok, **shown}

    async def log(self) -> dict[str, Any]:
        """Return how the log is: its end, evidence of loss, and the first fault of each damaged history."""
        integrity = self._aggregates.integrity
        return {
            "head": await self._aggregates.store.head(),
            "witness": {"seq": integrity.head.seq, "sha256": integrity.head.sha256},
            "evidence": evidence_json(integrity.open),
            "accepted": evidence_json(integrity.accepted.values()),
            "dismissed": len(integrity.dismissed),
            "faults": [msgspec.to_builtins(each) for each in self._aggregates.ledger.faults()],
        }

    async def quarantined(self, kind: str, id: str) -> dict[str, Any]:  # noqa: A002
        """Read a damaged history: how far it is intact, and each message that can't follow."""
        return await log_checks.quarantined(self._aggregates, kind, id)

    async def replay(self, job: str) -> dict[str, Any]:
        """Decide a job's history again."""
        plain: dict[str, Any] = msgspec.to_builtins(await log_checks.replay(self._aggregates, "job", job))
        return plain


def _lacking(rows: list[str]) -> str:
    """Return in words which rows the ledger lacks."""
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"engine.db lacks rows: {', '.join(rows[:NAMED])}{more}"
