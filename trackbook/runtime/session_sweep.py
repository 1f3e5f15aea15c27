"""Sweeps sessions that no job owns off the executors, in the background of a start."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import structlog

from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.engine.ports import UNKNOWN_JOB, Backend
from trackbook.runtime.executors.registry import Backends
from trackbook.runtime.jobs import Jobs

_SWEEP_AGAIN, _LONGEST_SWEEP_AGAIN = 15.0, 900.0  # seconds until an executor that was away is swept

log = structlog.get_logger(__name__)


async def sweep_all(running: Jobs, backends: Backends, stack: AsyncExitStack) -> None:
    """Sweep in the background: a cluster that can't be reached must not keep the system from starting."""
    tasks = TaskSupervisor()
    for backend in backends.values():
        tasks.keep(partial(_sweep, running, backend), f"sweep of {backend.name}")
    stack.push_async_callback(tasks.close)


async def _sweep(running: Jobs, backend: Backend) -> None:
    """End what an executor has of this installation and no job owns; again where it can't be asked just now."""
    wait = _SWEEP_AGAIN
    while True:
        try:
            swept = await backend.sweep(lambda: running.live(backend.name), end=True)
        except Exception as problem:
            log.warning("executor.not_swept", executor=backend.name, error=str(problem), again_in=wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_SWEEP_AGAIN)
        else:
            for found in swept:
                event = "session.of_unknown_job" if found.hint == UNKNOWN_JOB else "session.swept"
                log.warning(event, executor=backend.name, what=found.what, found=found.found)
            return
