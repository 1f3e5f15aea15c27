"""An agent dies while its sessions run: they go on as containers do, or go down with their machine."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from backendai.cluster import Cluster
from backendai.faults.conftest import Sites
from backendai.faults.site import Site
from backendai.faults.tasks import FOR_EVER, WAITS, pipeline, task


def _power_off(site: Site) -> None:
    """End what the dead agents' sessions run."""
    for pid in site.processes(all_of_them=True):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_sessions_outlive_their_agents(sites: Sites, stack: Cluster) -> None:
    """An end is reported while the agents are dead; the sessions are ended when they are back."""
    async with sites() as site:
        job = await site.begin(pipeline("outlived", [task("a", body=WAITS), task("b", body=WAITS)]))
        await site.said("start", "a", "b")
        async with site.without(*stack.agents, kill=True):
            await site.let_go()
            await site.ended(job, "succeeded")
            assert await site.live()


async def test_sessions_die_with_their_agents(sites: Sites, stack: Cluster) -> None:
    """Without a sign of life a session is lost, in words, though the manager says that it runs."""
    async with sites(unreachable_timeout="14", stop_timeout="3") as site:
        tasks = [task("a", body=FOR_EVER), task("b", "a"), task("c", body=FOR_EVER)]
        job = await site.begin(pipeline("powerless", tasks))
        await site.shows(job, "a", "RUNNING")
        await site.said("start", "a", "c")
        async with site.without(*stack.agents, kill=True):
            await asyncio.to_thread(_power_off, site)
            ended = await site.ended(job, "failed")
            assert "gave no sign of life" in f"{await site.tasks(job)}", ended


async def test_cancel_while_the_agent_is_dead(sites: Sites, stack: Cluster) -> None:
    """The manager doesn't confirm such an end: the job ends after a while, and the session when it can."""
    async with sites(stop_timeout="2") as site:
        job = await site.begin(pipeline("unconfirmed", [task("a", body=FOR_EVER)]))
        await site.said("start", "a")
        async with site.without(*stack.agents, kill=True):
            await site.cancel(job)
            await site.ended(job, "cancelled")
