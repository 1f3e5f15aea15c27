"""A job as it stood at any of its events: the same fold as the tables', over the log."""

from __future__ import annotations

import asyncio

from trackbook.projections.book import Pages
from trackbook.projections.decode import Fact, decode
from trackbook.projections.jobfold import JobFold, created
from trackbook.projections.paging import ReadError
from trackbook.projections.show import show_fold
from trackbook.projections.times import to_text
from trackbook.projections.views import JobMoment

_FAR = 1 << 62


async def job_moment(pages: Pages, id: str, first: int, version: int, index: int | None) -> JobMoment:  # noqa: A002
    """Fold a job up to a commit, or to one event of it; raises ReadError where there is no such event."""
    fold: JobFold | None = None
    last = 0
    async for message in pages.of_aggregate("job", id, first, _FAR):
        fact = await decode(message, pages.bodies)
        await asyncio.sleep(0)  # a long history never makes others wait
        if fact.problem:
            raise ReadError("commit_unreadable", f"version {last + 1} of job {id} can't be shown: {fact.problem}")
        if fold is None:
            fold = await asyncio.to_thread(created, fact)
        last = fact.version
        if fact.version < version:
            fold.apply(fact)
        else:
            return await asyncio.to_thread(_moment, fold, fact, version, index)
    raise ReadError("job_version_not_found", f"job {id} has no version {version}: the last one is {last}")


def _moment(fold: JobFold, fact: Fact, version: int, index: int | None) -> JobMoment:
    upto = fact.count - 1 if index is None else index
    if fact.version != version or upto >= fact.count:
        raise ReadError("job_version_not_found", f"job {fact.id} has no event {version}.{upto}")
    fold.apply(fact, upto)
    job, tasks = show_fold(fold)
    return JobMoment(version, upto, to_text(fact.at), job, tasks)
