"""Background tasks of one owner: none is forgotten, and none dies in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

from trackbook.adapters.execution.back_off import BackOff

_AGAIN, _LONGEST = 0.2, 15.0  # seconds

log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class TaskSupervisor:
    """Keeps tasks until they end, and logs those that fail."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        """Run the work once."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Run the work until it returns; if it fails, log that and run it again after a pause."""
        return self.spawn(_until_returned(work, name), name)

    async def close(self, *, wait: float = 0) -> None:
        """Give the tasks `wait` seconds to end, then cancel the rest and wait for them."""
        if self._tasks and wait:
            await asyncio.wait(self._tasks, timeout=wait)
        left = tuple(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("task.failed", task=task.get_name(), exc_info=problem)


async def _until_returned(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    back_off = BackOff(_AGAIN, _LONGEST)
    while True:
        try:
            return await work()
        except Exception:
            log.exception("task.restarted", task=name)
        await back_off.pause()
