"""What takes long for a large job is done in pieces or elsewhere: the event loop serves others meanwhile."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from histories.made import History
from histories.served import caught_up, projected
from office import opened
from progress import loop_turns

from trackbook.adapters.sql.ledger import Ledger
from trackbook.events.job import TaskShape
from trackbook.runtime import log_checks
from trackbook.runtime.aggregate_store import AggregateStore

TASKS = 8_000
SHARE = 1 / 8
"""Of a piece of work's CPU time, what the event loop may spend on it without a turn."""


async def held(work: Awaitable[Any]) -> float:
    """Return the longest CPU time for which the loop did not turn, as a share of all that the work took."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    gc.collect()
    gc.disable()  # a collection comes at any moment, in any thread
    began = time.process_time()
    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await work
    await loop_turns(2)  # the last stretch counts as well
    gc.enable()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return longest / (time.process_time() - began)


async def large_job(history: History) -> int:
    """Put a job of many tasks on the log, all launched; return its last version."""
    await history.start("large", "p1", [TaskShape(f"t{number}") for number in range(TASKS)])
    await history.launch_rest("large")
    return len(history.store.commits)


async def test_the_rows_of_a_large_job_hold_nobody_up(tmp_path: Path) -> None:
    """Projecting it, listing its tasks and going back in time leave the loop free."""
    history = History()
    version = await large_job(history)
    async with projected(history, tmp_path / "r.db") as read:
        shares = {
            "projection": await held(caught_up(read, history)),
            "tasks": await held(read.tasks("large", TASKS)),
            "time travel": await held(read.job_at("large", version)),
        }

    assert max(shares.values()) < SHARE, shares


async def test_the_tools_for_a_large_history_hold_nobody_up(tmp_path: Path) -> None:
    """Folding a large job and deciding it again leave the loop free."""
    history = History()
    version = await large_job(history)
    ledger = Ledger(tmp_path / "engine.db")
    aggregates = AggregateStore(history.store, history.blobs, ledger)

    shares = {
        "state": await held(log_checks.state_at(aggregates, "job", "large", version)),
        "replay": await held(log_checks.replay(aggregates, "job", "large")),
    }
    ledger.close()

    assert shares["replay"] < SHARE, shares
    assert shares["state"] < 4 * SHARE, shares  # folding is so quick that reading one commit counts


async def test_a_large_apply_holds_nobody_up(tmp_path: Path) -> None:
    """A document of a megabyte, many of its keys unknown, is applied while others are served."""
    office = await opened(tmp_path)
    unknown = ", ".join(f"strange_{number}: {number}" for number in range(10))
    tasks = [f"- {{name: t{number}, command: 'true', {unknown}}}" for number in range(6_000)]

    share = await held(office.must("pipeline.apply", yaml="\n".join(["name: large", "tasks:", *tasks])))
    await office.close()

    assert share < SHARE
