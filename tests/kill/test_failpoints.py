"""A kill at every failpoint that the code has."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from kill import points
from kill.conftest import UNCLOSED, Worlds
from kill.examine import all_is_well, nothing_is_left
from kill.workload import Workload
from kill.world import DEADLINE, TOPOLOGIES, Topology, World

pytestmark = [pytest.mark.kill, *UNCLOSED]

LAUNCHERS = "launcher."
_STEP = 4
"""Between one launcher that dies and the next: those between run as ever."""


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_a_process_may_be_killed_at_every_failpoint(
    topology: Topology, seed: int, worlds: Worlds, checks: Counter[str], points_hit: Counter[tuple[str, str]]
) -> None:
    """Wherever a process dies, each job ends as it should; no point is left out, the launchers' included."""
    where = points.by_process(topology)
    async with worlds(topology, seed) as world:
        workload = Workload(world)
        try:
            await workload.start()
            for point, process in where.items():
                if not point.startswith(LAUNCHERS):
                    await _die_at(world, workload, point, process)
                    points_hit[point, topology] += 1
            ended = [point for point in where if point.startswith(LAUNCHERS)]
            await _launchers_die_at(world, workload, ended)
            points_hit.update((point, topology) for point in ended)
            await workload.finish()
            await world.ready()
            checks.update(await all_is_well(world, workload.jobs, lost=len(ended)))
        finally:
            await workload.abandon()
        passed = points.passed(world)
        assert not where.keys() - passed.keys(), (
            f"never reached: {sorted(where.keys() - passed.keys())} ({world})"
        )
        await world.stop()
        await nothing_is_left(world)


def test_every_failpoint_is_killed_at_in_some_topology() -> None:
    """A failpoint that no topology passes would be in the code for nothing."""
    assert {*points.by_process("one"), *points.by_process("four")} == points.in_code()
    assert len(points.in_code()) > 20


async def _die_at(world: World, workload: Workload, point: str, process: str) -> None:
    """Start the process again so that it dies at the point, and wait until it has."""
    nth = 1 if point.startswith(points.ONCE) else world.random.randint(1, 3)
    life = await world.roles[process].again({"TRACKBOOK_FAILPOINTS": f"{point}=kill@{nth}"})

    async def dead() -> bool:
        workload.check()
        return life.ended.done()

    await world.until(dead, f"{process} did not pass {point} {nth} times")
    assert life.ended.result() == -signal.SIGKILL, f"{process} left by itself before it passed {point} ({world})"


async def _launchers_die_at(world: World, workload: Workload, ended: list[str]) -> None:
    """Have one launcher die at each point, some launches apart, and wait until all have."""
    nths = {point: _STEP * place for place, point in enumerate(ended, 1)}
    before = points.passed(world)["launcher.before_claim"]
    spec = ",".join(f"{point}=kill@{nth}" for point, nth in nths.items())
    await world.executor.again({"TRACKBOOK_FAILPOINTS": spec})

    async def enough() -> bool:
        workload.check()
        return points.passed(world)["launcher.before_claim"] - before > _STEP * (len(ended) + 1)

    await world.until(enough, f"launchers did not pass {', '.join(ended)}", DEADLINE)
    await asyncio.sleep(0)
    await world.executor.again({})
