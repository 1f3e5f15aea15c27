"""Pauses between tries grow to a limit, differ from one another, and end when there is something to do."""

from __future__ import annotations

import asyncio
import sys

import pytest

from trackbook.adapters.execution.back_off import BackOff, wait
from trackbook.adapters.execution.tasks import until_done


def test_pauses_grow_to_the_longest() -> None:
    """Each pause is at most twice the one before it, at most the longest, and at most a quarter shorter."""
    back_off = BackOff(0.2, 1.0)

    taken = [back_off.take() for _ in range(5)]

    for pause, whole in zip(taken, (0.2, 0.4, 0.8, 1.0, 1.0), strict=True):
        assert 0.75 * whole <= pause <= whole
    assert back_off.is_longest


def test_so_many_tries_have_so_many_pauses() -> None:
    """The pauses of a fixed number of tries are as many, and the first is none with `at_once`."""
    first, *rest = BackOff(1.0, 5.0, 5.0, at_once=True).pauses(3)

    assert first == 0
    assert [0.75 * whole <= pause <= whole for pause, whole in zip(rest, (1, 5), strict=True)] == [True, True]


async def test_unforeseen_failures_are_logged_and_repeated() -> None:
    """Work that fails twice is repeated until it returns, and each failure is handed on once."""
    failures: list[str] = []
    outcomes = iter([KeyError("a"), OSError("b"), "done"])

    async def work() -> str:
        found = next(outcomes)
        if isinstance(found, Exception):
            raise found
        return str(found)

    def failed() -> None:
        failures.append(type(sys.exception()).__name__)

    assert await until_done(work, failed, 0.001) == "done"
    assert failures == ["KeyError", "OSError"]


def test_pauses_differ() -> None:
    """Two that begin at one moment do not try again at one moment."""
    assert len({BackOff(1.0, 1.0).take() for _ in range(20)}) > 1


def test_the_first_try_can_be_repeated_at_once() -> None:
    """With `at_once` the first pause is none, after a reset too."""
    back_off = BackOff(0.2, 1.0, at_once=True)

    assert back_off.take() == 0
    assert back_off.take() > 0
    back_off.reset()
    assert back_off.take() == 0


@pytest.mark.timeout(30)
async def test_an_event_ends_a_pause() -> None:
    """A pause of an hour ends when its event is set, and one with a limit at that limit."""
    wake = asyncio.Event()
    asyncio.get_running_loop().call_soon(wake.set)

    await BackOff(3600, 3600).pause(wake)
    await BackOff(3600, 3600).pause(at_most=0.01)

    assert wake.is_set()


@pytest.mark.timeout(30)
async def test_a_wait_says_whether_the_event_came() -> None:
    """A wait returns whether its event is set; without it, it ends with its time."""
    event = asyncio.Event()

    assert not await wait(event, 0.01)
    event.set()
    assert await wait(event, 3600)
