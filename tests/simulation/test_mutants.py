"""Every mutant of the core is caught by the stories or by simulated worlds, or is known to be no mistake."""

from __future__ import annotations

import runpy
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType

import pytest
from summary import add_count

from simulation.campaign import campaign
from simulation.core import chosen
from simulation.handmade import EQUIVALENT, MISTAKES
from simulation.mutation import Mutant, Runaway, by_hand, systematic

STORIES = [Path(__file__).parents[1] / "unit" / name for name in ("test_job.py", "test_job_reports.py")]
STEPS, MOST_TASKS, SEED = 20_000, 12, 1
SECONDS = 30.0
"""Of processor time; a mutant that takes longer loops without end, in a way that counting calls doesn't see."""


def _stories() -> list[Callable[[], None]]:
    found = [item for path in STORIES for item in runpy.run_path(str(path)).items()]
    return [story for name, story in found if name.startswith("test_")]


@contextmanager
def _bounded() -> Iterator[None]:
    def out_of_time(_signal: int, _frame: FrameType | None) -> None:
        raise Runaway

    before = signal.signal(signal.SIGVTALRM, out_of_time)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _wrong(trial: Callable[[], object]) -> bool:
    """Whether the trial fails, in whatever way a wrong core makes it fail."""
    with _bounded(), suppress(Exception, Runaway, pytest.fail.Exception):
        trial()
        return False
    return True


def _caught(mutants: Iterator[Mutant], tally: Counter[str]) -> list[str]:
    """Count who catches each mutant, and return those that neither stories nor worlds do."""
    stories, left = _stories(), []
    for mutant in mutants:
        with chosen(mutant.core):
            reported = _wrong(lambda: [story() for story in stories])
            simulated = _wrong(lambda: campaign(SEED, STEPS, MOST_TASKS))
        tally["mutants"] += 1
        tally["by stories"] += reported
        tally["by worlds"] += simulated
        tally["by both"] += reported and simulated
        if not reported and not simulated:
            left.append(mutant.name)
    return left


PARTS = 6
"""Each may run in a process of its own."""


def _add(what: str, tally: Counter[str]) -> None:
    for name, number in tally.items():
        add_count("mutants", f"{what}, {name}", number)


def test_the_real_core_passes_what_mutants_must_fail() -> None:
    """Stories and worlds that catch mutants let the core itself pass."""
    assert not _wrong(lambda: [story() for story in _stories()])
    assert not _wrong(lambda: campaign(SEED, STEPS, MOST_TASKS))


@pytest.mark.parametrize("part", range(2))
def test_mistakes_made_by_hand_are_caught(part: int) -> None:
    """Each mistake that a person could make in the saga is found."""
    tally = Counter[str]()
    left = _caught((by_hand(*mistake) for mistake in MISTAKES[part::2]), tally)
    _add("by hand", tally)
    assert left == []


@pytest.mark.parametrize("part", range(PARTS))
def test_systematic_mutants_are_caught(part: int) -> None:
    """Each single change of the code is found, but for those that are listed as no change at all."""
    tally, seen = Counter[str](), []

    def mutants() -> Iterator[Mutant]:
        for mutant in islice(systematic(), part, None, PARTS):
            seen.append(mutant.name)
            yield mutant

    left = _caught(mutants(), tally)
    tally["equivalent"] = len(left)
    _add("systematic", tally)
    assert sorted(left) == sorted(name for name in EQUIVALENT if name in seen)


def test_each_mutant_that_is_no_mistake_exists() -> None:
    """A name in the list of equivalent mutants that no mutant has is a leftover."""
    assert set(EQUIVALENT) <= {mutant.name for mutant in systematic()}


def test_a_mutation_names_what_stands_once() -> None:
    """A mistake by hand that no longer fits the core is an error, rather than a mutant that is no mutant."""
    with pytest.raises(LookupError, match="does not stand exactly once"):
        by_hand("nothing", "this stands nowhere in the core", "")
