"""The storage proxy is away: nothing of a pipeline's folder can be read, made or written by us."""

from __future__ import annotations

from backendai.faults.conftest import Sites
from backendai.faults.tasks import WAITS, pipeline, task


async def test_tasks_end_while_storage_is_away(sites: Sites) -> None:
    """An end is not made up where its record can't be read; it is reported once it can."""
    async with sites() as site:
        tasks = [task("a", body=WAITS), task("b", body=WAITS), task("c", "a", "b")]
        job = await site.begin(pipeline("unread", tasks))
        await site.said("start", "a", "b")
        async with site.without("storage"):
            await site.let_go()
            await site.said("end", "a", "b")
            await site.nothing_is_left()  # so the manager has said its last word
            states = {task["state"] for name, task in (await site.tasks(job)).items() if name != "c"}
            assert not states & {"failed", "lost", "cancelled", "succeeded"}, states
        await site.ended(job, "succeeded")


async def test_a_job_begins_while_storage_is_away(sites: Sites) -> None:
    """Its first session waits for the folder, and says so."""
    async with sites() as site:
        async with site.without("storage"):
            job = await site.begin(pipeline("unmade", [task("a"), task("b", "a")]))
            await site.shows(job, "a", "cluster 'main'")
        await site.ended(job, "succeeded")
