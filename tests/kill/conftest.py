"""The nursery, worlds that are cleaned up, and the tallies of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from seed import SEED
from summary import add_count

from kill.nursery import Nursery
from kill.world import Topology, World

SECTION = "crash test"

UNCLOSED = (
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)
"""nats-py leaves its socket to the garbage collector when the broker dies while it connects."""

Worlds = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def seed() -> int:
    """The seed of all chance in a test."""
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
                for kill in world.kills:
                    add_count(SECTION, f"kills, topology {kill.topology}, {kill.victim}")
        if "TRACKBOOK_KEEP" not in os.environ:
            shutil.rmtree(folder)

    return new


@pytest.fixture
def checks() -> Iterator[Counter[str]]:
    """The tally of checks."""
    tally = Counter[str]()
    yield tally
    for name, number in tally.items():
        add_count(SECTION, f"checks, {name}", number)


@pytest.fixture
def moments() -> Iterator[Counter[int]]:
    """The tally of kills by the tenth of a job's life that they met."""
    tally = Counter[int]()
    yield tally
    for tenth, number in tally.items():
        add_count(SECTION, f"kills in tenth {tenth} of a job's life", number)


@pytest.fixture
def points_hit() -> Iterator[Counter[tuple[str, str]]]:
    """The tally of failpoints at which something was killed, by name and topology."""
    tally = Counter[tuple[str, str]]()
    yield tally
    for (_, topology), number in tally.items():
        add_count(SECTION, f"kills at failpoints, topology {topology}", number)
    for name in {name for name, _ in tally}:
        add_count(
            SECTION, f"failpoint {name}", sum(number for (point, _), number in tally.items() if point == name)
        )
