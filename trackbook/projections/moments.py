"""A job as it stood at any of its events: the same fold as the tables', over the log."""

from __future__ import annotations

import asyncio

from trackbook.projections.book import Pages, damaged
from trackbook.projections.commits import unlinked
from trackbook.projections.decode import Fact, decode
from trackbook.projections.job_rows import CANT_FOLLOW, FoldedJob, created
from trackbook.projections.paging import ReadError
from trackbook.projections.show import show_fold
from trackbook.projections.times import to_text
from trackbook.projections.views import JobMoment

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
        fact = await decode(message, pages.bodies)
        await asyncio.sleep(0)  # a long history never makes others wait
        if why := fact.problem or unlinked(fact, last, sha256):
            raise damaged("job", id, fact.seq, why)
        try:
            if fold is None:
                fold = await asyncio.to_thread(created, fact)
            last, sha256 = fact.version, fact.sha256
            if fact.version < version:
                if len(fact.data) > _LARGE:
                    await asyncio.to_thread(fold.apply, fact)
                else:
                    fold.apply(fact)
            else:
                return await asyncio.to_thread(_moment, fold, fact, version, index)
        except CANT_FOLLOW as error:
            raise damaged("job", id, fact.seq, f"its events can't follow what was before: {error!r}") from error
    raise ReadError("job_version_not_found", f"job {id} has no version {version}: the last one is {last}")


def _moment(fold: FoldedJob, fact: Fact, version: int, index: int | None) -> JobMoment:
    upto = fact.count - 1 if index is None else index
    if fact.version != version or upto >= fact.count:
        raise ReadError("job_version_not_found", f"job {fact.id} has no event {version}.{upto}")
    fold.apply(fact, upto)
    job, tasks = show_fold(fold)
    return JobMoment(version, upto, to_text(fact.at), job, tasks)
