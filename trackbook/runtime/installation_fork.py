"""Turns a copied data directory into its own installation; running sessions stay with the original."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from trackbook.engine import job as jobs
from trackbook.engine.errors import Refused
from trackbook.engine.job_state import LIVE, JobState
from trackbook.events.commit import Input
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.owner import Owner

REASON = "the data directory was copied and forked: this run belongs to the original installation"

log = structlog.get_logger(__name__)


async def end_open_jobs(aggregates: AggregateStore) -> int:
    """Cancel each job that has not ended; returns how many there were.

    Intents are not carried out: every session that runs is the original's.
    """
    owner = Owner(aggregates)
    ended = 0
    try:
        for head in aggregates.ledger.open_heads("job"):
            try:
                await _end(owner, head.id)
                ended += 1
            except HistoryDamaged as error:
                log.warning("job.not_ended", job=head.id, error=str(error))
    finally:
        await owner.close()
    return ended


async def _end(owner: Owner, job: str) -> None:
    try:
        await owner.submit("job", job, Input("engine", jobs.CancelJob(REASON)))
    except Refused as refused:  # it was being cancelled already
        log.debug("job.cancelled_before", job=job, reason=str(refused))
    state: JobState = (await owner.state("job", job)).state
    for task in list(state.tasks.values()):
        if task.status in LIVE:
            now = datetime.now(UTC)
            ended = jobs.ReportTaskEnded(task.shape.name, task.attempt, "cancelled", now, message=REASON)
            await owner.submit("job", job, Input("engine", ended))
