"""The manager is away, or its events are, while tasks end."""

from __future__ import annotations

import pytest

from backendai.cluster import Cluster
from backendai.faults.conftest import Sites, only_long
from backendai.faults.tasks import WAITS, pipeline, task
from backendai.faults.wire import Wire


@pytest.mark.parametrize(
    "kill", [pytest.param(False, id="stopped"), pytest.param(True, id="killed", marks=only_long)]
)
async def test_tasks_end_while_the_manager_is_away(sites: Sites, kill: bool) -> None:
    """Their ends count by their own records, though 23.09 holds such sessions for running for ever."""
    async with sites() as site:
        tasks = [task("a", body=WAITS), task("b", body=WAITS, status=0), task("c", "a", "b")]
        job = await site.begin(pipeline("away", tasks))
        await site.said("start", "a", "b")
        async with site.without("manager", kill=kill):
            await site.let_go()
            await site.said("end", "a", "b")
        await site.ended(job, "succeeded")


async def test_events_are_cut(sites: Sites, stack: Cluster) -> None:
    """Without the manager's events ends are seen by asking at intervals."""
    async with Wire(stack.endpoint) as wire, sites(endpoint=wire.endpoint) as site:
        job = await site.begin(pipeline("deaf", [task("a", body=WAITS), task("b", "a"), task("c", "b")]))
        await site.said("start", "a")
        assert wire.cut_events() == 1
        wire.silent = True
        await site.let_go()
        await site.ended(job, "succeeded")
        wire.silent = False
