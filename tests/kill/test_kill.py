"""kill -9 of anything at any moment: every job reaches its end, nothing ran twice and nothing was lost.

TRACKBOOK_KILLS is the number of kills at random moments. A failure names its seed: TRACKBOOK_SEED with that
number and `-k TOPOLOGY-0` does the same again, as far as the system lets it. TRACKBOOK_KEEP keeps the data of
what passed.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from kill import stream
from kill.conftest import UNCLOSED, Worlds
from kill.examine import all_is_well, nothing_is_left
from kill.killer import kill_at_random
from kill.workload import Workload
from kill.world import TOPOLOGIES, Topology

pytestmark = [pytest.mark.kill, *UNCLOSED]

KILLS = int(os.environ.get("TRACKBOOK_KILLS", "240"))
PER_WORLD = 40
ROUNDS = range(-(-KILLS // (PER_WORLD * len(TOPOLOGIES))))


@pytest.mark.parametrize("number", ROUNDS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_any_process_may_be_killed_at_any_moment(
    topology: Topology, number: int, seed: int, worlds: Worlds, checks: Counter[str], moments: Counter[int]
) -> None:
    """Whatever is killed whenever, each job ends as it should, and independent witnesses find nothing wrong."""
    async with worlds(topology, seed + number) as world:
        workload = Workload(world)
        try:
            await workload.start()
            await kill_at_random(world, workload, PER_WORLD // 2)
            earlier = await stream.dump(world.data)
            await kill_at_random(world, workload, PER_WORLD - len(world.kills))
            await workload.finish()
            await world.ready()
            checks.update(await all_is_well(world, workload.jobs, earlier=earlier))
            moments.update(workload.moments())
        finally:
            await workload.abandon()
        await world.stop()
        await nothing_is_left(world)
