"""Pauses between tries grow to a limit, differ from one another, and end when there is something to do."""

from __future__ import annotations

import asyncio

import pytest

from trackbook.adapters.execution.back_off import BackOff, wait


def test_pauses_grow_to_the_longest() -> None:
    """Each pause is at most twice the one before it, at most the longest, and at most a quarter shorter."""
    back_off = BackOff(0.2, 1.0)

    taken = [back_off.take() for _ in range(5)]

    for pause, whole in zip(taken, (0.2, 0.4, 0.8, 1.0, 1.0), strict=True):
        assert 0.75 * whole <= pause <= whole
    assert back_off.is_longest


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
