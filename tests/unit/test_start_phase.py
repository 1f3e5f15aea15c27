"""StartLimits of a start are named while they last, and bounded."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from trackbook.runtime.process.start_phase import StartLimits, StartTimedOut, phase


async def test_a_wait_that_lasts_is_named_again_and_again() -> None:
    """What is waited for is logged, and passed to `say`."""
    shown: list[str] = []
    enough = asyncio.Event()

    def show(what: str) -> None:
        shown.append(what)
        if len(shown) == 3:
            enough.set()

    with capture_logs() as logged:
        async with phase("the broker", limits=StartLimits(report_after=0.01, longest_pause=0.02, say=show)):
            await enough.wait()

    assert shown == ["the broker"] * 3
    assert [(line["event"], line["what"]) for line in logged] == [("start.waiting", "the broker")] * 3


async def test_a_short_wait_is_not_mentioned() -> None:
    """A wait that ends at once is not reported."""
    with capture_logs() as logged:
        async with phase("the broker", limits=StartLimits()):
            await asyncio.sleep(0)

    assert logged == []


async def test_a_wait_without_end_is_given_up() -> None:
    """The error says what was waited for and what to look at."""
    with pytest.raises(StartTimedOut, match=r"waited 0\.05 s for the broker") as found:
        async with phase("the broker", "See nats.log.", limits=StartLimits(within=0.05)):
            await asyncio.Event().wait()

    assert found.value.hint == "See nats.log."


async def test_the_bound_counts_from_the_last_progress() -> None:
    """What moves may last many times the bound; once it stands still it is given up."""
    read = 0
    limits = StartLimits(report_after=0.01, within=0.1)

    async def read_on() -> None:
        nonlocal read
        async with phase("the log to be read", limits=limits, progress=lambda: read):
            while read < 100:
                await asyncio.sleep(0.01)
                read += 1
            await asyncio.Event().wait()

    with capture_logs() as logged, pytest.raises(StartTimedOut):
        await read_on()

    assert read == 100
    assert any(line.get("at") for line in logged)


async def test_an_error_of_the_wait_itself_passes_through() -> None:
    """A time-out inside is not taken for that of the wait."""
    with pytest.raises(TimeoutError, match="of its own"):
        async with phase("the broker", limits=StartLimits()):
            raise TimeoutError("of its own")


async def test_a_start_that_is_cancelled_is_not_reported_any_more() -> None:
    """While what was started is being ended, nothing is waited for."""
    began, ended = asyncio.Event(), asyncio.Event()
    shown: list[str] = []

    async def wait() -> None:
        async with phase("the broker", limits=StartLimits(report_after=0.01, within=0.05, say=shown.append)):
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                shown.clear()
                await ended.wait()

    task = asyncio.create_task(wait())
    await began.wait()
    task.cancel()
    await asyncio.sleep(0.2)  # many times what a report or the bound takes
    ended.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert shown == []
