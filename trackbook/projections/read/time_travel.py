"""A job after any of its events: the same fold as for the tables, over the log."""

from __future__ import annotations

import asyncio

from trackbook.projections.decoded_commit import DecodedCommit, decode
from trackbook.projections.read.event_reader import Pages, damaged_error
from trackbook.projections.read.paging import ReadError
from trackbook.projections.read.row_views import show_fold
from trackbook.projections.times import to_text
from trackbook.projections.views import JobMoment
from trackbook.projections.write.commit_model import link_problem
from trackbook.projections.write.job_rows import CANT_FOLLOW, FoldedJob, new_job

_FAR = 1 << 62
_LARGE = 16 * 1024
"""Bytes of a commit from which it is folded on a thread, so that the event loop serves others meanwhile."""


async def job_moment(pages: Pages, id: str, first: int, version: int, index: int | None) -> JobMoment:  # noqa: A002
    """Fold a job up to a commit, or to one event of it; raises ReadError where there is no such event."""
    fold: FoldedJob | None = None
    last, sha256 = 0, ""
    async for message in pages.of_aggregate("job", id, first, _FAR):
        if pages.is_dismissed(message):
            continue
        commit = await decode(message, pages.bodies)
        await asyncio.sleep(0)  # a long history never makes others wait
        if why := commit.problem or link_problem(commit, last, sha256):
            raise damaged_error("job", id, commit.seq, why)
        try:
            if fold is None:
                fold = await asyncio.to_thread(new_job, commit)
            last, sha256 = commit.version, commit.sha256
            if commit.version < version:
                if len(commit.data) > _LARGE:
                    await asyncio.to_thread(fold.apply, commit)
                else:
                    fold.apply(commit)
            else:
                return await asyncio.to_thread(_moment, fold, commit, version, index)
        except CANT_FOLLOW as error:
            raise damaged_error(
                "job", id, commit.seq, f"its events can't follow what was before: {error!r}"
            ) from error
    raise ReadError("job_version_not_found", f"job {id} has no version {version}: the last one is {last}")


def _moment(fold: FoldedJob, commit: DecodedCommit, version: int, index: int | None) -> JobMoment:
    upto = commit.count - 1 if index is None else index
    if commit.version != version or upto >= commit.count:
        raise ReadError("job_version_not_found", f"job {commit.id} has no event {version}.{upto}")
    fold.apply(commit, upto)
    job, tasks = show_fold(fold)
    return JobMoment(version, upto, to_text(commit.at), job, tasks)
