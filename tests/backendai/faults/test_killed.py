"""kill -9 of ourselves at random moments while our sessions run on a cluster."""

from __future__ import annotations

import asyncio
import os
from random import Random

import pytest
from kill.pipelines import pipeline
from kill.workload import Job
from kill.world import Topology

from backendai.faults.conftest import LONG, Sites
from backendai.faults.site import Site
from backendai.faults.tasks import LEDGER, RESOURCES

KILLS = int(os.environ.get("TRACKBOOK_FAULTS_KILLS", "200" if LONG else "20"))
GAP, LONGEST_GAP = 1.2, 4.0
"""Seconds between two kills, on average and at most: sessions take a few to start and to end."""
VICTIMS: dict[Topology, tuple[str, ...]] = {"one": ("up",), "four": ("executor", "executor", "engine")}
AT_ONCE = 2


@pytest.mark.parametrize("topology", VICTIMS)
async def test_we_are_killed_at_random_moments(sites: Sites, seed: int, topology: Topology) -> None:
    """Each task runs once, and each job ends well: what the cluster has is found again, whenever we died."""
    random = Random(f"{seed}/{topology}/cluster")
    async with sites(topology) as site:
        running = [asyncio.create_task(_jobs(site, random, number)) for number in range(AT_ONCE)]
        try:
            while len(site.kills) < KILLS / len(VICTIMS):
                await asyncio.sleep(min(random.expovariate(1 / GAP), LONGEST_GAP))
                for each in running:
                    if each.done():
                        each.result()
                site.kill(random.choice(VICTIMS[topology]))
            site.enough = True
            await asyncio.gather(*running)
            await site.ready()
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def _jobs(site: Site, random: Random, number: int) -> None:
    """Run one job after the other until it is enough."""
    while not site.enough:
        definition = pipeline(f"plain-{number}-{len(site.jobs)}", "plain", LEDGER, random)
        for task in definition["tasks"]:
            task["resources"] = RESOURCES
        job: Job = await site.begin(definition)
        await site.ended(job, "succeeded", within=300)
