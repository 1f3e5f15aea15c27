"""The pure core in simulated worlds: a million steps with drops, duplicates, reorders, delays and crashes.

TRACKBOOK_SIM_STEPS sets the number of steps (10000000 for a long run), TRACKBOOK_SEED the first seed: with that
seed, TRACKBOOK_SIM_STEPS=1 and `-k "million and 0"` one world runs again.
"""

from __future__ import annotations

import os

import msgspec
import pytest
from seed import SEED
from summary import add_line

from simulation.campaign import campaign
from simulation.core import REAL, chosen
from simulation.coverage import Reached, reachable, unreachable
from simulation.oracle import Violation
from simulation.trace import shorten
from simulation.world import World
from trackbook.engine import decider, job
from trackbook.engine.job_state import JobState, evolve
from trackbook.events.job import AnyJobEvent

STEPS = int(os.environ.get("TRACKBOOK_SIM_STEPS", "1_000_000"))
PARTS = 2
"""Each runs in a process of its own where tests run in parallel, and reaches everything."""
ENOUGH_TO_REACH_ALL = 500_000


@pytest.mark.parametrize("part", range(PARTS))
def test_everything_holds_in_a_million_steps(part: int) -> None:
    """Whatever is lost, doubled, late or dies, every invariant holds at each step and every pair is reached."""
    tally = campaign(SEED + part * 10**9, STEPS // PARTS)
    add_line("simulation", f"{tally.reached.table()}\nsimulated: {tally}")
    if tally.steps >= ENOUGH_TO_REACH_ALL:
        assert tally.reached.missing() == []


def test_a_world_is_its_seed() -> None:
    """The same seed leads to the same world, to the byte of every log."""
    first, second = (World(7, Reached()) for _ in range(2))
    first.run()
    second.run()
    assert [desk.log for desk in first.desks] == [desk.log for desk in second.desks]
    assert first.reached.counts == second.reached.counts


def test_a_violation_tells_its_seed_and_a_minimal_trace() -> None:
    """When the core is wrong the failure names the seed and the few inputs that show it."""

    def no_stops(state: JobState, event: AnyJobEvent) -> list[AnyJobEvent]:
        stop = "TaskStopRequested"
        return [reaction for reaction in job.react(state, event) if type(reaction).__name__ != stop]

    broken = decider.Decider(JobState, job.decide, evolve, no_stops, job.due)
    with chosen(msgspec.structs.replace(REAL, decider=broken)), pytest.raises(Violation) as failure:
        campaign(1, 20_000)
    reported = str(failure.value)
    assert reported.startswith("seed ")
    assert "not asked to stop" in reported
    trace = reported.partition("minimal trace, ")[2]
    assert trace.count("\n  ") - trace.count("\n      ") <= 4, reported


def test_shortening_keeps_only_what_is_needed() -> None:
    """The shortest list that still goes wrong is found, and one that doesn't is left alone."""
    reported: list[list[int]] = [[n] for n in range(30)]
    assert shorten(reported, lambda inputs: [5] in inputs and [17] in inputs) == [[5], [17]]
    assert shorten(reported, lambda inputs: False) == reported


def test_every_place_is_reachable_or_has_a_reason() -> None:
    """The table is complete: each job state with each task state is either to be reached or explained."""
    assert len(unreachable()) + len([place for place in reachable() if "-" not in place]) == 8 * 8
