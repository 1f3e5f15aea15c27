"""Restores unfinished jobs after a restart or an eviction: from a snapshot or from the log."""

from __future__ import annotations

import asyncio

import msgspec

from trackbook.engine.job_state import JobState, evolve
from trackbook.engine.ports import Blobs, EventStore
from trackbook.projections.decisions import Decisions
from trackbook.projections.decoded_commit import closing, decode
from trackbook.projections.write.commit_model import link_problem
from trackbook.projections.write.job_model import CachedJob, StoredJob
from trackbook.projections.write.job_rows import CANT_FOLLOW, job_from_rows

_SNAPSHOT = msgspec.msgpack.Decoder(JobState)


class _Changed(Exception):
    """The log has not what was projected before; says what it has."""


async def restore_job(stored: StoredJob, log: EventStore, bodies: Blobs, decisions: Decisions) -> CachedJob:
    """Return a job with its rows and its state: the snapshot's, else that of its history up to its revision."""
    state, problem = JobState(stored.job["id"]), ""
    if stored.snapshot is not None:
        state = await asyncio.to_thread(_SNAPSHOT.decode, stored.snapshot)
    elif not stored.job["problem"]:  # a blocked job is never folded further
        try:
            state = await _fold_from_log(stored, log, bodies, decisions)
        except _Changed as error:
            problem = f"its history is not what was projected before: {error}"
    return CachedJob(await asyncio.to_thread(job_from_rows, stored.job, stored.tasks, state), problem)


async def _fold_from_log(stored: StoredJob, log: EventStore, bodies: Blobs, decisions: Decisions) -> JobState:
    id, revision = stored.job["id"], stored.job["revision"]  # noqa: A001
    state, version, sha256 = JobState(id), 0, ""
    async with closing(log.read("job", id, stored.job["no"])) as messages:
        async for message in messages:
            if decisions.is_dismissed(message.seq, message.data):
                continue
            commit = await decode(message, bodies)
            await asyncio.sleep(0)  # a long history never makes others wait
            if why := commit.problem or link_problem(commit, version, sha256):
                raise _Changed(f"at sequence {commit.seq}, {why}")
            try:
                for event in commit.events:
                    state = evolve(state, event)
            except CANT_FOLLOW as error:
                raise _Changed(f"at sequence {commit.seq}, its events can't follow: {error!r}") from error
            version, sha256 = commit.version, commit.sha256
            if version == revision:
                return state
    raise _Changed(f"it ends at version {version}, not {revision}")
