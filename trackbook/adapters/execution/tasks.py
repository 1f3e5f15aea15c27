"""Background tasks of an executor: kept until they end, so that none is lost or forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from trackbook.adapters.execution.back_off import BackOff

_T = TypeVar("_T")


async def until_done(work: Callable[[], Awaitable[_T]], failed: Callable[[], None], again: float) -> _T:
    """Return what `work` returns; if it fails in a way that nobody foresaw, repeat it after `again` seconds.

    `failed` is called in the handler of the exception, to log it with its traceback.
    """
    back_off = BackOff(again, again)
    while True:
        try:
            return await work()
        except Exception:
            failed()
        await back_off.pause()


def spawn(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Run the work as a task that stays in `among` until it ends."""
    task = asyncio.get_running_loop().create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)
    return task


async def cancel(tasks: Iterable[asyncio.Task[Any]], *, wait: float = 0) -> None:
    """Give tasks `wait` seconds to end, then cancel the rest and wait for them."""
    left = list(tasks)
    if left and wait:
        await asyncio.wait(left, timeout=wait)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
