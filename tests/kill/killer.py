"""Kills at moments that know nothing of the jobs: with jobs running all the time, uniform over their lives.

The pauses between them have no memory. A kill makes what is left of a job's life longer, so that more of them
seem to come early in it.
"""

from __future__ import annotations

import asyncio

from kill.workload import Workload
from kill.world import VICTIMS, World

GAP, LONGEST_GAP = 0.33, 2.0
"""Seconds between two kills, on average and at most: less than a job's life, so that most jobs see several."""

SECOND, ALL = 1 / 8, 1 / 32
"""The chance of a kill to take a second victim with it at once, and everyone, as when a machine dies."""


async def kill_at_random(world: World, workload: Workload, kills: int) -> None:
    """Kill so often, each time after a random pause; some take a second victim with them, or everyone."""
    random = world.random
    done = 0
    while done < kills:
        await asyncio.sleep(min(random.expovariate(1 / GAP), LONGEST_GAP))
        workload.check()
        victims = [random.choice(VICTIMS[world.topology])]
        chance = random.random()
        if chance < SECOND:
            victims.append(random.choice(VICTIMS[world.topology]))
        elif chance < SECOND + ALL:
            victims = [*world.roles, "nats-server", "spawner"]
        if not workload.running:
            continue
        done += sum(world.kill(victim) is not None for victim in dict.fromkeys(victims))
