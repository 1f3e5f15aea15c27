"""Writes batches of messages as rows: all models and the checkpoint in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection

from trackbook.engine.ports import Blobs, EventStore, Stored
from trackbook.events.commit import digest
from trackbook.failpoints import failpoint
from trackbook.projections.database import Database, finish_despite_cancel, set_checkpoint
from trackbook.projections.decisions import Decisions, NothingDecided
from trackbook.projections.decoded_commit import DecodedCommit, decode
from trackbook.projections.write.commit_model import CommitsModel
from trackbook.projections.write.job_model import CachedJob, JobsModel, stored_job
from trackbook.projections.write.job_recovery import restore_job
from trackbook.projections.write.pipeline_model import PipelinesModel
from trackbook.projections.write.quarantine_model import Quarantine


class Model(Protocol):
    """One read model."""

    def project(self, connection: Connection, commits: Sequence[DecodedCommit], quarantine: Quarantine) -> None:
        """Write what a batch of commits changes."""
        ...

    def forget(self) -> None:
        """Drop what is held in memory, since the batch that led to it was rolled back."""
        ...


class Writer:
    """Writes a database from the log; `checkpoint` is the last sequence that its rows hold."""

    def __init__(
        self, database: Database, log: EventStore, bodies: Blobs, decisions: Decisions | None = None
    ) -> None:
        self.database = database
        self.decisions = decisions or NothingDecided()
        self.quarantine = Quarantine()
        self.checkpoint = 0
        self.digest = ""
        self._log, self._bodies = log, bodies
        self._jobs = JobsModel()
        self._models: tuple[Model, ...] = (CommitsModel(), PipelinesModel(), self._jobs)
        self._stale = True

    async def resume(self, checkpoint: tuple[int, str]) -> None:
        """Continue from the checkpoint of a file that was just opened; raises DamagedError."""
        self.checkpoint, self.digest = checkpoint
        await self.database.read(self._forget)

    async def write(self, messages: Sequence[Stored]) -> list[DecodedCommit]:
        """Project the messages beyond the checkpoint and return them; raises as Database.write does."""
        commits: list[DecodedCommit] = []
        new = [message for message in messages if message.seq > self.checkpoint]
        for message in new:
            if not self.decisions.is_dismissed(message.seq, message.data):
                commits.append(await decode(message, self._bodies))
                await asyncio.sleep(0)  # commits may be large
        if new:
            if self._stale:
                await self.database.read(self._forget)
            for job in self._jobs.lacking(commits):
                self._jobs.hold(await self._restored(job))
            await finish_despite_cancel(self._write(new, commits))
        return commits

    async def _restored(self, job: str) -> CachedJob | None:
        rows = await self.database.read(lambda connection: stored_job(connection, job))
        return None if rows is None else await restore_job(rows, self._log, self._bodies, self.decisions)

    async def _write(self, messages: Sequence[Stored], commits: list[DecodedCommit]) -> None:
        seqs = [message.seq for message in messages]
        last = digest(messages[-1].data)
        failpoint("projection.before")
        try:
            await self.database.write(lambda connection: self._project(connection, commits, seqs, last))
        except BaseException:
            self._stale = True
            raise
        failpoint("projection.written")
        self.checkpoint, self.digest = seqs[-1], last

    def _project(self, connection: Connection, commits: list[DecodedCommit], seqs: list[int], last: str) -> None:
        expected = self.checkpoint + 1
        for seq in seqs:
            if seq > expected and not self.decisions.is_accepted(expected, seq - 1):
                self.quarantine.add_gap(expected, seq - 1)
            expected = seq + 1
        for model in self._models:
            model.project(connection, commits, self.quarantine)
        self.quarantine.write(connection)
        set_checkpoint(connection, seqs[-1], last)

    def _forget(self, connection: Connection) -> None:
        for model in self._models:
            model.forget()
        self.quarantine.load(connection)
        self._stale = False
