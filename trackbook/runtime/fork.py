"""A copied data directory becomes an installation of its own; what runs stays with the original."""

from __future__ import annotations

import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path

import structlog

from trackbook.engine import job as jobs
from trackbook.engine.errors import Refused
from trackbook.engine.job import LIVE, JobState
from trackbook.events.commit import Input
from trackbook.runtime.book import Book
from trackbook.runtime.data_identity import DataDirectoryCopied, Identity, Ownership, claim
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.sessions import Sessions

REASON = "the data directory was copied and forked: this run belongs to the original installation"

log = structlog.get_logger(__name__)


class _Untouched(Sessions):
    """Passes nothing to executors: every session that runs is the original's."""

    def launch(self, state: JobState, task: str) -> None:
        """Launch nothing."""

    def stop(self, state: JobState, task: str) -> None:
        """Stop nothing."""

    def forget(self, state: JobState) -> None:
        """Release nothing."""


def claim_directory(data: Path, ownership: Ownership, *, embedded: bool, engine: bool) -> Identity:
    """Claim the data directory; for a fork, delete what it has in common with the original.

    A fork needs the engine in this process, and a broker that is `embedded`. Raises DataDirectoryCopied.
    """
    if ownership == "fork" and not embedded:
        raise DataDirectoryCopied(
            f"{data} can't be forked: its log is on a broker (TRACKBOOK_NATS_URL) that the original uses too."
            " Start the copy with a broker of its own, or use an empty data directory."
        )
    identity = claim(data, ownership)
    if identity.forking:
        if not (embedded and engine):
            raise DataDirectoryCopied(
                f"the fork of {data} is not complete: start it once with"
                f" `trackbook up --data {shlex.quote(str(data))}`"
            )
        _discard_shared_files(data)
    return identity


def _discard_shared_files(data: Path) -> None:
    """Delete what the copy has in common with the original: the broker's passwords, and the ids of folders."""
    (data / "broker" / "credentials.json").unlink(missing_ok=True)
    (data / "nats.json").unlink(missing_ok=True)
    for folders in (data / "executors").glob("*/folders"):
        shutil.rmtree(folders)


async def end_open_jobs(book: Book) -> int:
    """Cancel each job that has not ended, without touching its sessions; returns how many there were."""
    sessions = _Untouched({}, book.blobs)
    owner = Jobs(book, sessions)
    ended = 0
    try:
        for head in book.ledger.open_heads("job"):
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
