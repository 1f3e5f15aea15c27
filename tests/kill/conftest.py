"""The nursery, worlds that are cleaned up, and the tally that is told at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from kill.nursery import Nursery
from kill.world import Kill, Topology, World

KILLS: list[Kill] = []
POINTS: Counter[tuple[str, str]] = Counter()
CHECKS: Counter[str] = Counter()
MOMENTS: Counter[int] = Counter()
SEED = int(os.environ.get("TRACKBOOK_SEED", time.time_ns() // 1_000_000 % 1_000_000_000))

UNCLOSED = (
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)
"""nats-py leaves its socket to the garbage collector when the broker dies while it connects."""

Worlds = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def seed() -> int:
    """What all chance in a test comes from: TRACKBOOK_SEED, or the time."""
    return SEED


@pytest.fixture
def worlds() -> Worlds:
    """Return what makes a world; one that fails is ended and its data are kept, where pytest does not tidy up."""

    @asynccontextmanager
    async def new(topology: Topology, seed: int, unsafe: str = "") -> AsyncIterator[World]:
        folder = Path(tempfile.mkdtemp(prefix=f"trackbook-kill-{topology}-{seed}-"))
        async with Nursery() as nursery:
            world = World(folder, topology, seed, nursery, unsafe)
            print(f"seed {seed}, topology {topology}: {folder}")
            try:
                await world.start()
                yield world
            except BaseException:
                await world.abandon()
                raise
            finally:
                KILLS.extend(world.kills)
        if "TRACKBOOK_KEEP" not in os.environ:
            shutil.rmtree(folder)

    return new


@pytest.fixture
def checks() -> Counter[str]:
    """The tally of checks."""
    return CHECKS


@pytest.fixture
def moments() -> Counter[int]:
    """The tally of kills by the tenth of a job's life that they met."""
    return MOMENTS


@pytest.fixture
def points_hit() -> Counter[tuple[str, str]]:
    """The tally of failpoints at which something was killed, by name and topology."""
    return POINTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the three numbers apart: kills, failpoints, checks."""
    if not KILLS and not POINTS:
        return
    say = terminalreporter.write_line
    terminalreporter.section(f"crash test, seed {SEED}")
    by = Counter((kill.topology, kill.victim) for kill in KILLS)
    say(f"process kills: {len(KILLS)}")
    for topology in sorted({topology for topology, _ in by}):
        said = ", ".join(
            f"{victim} {count}" for (where, victim), count in sorted(by.items()) if where == topology
        )
        say(f"  topology {topology}: {said}")
    if MOMENTS:
        say(f"  in each tenth of a job's life: {', '.join(str(MOMENTS[tenth]) for tenth in range(10))}")
    say(f"failpoints: {len({name for name, _ in POINTS})}, killed at {POINTS.total()} times")
    say(f"checks: {CHECKS.total()}")
    say("  " + ", ".join(f"{name} {count}" for name, count in sorted(CHECKS.items())))
