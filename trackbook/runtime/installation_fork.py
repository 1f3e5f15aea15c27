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
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.session_dispatcher import SessionDispatcher

REASON = "the data directory was copied and forked: this run belongs to the original installation"

log = structlog.get_logger(__name__)


class _Untouched(SessionDispatcher):
    """Passes nothing to executors: every session that runs is the original's."""

    def launch(self, state: JobState, task: str) -> None:
        """Launch nothing."""

    def stop(self, state: JobState, task: str) -> None:
        """Stop nothing."""

    def forget(self, state: JobState) -> None:
        """Release nothing."""


async def end_open_jobs(aggregates: AggregateStore) -> int:
    """Cancel each job that has not ended, without touching its sessions; returns how many there were."""
    sessions = _Untouched({}, aggregates.blobs)
    owner = Jobs(aggregates, sessions)
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
        await sessions.close()
    return ended


async def _end(owner: Jobs, job: str) -> None:
    try:
        await owner.submit(job, Input("engine", jobs.CancelJob(REASON)))
    except Refused as refused:  # it was being cancelled already
        log.debug("job.cancelled_before", job=job, reason=str(refused))
    state = (await owner.state(job)).state
    for task in list(state.tasks.values()):
        if task.status in LIVE:
            now = datetime.now(UTC)
            ended = jobs.ReportTaskEnded(task.shape.name, task.attempt, "cancelled", now, message=REASON)
            await owner.submit(job, Input("engine", ended))
