"""Two engines on one log: one that was stopped in the middle of its work, and the one that took over."""

from __future__ import annotations

from collections import Counter

import pytest

from kill.conftest import UNCLOSED, Worlds
from kill.examine import all_is_well, nothing_is_left
from kill.workload import Workload
from kill.zombie import SECOND, one_is_left, overtaken

pytestmark = [pytest.mark.kill, *UNCLOSED]

ROUNDS = 3


async def test_an_engine_that_comes_back_beside_its_successor_does_no_harm(
    seed: int, worlds: Worlds, checks: Counter[str]
) -> None:
    """With both alive each aggregate still has one history, each attempt one launch, and every job its end."""
    async with worlds("four", seed) as world:
        workload = Workload(world)
        try:
            await workload.start()
            for number in range(ROUNDS):
                await overtaken(world, workload)
                world.kill(("engine", SECOND, "executor")[number % 3])
            await one_is_left(world)
            await workload.finish()
            await world.ready()
            checks.update(await all_is_well(world, workload.jobs))
        finally:
            await workload.abandon()
        await world.stop()
        await nothing_is_left(world)
