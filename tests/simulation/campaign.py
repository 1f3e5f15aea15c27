"""Worlds one after another, until so many steps were taken."""

from __future__ import annotations

import time

from msgspec import Struct, field

from simulation.coverage import Reached
from simulation.oracle import Violation
from simulation.trace import minimal_trace
from simulation.world import World


class Tally(Struct):
    """How much was simulated: `steps` are inputs decided by the core, `commits` those that changed something."""

    seed: int
    reached: Reached = field(default_factory=Reached)
    worlds: int = 0
    jobs: int = 0
    steps: int = 0
    commits: int = 0
    crashes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.steps} steps, {self.commits} commits, {self.jobs} jobs, {self.crashes} crashes"
            f" in {self.worlds} worlds, seeds {self.seed} to {self.seed + self.worlds - 1}, {self.seconds:.1f} s"
        )


def campaign(seed: int, steps: int, most_tasks: int = 50) -> Tally:
    """Simulate worlds from a seed on; raises Violation with the seed and a minimal trace."""
    tally, before = Tally(seed), time.perf_counter()
    while tally.steps < steps:
        world = World(seed + tally.worlds, tally.reached, most_tasks)
        try:
            world.run()
        except Exception as problem:  # whatever a broken core raises, the seed must be reported
            trace = minimal_trace(world.last, world.limit) if world.last else ""
            what = f"seed {world.seed}: {type(problem).__name__}: {problem}"
            raise Violation(f"{what}\n{trace}") from problem
        tally.worlds += 1
        tally.jobs += len(world.desks)
        tally.steps += world.steps
        tally.commits += world.commits
        tally.crashes += world.crashes
    tally.seconds = time.perf_counter() - before
    return tally
