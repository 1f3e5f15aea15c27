"""A writer that was held up and comes back while its successor is at work, and knows of nothing."""

from __future__ import annotations

import signal

from kill.workload import Workload
from kill.world import World

SECOND = "second-engine"
OVERTAKEN_BY, BESIDE = 8, 25
"""Commits of the successor before the first comes back (it is slow: half of all requests go to the first still),
and commits of both beside one another then, at least."""
STOPPED_AFTER = 12
"""Commits after which the first engine is stopped, at most: the number is drawn from the seed."""
RESENT = 20
"""Commands that were answered by one of the two and are asked again of whichever it will be."""


async def overtaken(world: World, workload: Workload) -> None:
    """Stop the engine after some commits, let a second one continue its jobs, and then let both work."""
    await _commits(world, workload, world.random.randint(1, STOPPED_AFTER))
    engine = await world.engine.alive()
    engine.send(signal.SIGSTOP)
    try:
        if SECOND not in world.roles:
            world.add_engine(SECOND)
        await _commits(world, workload, OVERTAKEN_BY)
    finally:
        engine.send(signal.SIGCONT)
    await _commits(world, workload, BESIDE)
    for command in tuple(world.client.outcomes)[-RESENT:]:
        await world.client.again(command)


async def _commits(world: World, workload: Workload, commits: int) -> None:
    """Wait until the log has grown."""
    begin = await world.head()

    async def grown() -> bool:
        workload.check()
        return await world.head() >= begin + commits

    await world.until(grown, f"the log did not grow by {commits} commits")


async def one_is_left(world: World) -> None:
    """Stop the second engine for good and restart the first, which takes up whatever the second had in hand."""
    await world.roles.pop(SECOND).stop()
    await world.engine.again({})
